//! `corewal verify`: reads and checks everything.

use std::io::{self, BufWriter, Write};

use clap::Args;
use corewal::inspect::{Finding, Survey, SurveyedShard};
use corewal::{Options, RecoverError};
use serde_json::{Value, json};

use crate::damage;
use crate::options::Place;
use crate::style;
use crate::trouble::{Exit, LATER_VERSION, Trouble, quiet};

/// Read and check everything, and say what is good and what is not.
///
/// Reads every byte of every segment that belongs to the log, several at once, without the log's lock, and changes
/// nothing; what a live writer has on its way is no damage. Does not stop at the first damage: it goes on behind it.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Kinds of damage, in brackets in the text and as `kind` in the document:
  manifest-missing, manifest-broken, manifest-unrelated, manifest-lost
  segment-missing, segment-header, segment-length, segment-of-other-log, segment-of-other-run, segment-misnamed
  batch-header, batch-body, batch-zeroed, batch-not-written, batch-misplaced, batch-missing, batch-cut,
  batch-order, batch-impossible
  header-copy   one of the two copies of a segment's header: nothing is lost, but what was durable has changed
  unreadable    the device could not read a place
  later-version no damage: written by a later version of this program; exits 1

What follows the last promise of a log that was not closed may have been lost with a power cut, or damaged later:
nothing on disk tells, and it is no damage here. `corewal prove` shows up to where there is proof.

Examples:
  corewal verify --dir wal
  corewal verify --dir wal --json | jq -r '.damage[].text'

Exits 3 if anything is damaged.";

impl Verify {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let survey = Survey::read(&Options::new(&self.place.dir))?;
        let mut out = BufWriter::new(style::stdout());
        let shown = match self.json {
            true => writeln!(out, "{}", document(&survey)),
            false => show(&mut out, &survey),
        };
        let shown = shown.and_then(|()| out.flush());
        shown.or_else(quiet).map_err(|error| Trouble::output(&error))?;
        found(&survey, &self.place)
    }
}

/// The trouble with a log that is damaged.
pub(crate) fn found(survey: &Survey, place: &Place) -> Result<(), Trouble> {
    let count = survey.findings().len() + survey.weak().len();
    if count == 0 {
        return Ok(());
    }
    let is_later = |finding: &Finding| finding.error.unknown_version().is_some();
    if survey.findings().iter().any(is_later) {
        let text = format_args!("{} cannot be read", place.dir.display());
        return Err(Trouble::world(text).with(LATER_VERSION));
    }
    let places = if count == 1 { "place is" } else { "places are" };
    let dir = place.dir.display();
    let trouble = Trouble::new(Exit::Damage, format_args!("{count} {places} damaged in {dir}"));
    Err(match survey.findings().is_empty() {
        true => trouble.with("nothing is lost and nothing is to be repaired, but look at the disk"),
        false => trouble.repairable(),
    })
}

fn is_good(survey: &Survey, shard: &SurveyedShard) -> bool {
    let is_of = |error: &RecoverError| match error {
        RecoverError::Damaged(damage) => damage.at.shard == shard.shard,
        _ => false,
    };
    !survey.findings().iter().any(|it| is_of(&it.error))
        && !survey.weak().iter().any(|it| it.at.shard == shard.shard)
}

fn show(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    match survey.manifest() {
        Some(manifest) => writeln!(
            out,
            "log {}: generation {}, incarnation {}, committed epoch {}",
            manifest.log,
            manifest.generation,
            manifest.incarnation,
            survey.committed_epoch()
        )?,
        None => writeln!(out, "no manifest can be read, so nothing says which segments count")?,
    }
    for shard in survey.shards() {
        let (style, word) = match is_good(survey, shard) {
            true => (style::GOOD, "good"),
            false => (style::BAD, "damaged"),
        };
        let batches: u64 = shard.runs.iter().map(|run| run.batches).sum();
        let entries: u64 = shard.runs.iter().map(|run| run.entries).sum();
        let bytes: u64 = shard.runs.iter().map(|run| run.batch_len).sum();
        let segments = survey.segments().iter();
        let segments = segments.filter(|it| it.shard == shard.shard && it.is_in_run).count();
        writeln!(
            out,
            "shard {}: {style}{word}{style:#}; {batches} batches with {entries} entries verify, \
             {bytes} bytes in {segments} segments",
            shard.shard
        )?;
    }
    let bad = style::BAD;
    for finding in survey.findings() {
        write!(out, "{bad}damage{bad:#} [{}] {}", damage::kind(&finding.error), finding.error)?;
        match &finding.gap {
            Some(gap) => writeln!(out, "; {}", damage::loss(gap))?,
            None => writeln!(out)?,
        }
    }
    for weak in survey.weak() {
        writeln!(
            out,
            "{bad}damage{bad:#} [header-copy] {}: copy {}: {}; the other copy is good, nothing is lost",
            weak.at, weak.copy, weak.fault
        )?;
    }
    Ok(())
}

fn document(survey: &Survey) -> Value {
    let manifest = survey.manifest();
    let shards = survey.shards().iter().map(|shard| {
        let runs = &shard.runs;
        json!({
            "shard": shard.shard.0,
            "good": is_good(survey, shard),
            "runs": runs.len(),
            "batches": runs.iter().map(|run| run.batches).sum::<u64>(),
            "entries": runs.iter().map(|run| run.entries).sum::<u64>(),
            "bytes": runs.iter().map(|run| run.batch_len).sum::<u64>(),
        })
    });
    let weak = survey.weak().iter().map(|weak| {
        json!({
            "kind": "header-copy",
            "text": format!("{}: copy {}: {}", weak.at, weak.copy, weak.fault),
            "shard": weak.at.shard.0,
            "segment": weak.at.segment.0,
            "at": weak.at.at,
            "witness": null,
            "lost": null,
        })
    });
    let damage: Vec<Value> = survey.findings().iter().map(damage::to_json).chain(weak).collect();
    json!({
        "good": damage.is_empty(),
        "log": manifest.map(|it| it.log.to_string()),
        "generation": manifest.map(|it| it.generation.0),
        "incarnation": manifest.map(|it| it.incarnation.0),
        "committed_epoch": survey.committed_epoch().0,
        "shards": shards.collect::<Value>(),
        "damage": damage,
    })
}
