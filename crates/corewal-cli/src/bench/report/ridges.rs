//! Distributions of latency: one row each, over one logarithmic axis.

#![expect(clippy::cast_possible_truncation, reason = "a latency has few powers of ten")]

use super::svg::{Anchor, Canvas, Scale, Shape, WIDTH, log_ticks};
use crate::bench::advice::micros;
use crate::bench::record::Row;

const LEFT: f64 = 235.0;
const RIGHT: f64 = WIDTH - 175.0;
const TOP: f64 = 30.0;
const ROW: f64 = 44.0;
/// Height of the highest place of a ridge.
const RIDGE: f64 = 30.0;
/// Bins of a power of ten.
const BINS: f64 = 20.0;

/// Draws the rows in their order.
pub(super) fn draw(title: &str, rows: &[(String, &Row)]) -> String {
    let bottom = TOP + ROW * rows.len() as f64;
    let mut canvas = Canvas::new(bottom + 48.0, title);
    let low = rows.iter().map(|(_, row)| row.quantile_us(0.001)).fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(|(_, row)| row.quantile_us(0.999)).fold(0.0, f64::max);
    let (low, high) = ((low * 0.85).max(0.1), (high * 1.2).max(1.0));
    let scale = Scale::log((low, high), (LEFT, RIGHT));
    for tick in log_ticks(low, high) {
        let x = scale.place(tick);
        canvas.line((x, TOP - 6.0), (x, bottom), "grid");
        canvas.text((x, bottom + 18.0), Anchor::Middle, "axis", micros(tick).replace(".0", ""));
    }
    canvas.text(
        (f64::midpoint(LEFT, RIGHT), bottom + 38.0),
        Anchor::Middle,
        "axis",
        "latency, logarithmic",
    );
    for (x, name) in [(RIGHT + 62.0, "p50"), (RIGHT + 118.0, "p99"), (RIGHT + 173.0, "p99.9")] {
        canvas.text((x, TOP - 12.0), Anchor::End, "axis", name);
    }
    for (index, (name, row)) in rows.iter().enumerate() {
        let base = TOP + ROW * (index as f64 + 1.0) - 6.0;
        draw_row(&mut canvas, &scale, base, name, row);
    }
    canvas.finish()
}

fn draw_row(canvas: &mut Canvas, scale: &Scale, base: f64, name: &str, row: &Row) {
    let method = &row.cell.method;
    canvas.text((LEFT - 12.0, base - 6.0), Anchor::End, "label", name);
    canvas.line((LEFT, base), (RIGHT, base), "base");
    let bins = bins(row);
    let most = bins.iter().map(|(.., part)| *part).fold(0.0, f64::max);
    if most > 0.0 {
        let mut places = Vec::new();
        for (from, to, part) in &bins {
            let y = base - part / most * RIDGE;
            let (left, right) = (scale.place(*from), scale.place(*to));
            if places.is_empty() {
                places.push((left, base));
            }
            places.extend([(left, y), (right, y)]);
        }
        places.push((places.last().map_or(LEFT, |it| it.0), base));
        canvas.path(&places, Shape::Area, &format!("area m-{method}"));
    }
    for (quantile, x, class) in [
        (0.5, RIGHT + 62.0, "mark"),
        (0.99, RIGHT + 118.0, "mark"),
        (0.999, RIGHT + 173.0, "mark thin"),
    ] {
        let value = row.quantile_us(quantile);
        let place = scale.place(value);
        canvas.line((place, base - RIDGE * 0.6), (place, base + 4.0), class);
        canvas.text((x, base - 6.0), Anchor::End, "value", micros(value));
    }
}

/// From, to, and part of all commits, on a logarithmic grid without holes.
fn bins(row: &Row) -> Vec<(f64, f64, f64)> {
    let bin = |us: f64| (us.max(1e-3).log10() * BINS).floor() as i32;
    let all: u64 = row.latency_us.iter().map(|(_, count)| count).sum();
    let (Some(first), Some(last)) = (row.latency_us.first(), row.latency_us.last()) else {
        return Vec::new();
    };
    let (first, last) = (bin(first.0), bin(last.0));
    let mut parts = vec![0.0; usize::try_from(last - first + 1).unwrap_or(1)];
    for (us, count) in &row.latency_us {
        let index = usize::try_from(bin(*us) - first).unwrap_or(0).min(parts.len() - 1);
        parts[index] += *count as f64 / all.max(1) as f64;
    }
    let edge = |index: usize| 10_f64.powf((f64::from(first) + index as f64) / BINS);
    parts.iter().enumerate().map(|(index, part)| (edge(index), edge(index + 1), *part)).collect()
}
