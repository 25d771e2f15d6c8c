//! Latency over the time of the run: a strip for each row, on one scale.

use super::svg::{Anchor, Canvas, Scale, Shape, WIDTH, log_ticks};
use crate::bench::advice::micros;
use crate::bench::record::Row;

const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - 64.0;
const TOP: f64 = 12.0;
const STRIP: f64 = 62.0;
const GAP: f64 = 12.0;

/// Draws the rows in their order.
pub(super) fn draw(title: &str, rows: &[(String, &Row)]) -> String {
    let bottom = TOP + (STRIP + GAP) * rows.len() as f64;
    let mut canvas = Canvas::new(bottom + 48.0, title);
    let slices = || rows.iter().flat_map(|(_, row)| row.rounds.iter().flat_map(|it| &it.slices));
    let low = slices().map(|(_, mean, _)| *mean).fold(f64::INFINITY, f64::min).max(0.1) * 0.8;
    let high = slices().map(|(.., max)| *max).fold(1.0, f64::max) * 1.2;
    let end = slices().map(|(at, ..)| *at).fold(0.1, f64::max);
    let x = Scale::linear((0.0, end), (LEFT, RIGHT));
    for (index, (name, row)) in rows.iter().enumerate() {
        let top = TOP + (STRIP + GAP) * index as f64;
        let y = Scale::log((low, high), (top + STRIP, top));
        canvas.rect((LEFT, top), (RIGHT - LEFT, STRIP), "strip", name);
        canvas.text((LEFT - 12.0, top + STRIP / 2.0 + 4.0), Anchor::End, "label", name);
        for tick in sparse(log_ticks(low, high)) {
            canvas.line((LEFT, y.place(tick)), (RIGHT, y.place(tick)), "grid");
            canvas.text(
                (RIGHT + 6.0, y.place(tick) + 4.0),
                Anchor::Start,
                "axis",
                micros(tick).replace(".0", ""),
            );
        }
        draw_row(&mut canvas, &x, &y, row);
    }
    for part in 0..=6 {
        let at = end * f64::from(part) / 6.0;
        let text = if end < 12.0 { format!("{at:.1} s") } else { format!("{at:.0} s") };
        canvas.text((x.place(at), bottom + 12.0), Anchor::Middle, "axis", text);
    }
    canvas.text(
        (f64::midpoint(LEFT, RIGHT), bottom + 34.0),
        Anchor::Middle,
        "axis",
        "time of the run",
    );
    canvas.finish()
}

/// A strip is low: at most three of the powers of ten.
fn sparse(ticks: Vec<f64>) -> Vec<f64> {
    let powers: Vec<f64> =
        ticks.iter().copied().filter(|it| (it.log10() - it.log10().round()).abs() < 1e-6).collect();
    let ticks = if powers.len() >= 2 { powers } else { ticks };
    let step = ticks.len().div_ceil(3).max(1);
    ticks.into_iter().step_by(step).collect()
}

fn draw_row(canvas: &mut Canvas, x: &Scale, y: &Scale, row: &Row) {
    let method = &row.cell.method;
    for round in &row.rounds {
        let means: Vec<_> =
            round.slices.iter().map(|(at, mean, _)| (x.place(*at), y.place(*mean))).collect();
        if means.len() > 1 {
            canvas.path(&means, Shape::Line, &format!("line m-{method}"));
        }
        let longest = round.slices.iter().map(|(at, _, max)| (x.place(*at), y.place(*max)));
        canvas.points(&longest.collect::<Vec<_>>(), &format!("points small m-{method}"));
        canvas.points(&means, &format!("points m-{method}"));
    }
}
