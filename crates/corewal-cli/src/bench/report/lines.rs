//! Values against an ordered dimension: lines with intervals, and marked places.

use super::svg::{self, Anchor, Canvas, Scale, Shape, WIDTH, linear_ticks, short};
use crate::bench::record::Estimate;

const LEFT: f64 = 78.0;
const RIGHT: f64 = WIDTH - 150.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 330.0;
/// Names at the ends of lines stand at least so far apart.
const APART: f64 = 16.0;

/// One line.
pub(super) struct Series {
    pub(super) name: String,
    /// The class of its colour, and of its dashes.
    pub(super) class: String,
    /// By rising x.
    pub(super) points: Vec<(f64, Estimate)>,
    /// A place on it worth naming.
    pub(super) knee: Option<f64>,
}

/// What stands at the axes.
pub(super) struct Axes<'a> {
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) name: fn(f64) -> String,
}

/// Draws the lines; the x axis has equal steps for equal ratios.
pub(super) fn draw(title: &str, axes: &Axes<'_>, series: &[Series]) -> String {
    let mut canvas = Canvas::new(BOTTOM + 52.0, title);
    let points = || series.iter().flat_map(|it| &it.points);
    let most = svg::most(points().map(|(_, it)| it));
    let ticks = linear_ticks(most);
    let top = ticks.last().copied().unwrap_or(1.0);
    let y = Scale::linear((0.0, top), (BOTTOM, TOP));
    let mut xs: Vec<f64> = points().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let ends = (xs.first().copied().unwrap_or(1.0), xs.last().copied().unwrap_or(1.0));
    let x = Scale::log(ends, (LEFT + 14.0, RIGHT - 14.0));
    for tick in ticks {
        canvas.line((LEFT, y.place(tick)), (RIGHT, y.place(tick)), "grid");
        canvas.text((LEFT - 8.0, y.place(tick) + 4.0), Anchor::End, "axis", short(tick));
    }
    for tick in xs {
        canvas.line((x.place(tick), BOTTOM), (x.place(tick), BOTTOM + 4.0), "base");
        canvas.text((x.place(tick), BOTTOM + 20.0), Anchor::Middle, "axis", (axes.name)(tick));
    }
    canvas.line((LEFT, BOTTOM), (RIGHT, BOTTOM), "base");
    canvas.text((f64::midpoint(LEFT, RIGHT), BOTTOM + 42.0), Anchor::Middle, "axis", axes.x);
    canvas.upward((16.0, f64::midpoint(TOP, BOTTOM)), axes.y);
    for (index, line) in series.iter().enumerate() {
        // Intervals at one place stand beside each other.
        let aside = (index as f64 - (series.len() as f64 - 1.0) / 2.0) * 3.0;
        draw_line(&mut canvas, (&x, &y), line, axes, aside);
    }
    name_ends(&mut canvas, &y, series);
    canvas.finish()
}

fn draw_line(
    canvas: &mut Canvas,
    (x, y): (&Scale, &Scale),
    line: &Series,
    axes: &Axes<'_>,
    aside: f64,
) {
    let place = |(at, it): &(f64, Estimate)| (x.place(*at), y.place(it.value));
    let places: Vec<_> = line.points.iter().map(place).collect();
    canvas.path(&places, Shape::Line, &format!("line {}", line.class));
    for ((at, it), place) in line.points.iter().zip(&places) {
        let mut tip = format!("{}, {}: {}", line.name, (axes.name)(*at), short(it.value));
        if let Some((low, high)) = it.low.zip(it.high) {
            let class = format!("whisker {}", line.class);
            let at = place.0 + aside;
            canvas.line((at, y.place(low)), (at, y.place(high)), &class);
            tip += &format!(" ({} to {})", short(low), short(high));
        }
        canvas.circle(*place, 3.0, &format!("dot {}", line.class), &tip);
        if line.knee == Some(*at) {
            let tip = format!("knee of {}: nine tenths of its most", line.name);
            canvas.circle(*place, 7.0, &format!("ring {}", line.class), &tip);
        }
    }
}

/// Names stand beside the ends of their lines, moved apart where lines end together.
fn name_ends(canvas: &mut Canvas, y: &Scale, series: &[Series]) {
    let ends = series.iter().filter_map(|line| Some((line, y.place(line.points.last()?.1.value))));
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let highest = BOTTOM - APART * (ends.len() as f64 - 1.0);
    let mut least = f64::NEG_INFINITY;
    for (index, (line, at)) in ends.iter().enumerate() {
        let place = at.max(least).min(highest + APART * index as f64);
        least = place + APART;
        canvas.circle((RIGHT + 8.0, place), 4.0, &format!("dot {}", line.class), &line.name);
        canvas.text((RIGHT + 18.0, place + 4.0), Anchor::Start, "label", &line.name);
    }
}
