//! A picture of the run: events and commits over time, with kills, recoveries and checkpoints.

use std::fmt::Write;
use std::time::Duration;

use super::history::History;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
/// Room for the axes: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (80.0, 40.0, 70.0, 50.0);

/// The scales of the picture.
struct Scales {
    seconds: f64,
    events: f64,
    epochs: f64,
}

impl Scales {
    fn x(&self, at: Duration) -> f64 {
        MARGIN.0 + at.as_secs_f64() / self.seconds * (WIDTH - MARGIN.0 - MARGIN.2)
    }

    fn y(part: f64) -> f64 {
        HEIGHT - MARGIN.3 - part * (HEIGHT - MARGIN.1 - MARGIN.3)
    }
}

/// The picture as an SVG document.
pub(crate) fn svg(history: &History, title: &str) -> String {
    let last = |points: &[(Duration, u64)]| points.iter().map(|point| point.1).max().unwrap_or(0);
    let end = history.events.last().map_or(Duration::ZERO, |(at, _)| *at);
    let scales = Scales {
        seconds: end.as_secs_f64().max(0.001),
        events: last(&history.events).max(1) as f64,
        epochs: last(&history.commits).max(1) as f64,
    };
    let mut svg = String::new();
    head(&mut svg, title);
    let (top, bottom) = (Scales::y(1.0), Scales::y(0.0));
    for (from, to) in &history.recoveries {
        let (from, to) = (scales.x(*from), scales.x(*to));
        let width = (to - from).max(1.0);
        let height = bottom - top;
        put(
            &mut svg,
            format_args!(
                r#"<rect class="recovery" x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"/>"#
            ),
        );
    }
    for at in &history.checkpoints {
        let x = scales.x(*at);
        put(&mut svg, format_args!(r#"<path class="checkpoint" d="M{x:.1} {bottom:.1}v-10"/>"#));
    }
    line(&mut svg, "commits", &history.commits, &scales, scales.epochs);
    line(&mut svg, "events", &history.events, &scales, scales.events);
    for (at, met) in &history.kills {
        let x = scales.x(*at);
        put(
            &mut svg,
            format_args!(
                r#"<path class="kill" d="M{x:.1} {top:.1}V{bottom:.1}"><title>killed {}</title></path>"#,
                met.text()
            ),
        );
    }
    axes(&mut svg, &scales);
    svg.push_str("</svg>\n");
    svg
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("memory takes it");
}

fn head(svg: &mut String, title: &str) {
    put(
        svg,
        format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">
<style>
.events {{ fill: none; stroke: #1f77b4; stroke-width: 2 }}
.commits {{ fill: none; stroke: #2ca02c; stroke-width: 1.5 }}
.kill {{ stroke: #d62728; stroke-width: 1.5; stroke-dasharray: 4 2 }}
.recovery {{ fill: #ff7f0e; opacity: 0.35 }}
.checkpoint {{ stroke: #9467bd; stroke-width: 1.5 }}
.axis {{ fill: none; stroke: #444 }}
</style>
<rect width="100%" height="100%" fill="white"/>
<text x="{}" y="24" font-size="16">{title}</text>"#,
            MARGIN.0
        ),
    );
}

fn line(svg: &mut String, class: &str, points: &[(Duration, u64)], scales: &Scales, most: f64) {
    let mut path = String::new();
    for (at, value) in points {
        let (x, y) = (scales.x(*at), Scales::y(*value as f64 / most));
        write!(path, "{x:.1},{y:.1} ").expect("memory takes it");
    }
    put(svg, format_args!(r#"<polyline class="{class}" points="{}"/>"#, path.trim_end()));
}

fn axes(svg: &mut String, scales: &Scales) {
    let (left, right) = (MARGIN.0, WIDTH - MARGIN.2);
    let (top, bottom) = (Scales::y(1.0), Scales::y(0.0));
    put(svg, format_args!(r#"<path class="axis" d="M{left} {top}V{bottom}H{right}V{top}"/>"#));
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let y = Scales::y(part) + 4.0;
        let x = left + part * (right - left);
        let (events, epochs) = (scales.events * part, scales.epochs * part);
        let seconds = scales.seconds * part;
        put(
            svg,
            format_args!(
                r##"<text x="{:.1}" y="{y:.1}" text-anchor="end" fill="#1f77b4">{events:.0}</text>
<text x="{:.1}" y="{y:.1}" fill="#2ca02c">{epochs:.0}</text>
<text x="{x:.1}" y="{:.1}" text-anchor="middle">{seconds:.1} s</text>"##,
                left - 6.0,
                right + 6.0,
                bottom + 18.0
            ),
        );
    }
    put(
        svg,
        format_args!(
            r##"<text x="{left}" y="{:.1}"><tspan fill="#1f77b4">events read</tspan>
<tspan fill="#2ca02c" dx="12">epochs committed</tspan> <tspan fill="#9467bd" dx="12">checkpoints</tspan>
<tspan fill="#d62728" dx="12">kills</tspan> <tspan fill="#ff7f0e" dx="12">recoveries</tspan></text>"##,
            bottom + 38.0
        ),
    );
}
