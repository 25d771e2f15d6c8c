//! Which pictures a run gives.

use super::bars::{self, Group};
use super::lines::{self, Axes, Series};
use super::{ridges, timeline};
use crate::bench::advice::knee;
use crate::bench::record::{Bench, Row, Spec, Summary};

/// A picture with its words.
pub(super) struct Figure {
    /// For the file and the anchor.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// How it is read.
    pub(super) words: &'static str,
    pub(super) svg: String,
}

/// Those that the run has numbers for.
pub(super) fn figures(bench: &Bench) -> Vec<Figure> {
    let all = [
        distributions(bench),
        depths(bench),
        states(bench),
        batches(bench),
        open_loop(bench),
        over_time(bench),
    ];
    all.into_iter().flatten().collect()
}

/// Files of their own: name, text.
pub(in crate::bench) fn svgs(bench: &Bench) -> Vec<(String, String)> {
    let style = format!(
        "<style>{}</style><rect width=\"100%\" height=\"100%\" class=\"paper\"/>",
        include_str!("colours.css")
    );
    let own = |figure: Figure| {
        let svg = figure.svg.replacen('>', &format!(">{style}"), 1);
        (format!("{}.svg", figure.name), svg)
    };
    figures(bench).into_iter().map(own).collect()
}

fn rows(bench: &Bench, fits: impl Fn(&Spec) -> bool) -> Vec<(&Row, &Summary)> {
    bench.measured().filter(|(row, _)| fits(&row.cell)).collect()
}

/// The way, and that it is not durable.
fn name(row: &Row) -> String {
    if row.durable { row.cell.way() } else { format!("{} *", row.cell.way()) }
}

fn class(cell: &Spec) -> String {
    let dashes = if cell.engine == "blocking" { " dashed" } else { "" };
    format!("m-{}{dashes}", cell.method)
}

fn by_latency<'a>(mut rows: Vec<(&'a Row, &'a Summary)>) -> Vec<(String, &'a Row)> {
    rows.sort_by(|a, b| a.0.quantile_us(0.5).total_cmp(&b.0.quantile_us(0.5)));
    rows.into_iter().map(|(row, _)| (name(row), row)).collect()
}

fn distributions(bench: &Bench) -> Option<Figure> {
    let rows = by_latency(rows(bench, |cell| bench.is_base(cell) && cell.depth == 1));
    let title = "Latency of one commit at a time";
    (rows.len() > 1).then(|| Figure {
        name: "latency",
        title,
        words: "A 4 KiB block, direct where that can be had, on a zero-filled file, each commit after the one before. The area is the \
                distribution of all rounds together, scaled to its own height; the strokes are p50, p99 and p99.9. \
                Fastest median first. * is not durable.",
        svg: ridges::draw(title, &rows),
    })
}

fn depths(bench: &Bench) -> Option<Figure> {
    let mut series: Vec<Series> = Vec::new();
    let fits = |cell: &Spec| {
        cell.is_plain()
            && cell.engine == "uring"
            && cell.state == "zero-filled"
            && cell.batch_bytes == 4096
    };
    for (row, summary) in rows(bench, fits) {
        let cell = &row.cell;
        let (mut name, mut class) = (name(row).replace("uring ", ""), class(cell));
        if cell.access == "buffered" {
            name += ", buffered";
            class += " dashed";
        }
        let point = (f64::from(cell.depth), summary.commits_per_s);
        match series.iter_mut().find(|it| it.name == name) {
            Some(line) => line.points.push(point),
            None => {
                let knee = knee(bench, cell).map(|it| f64::from(it.depth));
                series.push(Series { name, class, points: vec![point], knee });
            }
        }
    }
    series.retain(|it| it.points.len() > 1);
    series.iter_mut().for_each(|it| it.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    let title = "Throughput against depth";
    (!series.is_empty()).then(|| Figure {
        name: "depth",
        title,
        words: "4 KiB commits a second through io_uring with so many in flight on one file. The ring around a point is the \
                knee: the least depth that reaches nine tenths of the line's most. More depth than that costs latency and \
                gives little. Strokes through points are intervals of 95 %; dashed lines go through the page cache.",
        svg: lines::draw(
            title,
            &Axes { x: "commits in flight", y: "commits per second", name: |it| format!("{it:.0}") },
            &series,
        ),
    })
}

fn states(bench: &Bench) -> Option<Figure> {
    let mut groups: Vec<Group> = Vec::new();
    for access in ["direct", "buffered"] {
        for state in ["zero-filled", "allocated", "growing"] {
            let fits = |cell: &Spec| {
                cell.is_plain()
                    && cell.depth == 1
                    && cell.batch_bytes == 4096
                    && cell.method != "none"
                    && (cell.access.as_str(), cell.state.as_str()) == (access, state)
                    && ["dsync", "linked", "after-write", "fdatasync"]
                        .contains(&cell.method.as_str())
            };
            let mut bars: Vec<_> = rows(bench, fits);
            bars.sort_by(|a, b| b.1.commits_per_s.value.total_cmp(&a.1.commits_per_s.value));
            let bar = |(row, summary): (&Row, &Summary)| {
                (name(row), class(&row.cell), summary.commits_per_s)
            };
            let bars: Vec<_> = bars.into_iter().map(bar).collect();
            if !bars.is_empty() {
                groups.push(Group { name: format!("{access}, {state}"), bars });
            }
        }
    }
    let title = "What the file's state and the page cache cost";
    (groups.len() > 1).then(|| Figure {
        name: "state",
        title,
        words: "One 4 KiB commit at a time. Growing a file and writing allocated but unwritten space also commit metadata; \
                a zero-filled (or recycled) file does not. Strokes are intervals of 95 %.",
        svg: bars::draw(title, "commits per second", &groups),
    })
}

fn batches(bench: &Bench) -> Option<Figure> {
    let mut series: Vec<Series> = Vec::new();
    let fits = |cell: &Spec| {
        cell.is_plain()
            && cell.access == "direct"
            && cell.state == "zero-filled"
            && cell.method != "none"
    };
    for (row, summary) in rows(bench, fits) {
        let cell = &row.cell;
        let deep = if cell.depth > 1 { format!(", depth {}", cell.depth) } else { String::new() };
        let name = format!("{}{deep}", name(row));
        let point = (cell.batch_bytes as f64 / 1024.0, summary.mb_per_s);
        let class = if cell.depth > 1 {
            format!("m-{}", cell.method)
        } else {
            format!("m-{} dashed", cell.method)
        };
        match series.iter_mut().find(|it| it.name == name) {
            Some(line) => line.points.push(point),
            None => series.push(Series { name, class, points: vec![point], knee: None }),
        }
    }
    series.retain(|it| it.points.len() > 1);
    series.iter_mut().for_each(|it| it.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    let title = "Bandwidth against the size of a batch";
    (!series.is_empty()).then(|| Figure {
        name: "batch",
        title,
        words: "Durable megabytes (1,000,000 bytes) a second, direct, zero-filled. Dashed lines have one batch in flight.",
        svg: lines::draw(
            title,
            &Axes { x: "size of a batch", y: "MB per second", name: |it| format!("{it:.0} KiB") },
            &series,
        ),
    })
}

fn open_loop(bench: &Bench) -> Option<Figure> {
    let mut found = rows(bench, |cell| cell.rate.is_some() && cell.shards == 1);
    found.sort_by_key(|(row, _)| {
        (row.cell.rate, row.cell.method.clone(), row.cell.engine.clone(), row.cell.depth)
    });
    let label = |row: &Row| {
        let rate = row.cell.rate.unwrap_or(0);
        let behind = row.notes.iter().any(|it| it.contains("rate was not kept"));
        format!(
            "{}/s {}, depth {}{}",
            rate,
            name(row),
            row.cell.depth,
            if behind { " !" } else { "" }
        )
    };
    let rows: Vec<_> = found.into_iter().map(|(row, _)| (label(row), row)).collect();
    let title = "Latency at a given rate";
    (!rows.is_empty()).then(|| Figure {
        name: "rate",
        title,
        words: "An open loop: commits begin by the clock, whether the disk keeps up or not, and latency counts from the \
                moment at which a commit should have begun. ! marks a rate that was not kept: its latencies only grow.",
        svg: ridges::draw(title, &rows),
    })
}

fn over_time(bench: &Bench) -> Option<Figure> {
    let rows = by_latency(rows(bench, |cell| bench.is_base(cell) && cell.depth == 1));
    let title = "Latency over the time of the run";
    (rows.len() > 1).then(|| Figure {
        name: "time",
        title,
        words: "The same commits as in the first picture, in slices of 20 ms: large points are means, small ones the \
                longest commit of the slice. Rounds of all cells take turns; a drift that meets all rows is the machine's.",
        svg: timeline::draw(title, &rows),
    })
}
