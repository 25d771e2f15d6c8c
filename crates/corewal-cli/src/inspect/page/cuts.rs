//! The shards' streams side by side, and the epochs as lines across them.

#![expect(clippy::cast_precision_loss, reason = "places in a picture")]

use std::collections::BTreeMap;
use std::fmt::Write;

use corewal::inspect::Survey;
use corewal::{Epoch, ShardId};

use super::Drawn;
use super::blocks::{Block, Class};

const WIDTH: f64 = 1000.0;
/// Where the rows begin, behind the shards' names.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const ROW: f64 = 26.0;
const STEP: f64 = 58.0;
const TOP: f64 = 30.0;
/// Epochs that get a line, besides the committed one.
const MOST_LINES: usize = 24;
/// What is narrower is drawn with its neighbours.
const NARROW: f64 = 1.2;

/// A shard's stream: what stands in it, and where it closed which epoch, in bytes from its beginning.
#[derive(Default)]
struct Row<'a> {
    blocks: Vec<(u64, &'a Block)>,
    len: u64,
    closes: BTreeMap<Epoch, u64>,
}

pub(super) fn draw_cuts(survey: &Survey, segments: &[Drawn<'_>]) -> String {
    let mut rows: BTreeMap<ShardId, Row<'_>> = BTreeMap::new();
    for (segment, blocks) in segments {
        let row = rows.entry(segment.shard).or_default();
        for block in blocks.iter().filter(|it| Class::IN_STREAM.contains(&it.class)) {
            row.blocks.push((row.len, block));
            row.len += block.len;
            if let Some(epoch) = block.closes {
                row.closes.insert(epoch, row.len);
            }
        }
    }
    let most = rows.values().map(|row| row.len).max().unwrap_or(0).max(1);
    let place = |at: u64| LEFT + at as f64 / most as f64 * (WIDTH - LEFT - RIGHT);
    let height = TOP + STEP * rows.len() as f64;
    let mut svg = format!(
        "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
         aria-label=\"The shards' streams with the epochs across them\">"
    );
    for (index, (shard, row)) in rows.iter().enumerate() {
        let top = TOP + STEP * index as f64;
        let middle = top + ROW / 2.0 + 4.5;
        push(
            &mut svg,
            format_args!("<text x=\"0\" y=\"{middle:.1}\" class=\"row\">shard {shard}</text>"),
        );
        let (x, width) = (LEFT, WIDTH - LEFT - RIGHT);
        push(
            &mut svg,
            format_args!(
                "<rect x=\"{x}\" y=\"{top:.1}\" width=\"{width}\" height=\"{ROW}\" class=\"track\"/>"
            ),
        );
        draw_row(&mut svg, row, top, &place);
    }
    let rows: Vec<&Row<'_>> = rows.values().collect();
    for epoch in chosen(&rows, survey.committed_epoch()) {
        draw_epoch(&mut svg, &rows, epoch, survey.committed_epoch(), &place);
    }
    svg.push_str("</svg></div>");
    svg
}

/// The blocks of a row; those too narrow to be seen are drawn as one, in the class that matters most.
fn draw_row(svg: &mut String, row: &Row<'_>, top: f64, place: &dyn Fn(u64) -> f64) {
    let mut index = 0;
    while index < row.blocks.len() {
        let (start, first) = row.blocks[index];
        let mut drawn = first.clone();
        let mut count = 1;
        while let Some((_, next)) = row.blocks.get(index + count)
            && place(start + drawn.len) - place(start) < NARROW + 1.0
        {
            let class = if rank(next.class) > rank(drawn.class) { next.class } else { drawn.class };
            drawn.merge(next);
            drawn.class = class;
            count += 1;
        }
        index += count;
        let (x, end) = (place(start), place(start + drawn.len));
        let gap = if end - x > 4.0 { 0.8 } else { 0.0 };
        let width = (end - x - gap).max(0.6);
        let (class, tip) = (drawn.class.name(), crate::bench::escape(&drawn.tip(count)));
        push(
            svg,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{ROW}\" class=\"{class}\">\
                 <title>{tip}</title></rect>"
            ),
        );
    }
}

fn rank(class: Class) -> u8 {
    match class {
        Class::Damaged => 4,
        Class::Torn => 3,
        Class::Void => 2,
        Class::Intact => 1,
        _ => 0,
    }
}

/// The epochs that get a line: evenly chosen, and always the committed one.
fn chosen(rows: &[&Row<'_>], committed: Epoch) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = rows.iter().flat_map(|row| row.closes.keys().copied()).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let step = epochs.len().div_ceil(MOST_LINES).max(1);
    let mut chosen: Vec<Epoch> = epochs.iter().copied().step_by(step).collect();
    if epochs.contains(&committed) && !chosen.contains(&committed) {
        chosen.retain(|epoch| committed.0.abs_diff(epoch.0) > step as u64 / 2);
        chosen.push(committed);
    }
    chosen.sort_unstable();
    chosen
}

fn draw_epoch(
    svg: &mut String,
    rows: &[&Row<'_>],
    epoch: Epoch,
    committed: Epoch,
    place: &dyn Fn(u64) -> f64,
) {
    let mut path = String::new();
    let mut label = None;
    let mut is_joined = false;
    for (index, row) in rows.iter().enumerate() {
        // A shard without a barrier of it, retired or damaged there, has no part in the line.
        let Some(&at) = row.closes.get(&epoch) else {
            is_joined = false;
            continue;
        };
        let (x, top) = (place(at), TOP + STEP * index as f64 - 5.0);
        let bottom = top + ROW + 10.0;
        let letter = if is_joined { 'L' } else { 'M' };
        is_joined = true;
        push(&mut path, format_args!("{letter}{x:.1} {top:.1}V{bottom:.1}"));
        label.get_or_insert((x, top));
    }
    let Some((x, top)) = label else { return };
    let class = if epoch == committed { "epoch committed" } else { "epoch" };
    push(
        svg,
        format_args!(
            "<path d=\"{path}\" class=\"{class}\"><title>epoch {epoch}</title></path>\
             <text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" class=\"{class}\">{epoch}</text>",
            y = top - 6.0
        ),
    );
}

/// Writes to a string, which cannot fail.
fn push(text: &mut String, element: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(element);
    debug_assert!(written.is_ok());
}
