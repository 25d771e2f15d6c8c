//! `corewal bench compare`: two runs side by side.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use super::record::{Bench, Row, Summary};
use crate::style;
use crate::trouble::{Exit, Trouble, quiet};

/// Show two machines or settings side by side.
///
/// Cells that both runs have are compared by commits a second and by p99. `A` or `B` is said to be faster only where the
/// intervals of 95 % do not overlap.
#[derive(Clone, Debug, Args)]
pub(super) struct Compare {
    /// A document that `corewal bench --json` wrote
    a: PathBuf,

    /// Another one
    b: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A cell of both runs.
struct Pair<'a> {
    row: &'a Row,
    a: &'a Summary,
    b: &'a Summary,
}

impl Pair<'_> {
    fn verdict(&self) -> &'static str {
        let (a, b) = (&self.a.commits_per_s, &self.b.commits_per_s);
        match (a.is_above(b), b.is_above(a)) {
            (true, _) => "A",
            (_, true) => "B",
            _ => "not decided",
        }
    }

    fn ratio(&self) -> f64 {
        self.b.commits_per_s.value / self.a.commits_per_s.value.max(f64::MIN_POSITIVE)
    }
}

impl Compare {
    pub(super) fn run(&self) -> Result<(), Trouble> {
        let load = |path: &PathBuf| Bench::load(path).map_err(|why| Trouble::new(Exit::World, why));
        let (a, b) = (load(&self.a)?, load(&self.b)?);
        let pairs: Vec<Pair<'_>> = a
            .measured()
            .filter_map(|(row, summary)| {
                let (_, other) = b.measured().find(|(it, _)| it.cell == row.cell)?;
                Some(Pair { row, a: summary, b: other })
            })
            .collect();
        if pairs.is_empty() {
            return Err(Trouble::world("the two runs have no measured cell in common"));
        }
        let mut out = BufWriter::new(style::stdout());
        let shown = match self.json {
            true => json(&mut out, &a, &b, &pairs),
            false => text(&mut out, &a, &b, &pairs),
        };
        shown.and_then(|()| out.flush()).or_else(quiet).map_err(|error| Trouble::output(&error))
    }
}

fn text(out: &mut impl Write, a: &Bench, b: &Bench, pairs: &[Pair<'_>]) -> io::Result<()> {
    let strong = style::STRONG;
    for ((name, of_a), (_, of_b)) in a.machine.rows().into_iter().zip(b.machine.rows()) {
        match of_a == of_b {
            true => writeln!(out, "{name:14}  {of_a}")?,
            false => {
                writeln!(out, "{name:14}  {strong}A{strong:#} {of_a}")?;
                writeln!(out, "{:14}  {strong}B{strong:#} {of_b}", "")?;
            }
        }
    }
    let width = pairs.iter().map(|it| name(it.row).len()).max().unwrap_or(4);
    writeln!(
        out,
        "\n{strong}{:width$}  {:>11}  {:>11}  {:>6}  {:>9}  {:>9}  faster{strong:#}",
        "cell", "A commits/s", "B commits/s", "B / A", "A p99 us", "B p99 us"
    )?;
    for pair in pairs {
        writeln!(
            out,
            "{:width$}  {:>11.0}  {:>11.0}  {:>6.2}  {:>9.0}  {:>9.0}  {}",
            name(pair.row),
            pair.a.commits_per_s.value,
            pair.b.commits_per_s.value,
            pair.ratio(),
            pair.a.p99_us.value,
            pair.b.p99_us.value,
            pair.verdict()
        )?;
    }
    let of = |verdict| pairs.iter().filter(|it| it.verdict() == verdict).count();
    writeln!(
        out,
        "\n{} cells in both runs: A faster in {}, B faster in {}, not decided in {}",
        pairs.len(),
        of("A"),
        of("B"),
        of("not decided")
    )
}

fn name(row: &Row) -> String {
    let mut name = row.cell.cell().map_or_else(|| row.cell.way(), |cell| cell.to_string());
    if !row.durable {
        name += " (not durable)";
    }
    name
}

fn json(out: &mut impl Write, a: &Bench, b: &Bench, pairs: &[Pair<'_>]) -> io::Result<()> {
    let rows = pairs.iter().map(|it| {
        serde_json::json!({
            "cell": it.row.cell,
            "durable": it.row.durable,
            "a": it.a,
            "b": it.b,
            "b_to_a": it.ratio(),
            "faster": it.verdict(),
        })
    });
    let document = serde_json::json!({
        "a": { "machine": a.machine, "settings": a.settings },
        "b": { "machine": b.machine, "settings": b.settings },
        "cells": rows.collect::<serde_json::Value>(),
    });
    writeln!(out, "{document:#}")
}
