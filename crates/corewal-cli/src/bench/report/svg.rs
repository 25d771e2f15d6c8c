//! Drawing: a canvas of SVG elements, and scales from values to places.

#![expect(clippy::cast_possible_truncation, reason = "places and ticks are far below the limits")]

use std::fmt::{Display, Write};

use crate::bench::record::Estimate;

/// Width of every picture's coordinates.
pub(super) const WIDTH: f64 = 860.0;

/// An SVG in the making. Colours are classes; the style sheet knows them.
#[derive(Debug)]
pub(super) struct Canvas {
    height: f64,
    title: String,
    body: String,
}

/// How a text stands to its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    /// `title` is what a screen reader says.
    pub(super) fn new(height: f64, title: &str) -> Self {
        Self { height, title: title.to_owned(), body: String::new() }
    }

    /// Writes to a string, which cannot fail.
    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        let written = self.body.write_fmt(element);
        debug_assert!(written.is_ok());
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ));
    }

    pub(super) fn text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, text: impl Display) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let ((x, y), text) = (at, escape(&text.to_string()));
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        ));
    }

    /// Text that reads upwards.
    pub(super) fn upward(&mut self, at: (f64, f64), text: &str) {
        let ((x, y), text) = (at, escape(text));
        self.push(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\" \
             class=\"axis\">{text}</text>"
        ));
    }

    pub(super) fn rect(&mut self, at: (f64, f64), size: (f64, f64), class: &str, tip: &str) {
        let ((x, y), (width, height), tip) = (at, size, escape(tip));
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" \
             class=\"{class}\"><title>{tip}</title></rect>"
        ));
    }

    pub(super) fn circle(&mut self, at: (f64, f64), radius: f64, class: &str, tip: &str) {
        let ((x, y), tip) = (at, escape(tip));
        self.push(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" class=\"{class}\"><title>{tip}</title></circle>"
        ));
    }

    /// Points in one element: many of them stay small. The class gives their size as that of a stroke.
    pub(super) fn points(&mut self, places: &[(f64, f64)], class: &str) {
        let data: String = places.iter().map(|(x, y)| format!("M{x:.1} {y:.1}h0")).collect();
        self.push(format_args!("<path d=\"{data}\" class=\"{class}\"/>"));
    }

    /// A line through places, or with `closed` an area.
    pub(super) fn path(&mut self, places: &[(f64, f64)], shape: Shape, class: &str) {
        let mut data = String::new();
        for (index, (x, y)) in places.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let written = write!(data, "{letter}{x:.1} {y:.1}");
            debug_assert!(written.is_ok());
        }
        if matches!(shape, Shape::Area) {
            data.push('Z');
        }
        self.push(format_args!("<path d=\"{data}\" class=\"{class}\"/>"));
    }

    /// The element, to stand in a page.
    pub(super) fn finish(self) -> String {
        let Self { height, title, body } = self;
        let title = escape(&title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
             aria-label=\"{title}\">{body}</svg>"
        )
    }
}

/// What a path is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Line,
    Area,
}

/// From values to places on an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    log: bool,
}

impl Scale {
    /// Equal steps for equal differences.
    pub(super) fn linear(from: (f64, f64), to: (f64, f64)) -> Self {
        Self { from, to, log: false }
    }

    /// Equal steps for equal ratios; values are above zero.
    pub(super) fn log(from: (f64, f64), to: (f64, f64)) -> Self {
        Self { from: (from.0.max(1e-9).ln(), from.1.max(1e-9).ln()), to, log: true }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-9).ln() } else { value };
        let width = self.from.1 - self.from.0;
        let part = if width == 0.0 { 0.5 } else { ((value - self.from.0) / width).clamp(0.0, 1.0) };
        self.to.0 + part * (self.to.1 - self.to.0)
    }
}

/// Where an axis of these values ends: an interval may be cut off, lest it presses all values together.
pub(super) fn most<'a>(values: impl Iterator<Item = &'a Estimate>) -> f64 {
    let (mut value, mut high) = (0.0_f64, 0.0_f64);
    for it in values {
        value = value.max(it.value);
        high = high.max(it.high.unwrap_or(it.value));
    }
    high.min(value * 1.4)
}

/// Round values from 0 to at least `most`, about five.
pub(super) fn linear_ticks(most: f64) -> Vec<f64> {
    let rough = (most / 4.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|it| it * power).find(|it| *it >= rough);
    let step = step.unwrap_or(rough);
    let count = (most / step).ceil().clamp(1.0, 10.0) as u32;
    (0..=count).map(|it| f64::from(it) * step).collect()
}

/// 1, 2 and 5 of every power of ten between two values; only the powers over many of them.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let steps: &[f64] = if decades > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let all = (first..=last).flat_map(|power| steps.iter().map(move |it| it * 10_f64.powi(power)));
    all.filter(|it| (low..=high).contains(it)).collect()
}

/// `950`, `12 k`, `1.5 M`
pub(super) fn short(value: f64) -> String {
    let trim = |value: f64| {
        let text = format!("{value:.1}");
        text.strip_suffix(".0").unwrap_or(&text).to_owned()
    };
    match value {
        it if it >= 1e6 => format!("{} M", trim(it / 1e6)),
        it if it >= 1e3 => format!("{} k", trim(it / 1e3)),
        it => trim(it),
    }
}

/// Text that may stand in XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover() {
        assert_eq!(linear_ticks(94_000.0), [0.0, 25_000.0, 50_000.0, 75_000.0, 100_000.0]);
        assert_eq!(log_ticks(8.0, 120.0), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(log_ticks(8.0, 90_000.0), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!([short(950.0), short(12_500.0), short(1e6)], ["950", "12.5 k", "1 M"]);
    }

    #[test]
    fn scales_stay_on_the_axis() {
        let scale = Scale::log((10.0, 1000.0), (0.0, 100.0));
        assert_eq!(
            [1.0, 10.0, 100.0, 1e9].map(|it| scale.place(it).round()),
            [0.0, 0.0, 50.0, 100.0]
        );
        let flat = Scale::linear((3.0, 3.0), (0.0, 10.0));
        assert_eq!(flat.place(3.0), 5.0);
    }

    #[test]
    fn nothing_breaks_out_of_a_text() {
        let mut canvas = Canvas::new(10.0, "a\"<b>");
        canvas.text((0.0, 0.0), Anchor::Start, "axis", "</text><script>");
        let svg = canvas.finish();
        assert!(!svg.contains("<script>") && svg.contains("a&quot;&lt;b&gt;"), "{svg}");
    }
}
