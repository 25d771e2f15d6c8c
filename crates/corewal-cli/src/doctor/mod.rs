//! `corewal doctor`: what this machine and directory give, and what to do about it.

mod checks;

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use clap::Args;
use corewal::{Options, inspect};
use corewal_disk::RealDisk;
use corewal_probe::{Choice, choose};
use serde::Serialize;

use crate::machine::Machine;
use crate::options::Place;
use crate::quantity::parse_time;
use crate::stop;
use crate::style;
use crate::trouble::{Exit, Trouble, quiet};

/// Say what this machine and directory give a log, and what to do about it.
///
/// Looks at the kernel, its limits, the file system and the device, and measures for a short time which way to commit is
/// fastest. Changes no log: its own files are removed again. Exits 0 when a log can be kept here durably, else 1.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Doctor {
    #[command(flatten)]
    place: Place,

    /// How long to measure which way is fastest
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    probe: Duration,

    /// Do not measure
    #[arg(long, conflicts_with = "probe")]
    no_probe: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Each finding is `good`, `note` (works; could be better, or is worth knowing) or `bad` (nothing is durable here, or
nothing can be written), and says what to do.

Examples:
  corewal doctor --dir /var/lib/app/wal
  corewal doctor --dir wal --no-probe
  corewal doctor --dir wal --json | jq '.findings[] | select(.level != \"good\")'";

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Good,
    Note,
    Bad,
}

/// One fact, what it means, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at; stable, for scripts.
    subject: &'static str,
    level: Level,
    fact: String,
    /// Empty if there is nothing to do.
    advice: String,
}

impl Finding {
    fn good(subject: &'static str, fact: impl Into<String>) -> Self {
        Self { subject, level: Level::Good, fact: fact.into(), advice: String::new() }
    }

    fn note(subject: &'static str, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject, level: Level::Note, fact: fact.into(), advice: advice.into() }
    }

    fn bad(subject: &'static str, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject, level: Level::Bad, fact: fact.into(), advice: advice.into() }
    }
}

impl Doctor {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let dir = &self.place.dir;
        let refuse = |error: io::Error| {
            let trouble = Trouble::world(format_args!("{}: {error}", dir.display()));
            match error.kind() {
                io::ErrorKind::NotFound => trouble.with("make the directory, or name another"),
                _ => trouble,
            }
        };
        let machine = Machine::of(dir).map_err(refuse)?;
        let mut findings = checks::all(&machine, dir);
        let choice = match self.no_probe || machine.is_in_memory() {
            true => None,
            false => match choose(&RealDisk::new(), dir, self.probe, stop::flag()?) {
                Ok(choice) => Some(choice),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    return Err(Trouble::world("interrupted"));
                }
                Err(error) => {
                    findings.push(Finding::note(
                        "fastest way",
                        format!("could not be measured: {error}"),
                        "the log takes durable writes where there are such, else a write and a sync",
                    ));
                    None
                }
            },
        };
        findings.extend(choice.as_ref().map(|it| checks::chosen(it, dir)));
        let remembered = inspect::remembered(&Options::new(dir));
        findings.extend(remembered.as_ref().map(|it| checks::remembered(it, dir)));
        let mut out = BufWriter::new(style::stdout());
        let shown = match self.json {
            true => show_json(&mut out, &machine, &findings, choice.as_ref()),
            false => show_text(&mut out, &findings, choice.as_ref()),
        };
        shown.and_then(|()| out.flush()).or_else(quiet).map_err(|error| Trouble::output(&error))?;
        let bad = findings.iter().filter(|it| it.level == Level::Bad).count();
        if bad == 0 {
            return Ok(());
        }
        let text = format!("{bad} of {} findings are bad: see above", findings.len());
        Err(Trouble::new(Exit::World, text))
    }
}

fn show_text(
    out: &mut impl Write,
    findings: &[Finding],
    choice: Option<&Choice>,
) -> io::Result<()> {
    let width = findings.iter().map(|it| it.subject.len()).max().unwrap_or(0);
    for finding in findings {
        let (mark, colour) = match finding.level {
            Level::Good => ("good", style::GOOD),
            Level::Note => ("note", style::NOTE),
            Level::Bad => ("bad ", style::BAD),
        };
        let (subject, fact) = (finding.subject, &finding.fact);
        writeln!(out, "{colour}{mark}{colour:#}  {subject:width$}  {fact}")?;
        if !finding.advice.is_empty() {
            let dim = style::DIM;
            writeln!(out, "      {:width$}  {dim}-> {}{dim:#}", "", finding.advice)?;
        }
    }
    let Some(choice) = choice else { return Ok(()) };
    writeln!(out, "\nmeasured, 4 KiB commits a second (median, 95 % interval):")?;
    for it in &choice.evidence {
        let (candidate, rate) = (it.candidate.to_string(), it.commits_per_s);
        writeln!(
            out,
            "  depth {}  {candidate:20}  {:>9.0}  ({:.0} to {:.0})",
            it.depth, rate.value, rate.low, rate.high
        )?;
    }
    Ok(())
}

fn show_json(
    out: &mut impl Write,
    machine: &Machine,
    findings: &[Finding],
    choice: Option<&Choice>,
) -> io::Result<()> {
    let choice = choice.map(|choice| {
        let evidence = choice.evidence.iter().map(|it| {
            serde_json::json!({
                "engine": it.candidate.way.name(),
                "method": it.candidate.method.name(),
                "depth": it.depth,
                "commits_per_s": it.commits_per_s.value,
                "low": it.commits_per_s.low,
                "high": it.commits_per_s.high,
            })
        });
        let name = |it: corewal_probe::Candidate| {
            serde_json::json!({ "engine": it.way.name(), "method": it.method.name() })
        };
        serde_json::json!({
            "lone": name(choice.lone),
            "busy": name(choice.busy),
            "refused": choice.refused,
            "evidence": evidence.collect::<serde_json::Value>(),
        })
    });
    let bad = findings.iter().any(|it| it.level == Level::Bad);
    let document = serde_json::json!({
        "good": !bad,
        "machine": machine,
        "findings": findings,
        "choice": choice,
    });
    writeln!(out, "{document:#}")
}
