//! Values of groups side by side, with their intervals.

use super::svg::{self, Anchor, Canvas, Scale, WIDTH, linear_ticks, short};
use crate::bench::record::Estimate;

const LEFT: f64 = 290.0;
const RIGHT: f64 = WIDTH - 70.0;
const TOP: f64 = 10.0;
const BAR: f64 = 15.0;
const GAP: f64 = 14.0;

/// Some bars under one name.
pub(super) struct Group {
    pub(super) name: String,
    /// Name, class of the colour, value.
    pub(super) bars: Vec<(String, String, Estimate)>,
}

/// Draws the groups below each other.
pub(super) fn draw(title: &str, unit: &str, groups: &[Group]) -> String {
    let count: usize = groups.iter().map(|it| it.bars.len()).sum();
    let bottom = TOP + BAR * count as f64 + GAP * groups.len() as f64;
    let mut canvas = Canvas::new(bottom + 46.0, title);
    let values = groups.iter().flat_map(|it| &it.bars);
    let most = svg::most(values.map(|(.., it)| it));
    let ticks = linear_ticks(most);
    let scale = Scale::linear((0.0, ticks.last().copied().unwrap_or(1.0)), (LEFT, RIGHT));
    for tick in ticks {
        canvas.line((scale.place(tick), TOP), (scale.place(tick), bottom), "grid");
        canvas.text((scale.place(tick), bottom + 18.0), Anchor::Middle, "axis", short(tick));
    }
    canvas.text((f64::midpoint(LEFT, RIGHT), bottom + 38.0), Anchor::Middle, "axis", unit);
    let mut y = TOP + GAP / 2.0;
    for group in groups {
        let middle = y + BAR * group.bars.len() as f64 / 2.0;
        canvas.text((8.0, middle + 4.0), Anchor::Start, "label strong", &group.name);
        for (name, class, it) in &group.bars {
            draw_bar(&mut canvas, &scale, y, (name, class), it);
            y += BAR;
        }
        y += GAP;
    }
    canvas.finish()
}

fn draw_bar(
    canvas: &mut Canvas,
    scale: &Scale,
    y: f64,
    (name, class): (&str, &str),
    it: &Estimate,
) {
    canvas.text((LEFT - 10.0, y + BAR - 4.0), Anchor::End, "label", name);
    let end = scale.place(it.value);
    let tip = format!("{name}: {}", short(it.value));
    canvas.rect((LEFT, y + 1.5), (end - LEFT, BAR - 3.0), &format!("bar {class}"), &tip);
    let mut text_at = end;
    if let Some((low, high)) = it.low.zip(it.high) {
        let middle = y + BAR / 2.0;
        text_at = scale.place(high);
        canvas.line((scale.place(low), middle), (text_at, middle), "whisker");
    }
    canvas.text((text_at + 6.0, y + BAR - 4.0), Anchor::Start, "value", short(it.value));
}
