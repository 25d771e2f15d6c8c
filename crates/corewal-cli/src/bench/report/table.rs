//! The table: on the terminal, and as comma-separated values.

use std::io::{self, Write};
use std::path::Path;

use crate::bench::advice::{advise, micros};
use crate::bench::order::{order, times};
use crate::bench::record::{Bench, Row, Summary};
use crate::style;

/// All columns, with units.
const COLUMNS: [&str; 27] = [
    "engine",
    "method",
    "access",
    "state",
    "depth",
    "batch_bytes",
    "shards",
    "rate_per_s",
    "durable",
    "rounds",
    "commits_per_s",
    "commits_per_s_low",
    "commits_per_s_high",
    "mb_per_s",
    "p50_us",
    "p50_us_low",
    "p50_us_high",
    "p99_us",
    "p999_us",
    "max_us",
    "calls_per_commit",
    "flushes_per_commit",
    "device_bytes_per_commit",
    "cpu_us_per_commit",
    "punts_per_commit",
    "skipped",
    "notes",
];

/// Writes all rows, skipped ones too.
pub(in crate::bench) fn csv(bench: &Bench, path: &Path) -> io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(COLUMNS)?;
    for row in &bench.cells {
        writer.write_record(values(row))?;
    }
    writer.flush()
}

fn values(row: &Row) -> [String; COLUMNS.len()] {
    let cell = &row.cell;
    let number = |it: Option<f64>| it.map(|it| format!("{it:.3}")).unwrap_or_default();
    let of = |value: fn(&Summary) -> Option<f64>| number(row.summary.as_ref().and_then(value));
    [
        cell.engine.clone(),
        cell.method.clone(),
        cell.access.clone(),
        cell.state.clone(),
        cell.depth.to_string(),
        cell.batch_bytes.to_string(),
        cell.shards.to_string(),
        cell.rate.map(|it| it.to_string()).unwrap_or_default(),
        row.durable.to_string(),
        row.rounds.len().to_string(),
        of(|it| Some(it.commits_per_s.value)),
        of(|it| it.commits_per_s.low),
        of(|it| it.commits_per_s.high),
        of(|it| Some(it.mb_per_s.value)),
        of(|it| Some(it.p50_us.value)),
        of(|it| it.p50_us.low),
        of(|it| it.p50_us.high),
        of(|it| Some(it.p99_us.value)),
        of(|it| Some(it.p999_us)),
        of(|it| Some(it.max_us)),
        of(|it| Some(it.calls)),
        of(|it| it.flushes),
        of(|it| it.device_bytes),
        of(|it| it.cpu_us),
        of(|it| it.punts),
        row.skipped.clone().unwrap_or_default(),
        row.notes.join("; "),
    ]
}

/// The columns of tables for people: name, and whether it is a number.
pub(super) const SHORT: [(&str, bool); 15] = [
    ("engine", false),
    ("method", false),
    ("access", false),
    ("state", false),
    ("depth", true),
    ("KiB", true),
    ("shards", true),
    ("rate", true),
    ("commits/s", true),
    ("95 % interval", true),
    ("MB/s", true),
    ("p50", true),
    ("p99", true),
    ("p99.9", true),
    ("max", true),
];
/// What a commit costs.
pub(super) const COSTS: [(&str, bool); 4] =
    [("calls", true), ("flushes", true), ("CPU us", true), ("punts", true)];

pub(super) fn short_values(row: &Row, it: &Summary) -> Vec<String> {
    let cell = &row.cell;
    let interval = it.commits_per_s.low.zip(it.commits_per_s.high);
    let optional = |it: Option<f64>| it.map_or_else(|| "-".into(), |it| format!("{it:.2}"));
    let [engine, method, access, state] =
        [&cell.engine, &cell.method, &cell.access, &cell.state].map(Clone::clone);
    vec![
        engine,
        method,
        access,
        state,
        cell.depth.to_string(),
        (cell.batch_bytes / 1024).to_string(),
        cell.shards.to_string(),
        cell.rate.map_or_else(|| "-".into(), |it| it.to_string()),
        format!("{:.0}", it.commits_per_s.value),
        interval.map_or_else(|| "-".into(), |(low, high)| format!("{low:.0} to {high:.0}")),
        format!("{:.1}", it.mb_per_s.value),
        micros(it.p50_us.value),
        micros(it.p99_us.value),
        micros(it.p999_us),
        micros(it.max_us),
        format!("{:.2}", it.calls),
        optional(it.flushes),
        optional(it.cpu_us),
        optional(it.punts),
    ]
}

/// Machine, table and advice.
pub(in crate::bench) fn text(out: &mut impl Write, bench: &Bench) -> io::Result<()> {
    let (strong, dim, note) = (style::STRONG, style::DIM, style::NOTE);
    for (name, value) in bench.machine.rows() {
        writeln!(out, "{name:14}  {value}")?;
    }
    writeln!(out)?;
    let columns: Vec<_> = SHORT.into_iter().chain(COSTS).collect();
    let rows: Vec<_> = bench.measured().map(|(row, it)| (row, short_values(row, it))).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, (name, _))| {
            rows.iter().map(|(_, it)| it[index].len()).chain([name.len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |values: &[&str]| -> String {
        let pad = |((value, width), (_, right)): ((&&str, &usize), &(&str, bool))| match right {
            true => format!("{value:>width$}"),
            false => format!("{value:width$}"),
        };
        values.iter().zip(&widths).zip(&columns).map(pad).collect::<Vec<_>>().join("  ")
    };
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    writeln!(out, "{strong}{}{strong:#}", line(&names))?;
    for (row, values) in &rows {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let style = if row.durable { style::PLAIN } else { dim };
        write!(out, "{style}{}{style:#}", line(&values))?;
        match row.notes.as_slice() {
            [] => writeln!(out)?,
            notes => writeln!(out, "  {note}{}{note:#}", notes.join("; "))?,
        }
    }
    for row in bench.cells.iter().filter(|it| it.skipped.is_some()) {
        let why = row.skipped.as_deref().unwrap_or_default();
        writeln!(
            out,
            "{note}skipped{note:#} {}, {}, depth {}: {why}",
            row.cell.way(),
            row.cell.access,
            row.cell.depth
        )?;
    }
    writeln!(out)?;
    for it in &bench.notes {
        writeln!(out, "{note}note{note:#} {it}")?;
    }
    let contests = order(bench);
    if !contests.is_empty() {
        writeln!(
            out,
            "{strong}In which order?{strong:#} Commits of the second for one of the first, in the same rounds:"
        )?;
    }
    let width = contests.iter().map(|it| it.pair.len()).max().unwrap_or(0);
    for it in contests {
        let (pair, ratio) = (it.pair, times(&it.ratio));
        writeln!(out, "    {pair:width$}  {ratio:22}  {}", it.answer)?;
    }
    for advice in advise(bench) {
        writeln!(out, "{strong}{}{strong:#} {}", advice.question, advice.answer)?;
        if let Some(settings) = advice.settings {
            writeln!(out, "    corewal append {settings} ...")?;
        }
    }
    Ok(())
}
