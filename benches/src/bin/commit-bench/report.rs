//! Tables of a run, as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use corewal_benches::Anything;
use corewal_benches::cell::Figure;
use corewal_probe::Median;

use crate::judge::median;
use crate::run::{GroupRun, Kind, Run, WayRun};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Puts `text` in place of what stands between the marker lines.
pub(crate) fn replace_between_markers(file: &str, text: &str) -> Result<String, Anything> {
    let missing = || format!("there is no line {BEGIN} followed by a line {END}");
    let (before, rest) = file.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

/// All tables.
pub(crate) fn markdown(run: &Run, criterion: Option<&Path>) -> Result<String, Anything> {
    let mut text = String::new();
    head(&mut text, run)?;
    goals(&mut text, run)?;
    for group in &run.groups {
        table(&mut text, group)?;
    }
    if let Some(dir) = criterion {
        micro(&mut text, dir)?;
    }
    Ok(text)
}

fn head(text: &mut String, run: &Run) -> Result<(), Anything> {
    let least = run.loads.iter().copied().fold(f64::INFINITY, f64::min);
    let most = run.loads.iter().copied().fold(0.0, f64::max);
    let minutes = (run.ended_s - run.began_s) as f64 / 60.0;
    writeln!(text, "```console\n$ {}\n```\n", run.command)?;
    writeln!(text, "| machine | |\n|---|---|")?;
    for (name, value) in run.machine.lines() {
        writeln!(text, "| {name} | {value} |")?;
    }
    writeln!(text, "| load (1 minute) | {least:.1} to {most:.1} |")?;
    writeln!(text, "| preset | {}, {} rounds, {minutes:.0} minutes |", run.preset, run.rounds)?;
    let busy = run.loads.first().copied().unwrap_or(0.0);
    if busy > 0.5 {
        writeln!(
            text,
            "\n**Other programs were running** (load {busy:.1} before the first round): the absolute figures are \
             those of a busy machine."
        )?;
    }
    Ok(())
}

fn goals(text: &mut String, run: &Run) -> Result<(), Anything> {
    if run.verdicts.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\n### Goals\n\n| work | goal | measured | 95 % interval | against | verdict |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for it in &run.verdicts {
        let value = it.value.map_or("-".into(), number);
        let interval = it
            .interval
            .map_or("-".into(), |(low, high)| format!("{} to {}", number(low), number(high)));
        let verdict = if it.verdict == "missed" { "**missed**" } else { &it.verdict };
        writeln!(
            text,
            "| {} | {} | {value} | {interval} | {} | {verdict} |",
            it.text, it.bound, it.against
        )?;
    }
    Ok(())
}

fn table(text: &mut String, group: &GroupRun) -> Result<(), Anything> {
    writeln!(text, "\n### `{}`\n", group.work)?;
    let titles: Vec<&str> = group.columns.iter().map(|it| title(*it)).collect();
    writeln!(text, "| way | {} | found again | how |", titles.join(" | "))?;
    writeln!(text, "|---|{}---|---|", "---|".repeat(titles.len()))?;
    for way in group.ways.iter().filter(|it| !it.outcomes.is_empty()) {
        let name = match way.kind {
            Kind::Unsynced => format!("{} (**does not sync**)", way.way),
            Kind::Floor => format!("*{}*", way.way),
            Kind::Trial => format!("*{}* (trial)", way.way),
            Kind::Corewal | Kind::Other => way.way.clone(),
        };
        let figures: Vec<String> = group.columns.iter().map(|it| cell(way, *it)).collect();
        let found: Vec<u64> = way.outcomes.values().filter_map(|it| it.found_again).collect();
        let found =
            if found.is_empty() { "-".into() } else { found.iter().sum::<u64>().to_string() };
        let how = way.outcomes.values().next_back().map_or("", |it| &it.method);
        writeln!(text, "| {name} | {} | {found} | {how} |", figures.join(" | "))?;
    }
    for way in &group.ways {
        if let Some(why) = &way.skipped {
            writeln!(text, "\n{}: not measured: {why}.", way.way)?;
        }
    }
    if group.calibration.len() > 1 {
        writeln!(
            text,
            "\nFloors that were tried before the rounds: {}.",
            group.calibration.join("; ")
        )?;
    }
    for failure in &group.failures {
        writeln!(text, "\n**FAILED**: {failure}")?;
    }
    Ok(())
}

/// The median over the rounds, and its interval.
fn cell(way: &WayRun, figure: Figure) -> String {
    let values: Vec<f64> = way.figures(figure).into_values().collect();
    match values.len() {
        0 => "-".into(),
        1..6 => number(median(&values)),
        _ => {
            let median = Median::of(&values);
            format!("{} ({} to {})", number(median.value), number(median.low), number(median.high))
        }
    }
}

fn title(figure: Figure) -> &'static str {
    match figure {
        Figure::PerS => "per s",
        Figure::P50Us => "p50, us",
        Figure::P99Us => "p99, us",
        Figure::P999Us => "p99.9, us",
        Figure::DeviceMbPerS => "device MB/s",
        Figure::PayloadMbPerS => "user's MB/s",
        Figure::AppendNs => "an append, ns",
        Figure::PerBatch => "in a batch",
        Figure::CallsPerBatch => "calls a batch",
        Figure::Amplification => "written for a byte",
        Figure::PeakMib => "peak memory, MiB",
        Figure::FirstMs => "ms",
        Figure::OverlapRatio => "p99.9 overlapping to others",
        Figure::OverlapP999Us => "p99.9 overlapping, us",
        Figure::Rotations => "rotations",
        Figure::Unfilled => "begun unfilled",
        Figure::Recycled => "recycled",
        Figure::Checkpoints => "checkpoints",
        Figure::PuntsPer1000 => "for 1,000 appends",
    }
}

/// Three significant digits, or whole with thousands apart.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        it if it < 9.995 => format!("{value:.3}"),
        it if it < 999.5 => format!("{value:.1}"),
        _ => {
            let digits = format!("{value:.0}");
            let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |it| ("-", it));
            let mut apart = String::from(sign);
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    apart.push(',');
                }
                apart.push(digit);
            }
            apart
        }
    }
}

/// The estimates that criterion has kept: `<group>/<function>/new/estimates.json`.
fn micro(text: &mut String, dir: &Path) -> Result<(), Anything> {
    let mut rows = Vec::new();
    collect(dir, dir, &mut rows)?;
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    writeln!(text, "\n### Micro-benchmarks\n")?;
    writeln!(text, "```console\n$ cargo bench -p corewal-benches --bench micro\n```\n")?;
    writeln!(text, "Processor time of the thread; the mean and its 95 % interval.\n")?;
    writeln!(text, "| benchmark | ns | 95 % interval |\n|---|---|---|")?;
    for (name, [value, low, high]) in rows {
        writeln!(text, "| {name} | {} | {} to {} |", number(value), number(low), number(high))?;
    }
    Ok(())
}

fn collect(root: &Path, dir: &Path, rows: &mut Vec<(String, [f64; 3])>) -> Result<(), Anything> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let file = path.join("estimates.json");
        if !path.ends_with("new") || !file.exists() {
            collect(root, &path, rows)?;
            continue;
        }
        let estimates: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        let mean = &estimates["mean"];
        let interval = &mean["confidence_interval"];
        let value = |it: &serde_json::Value| it.as_f64().ok_or("an estimate without a number");
        let numbers = [
            value(&mean["point_estimate"])?,
            value(&interval["lower_bound"])?,
            value(&interval["upper_bound"])?,
        ];
        let name = dir.strip_prefix(root)?.display().to_string();
        rows.push((name, numbers));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (0.9712, "0.971"),
            (31.25, "31.2"),
            (999.4, "999.4"),
            (1000.0, "1,000"),
            (4_750_123.4, "4,750,123"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn tables_replace_only_what_stands_between_the_markers() {
        let file = format!("# Title\n\n{BEGIN}\nold\n{END}\n\ntail\n");
        let once = replace_between_markers(&file, "new\n").unwrap();
        assert_eq!(once, format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\ntail\n"));
        assert_eq!(replace_between_markers(&once, "new").unwrap(), once);
        assert!(replace_between_markers("no markers", "new").is_err());
    }
}
