//! `corewal stat`: what a log holds, in numbers.

use std::io::{self, BufWriter, Write};

use clap::Args;
use corewal::Options;
use corewal::inspect::{Survey, SurveyedShard};
use serde_json::{Value, json};

use crate::options::Place;
use crate::style;
use crate::trouble::{Trouble, quiet};
use crate::verify::found;

/// Count what a log holds: entries, bytes, batches, epochs, sizes, the oldest position, the last checkpoint.
///
/// Counts by reading the files, without the log's lock, also beside a live writer.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Stat {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Entries include the barriers that close epochs. Write amplification is the bytes of batches, with headers and padding,
for each byte of payload. Files are larger than what stands in them: segments are prepared ahead, and used again.

Examples:
  corewal stat --dir wal
  corewal stat --dir wal --json | jq .totals.write_amplification

Exits 3 if anything is damaged: then the numbers are of what can be read.";

#[derive(Clone, Copy, Default)]
struct Counts {
    entries: u64,
    batches: u64,
    payload: u64,
    batch: u64,
    files: u64,
    segments: u64,
}

impl Counts {
    fn of(survey: &Survey, shard: &SurveyedShard) -> Self {
        let mut counts = Self::default();
        for run in &shard.runs {
            counts.entries += run.entries;
            counts.batches += run.batches;
            counts.payload += run.payload_len;
            counts.batch += run.batch_len;
        }
        for segment in survey.segments().iter().filter(|it| it.shard == shard.shard) {
            counts.files += segment.file_len;
            counts.segments += 1;
        }
        counts
    }

    fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.batches += other.batches;
        self.payload += other.payload;
        self.batch += other.batch;
        self.files += other.files;
        self.segments += other.segments;
    }

    /// Bytes written for each byte of payload; none without a payload.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    fn amplification(&self) -> Option<f64> {
        (self.payload > 0).then(|| self.batch as f64 / self.payload as f64)
    }

    fn to_json(self) -> Value {
        json!({
            "entries": self.entries,
            "batches": self.batches,
            "payload_bytes": self.payload,
            "batch_bytes": self.batch,
            "write_amplification": self.amplification(),
            "segments": self.segments,
            "file_bytes": self.files,
        })
    }
}

impl Stat {
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

fn show(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    let strong = style::STRONG;
    if let Some(manifest) = survey.manifest() {
        writeln!(out, "log {}, incarnation {}", manifest.log, manifest.incarnation)?;
        match &manifest.checkpoint {
            None => writeln!(out, "no checkpoint")?,
            Some(checkpoint) => writeln!(
                out,
                "last checkpoint: epoch {}, {} bytes",
                checkpoint.epoch,
                checkpoint.bytes.len()
            )?,
        }
    }
    writeln!(out, "committed epoch {}", survey.committed_epoch())?;
    writeln!(
        out,
        "\n{strong}{:>5} {:>10} {:>12} {:>9} {:>14} {:>14} {:>6} {:>8} {:>14}{strong:#}",
        "shard",
        "oldest",
        "entries",
        "batches",
        "payload",
        "in batches",
        "amp",
        "segments",
        "in files"
    )?;
    let mut totals = Counts::default();
    for shard in survey.shards() {
        let counts = Counts::of(survey, shard);
        totals.add(counts);
        row(out, &shard.shard.to_string(), oldest(survey, shard), counts)?;
    }
    row(out, "all", None, totals)
}

fn row(out: &mut impl Write, name: &str, oldest: Option<u64>, counts: Counts) -> io::Result<()> {
    let Counts { entries, batches, payload, batch, files, segments } = counts;
    let oldest = oldest.map_or("-".to_owned(), |seq| seq.to_string());
    let amplification = counts.amplification().map_or("-".to_owned(), |it| format!("{it:.2}"));
    writeln!(
        out,
        "{name:>5} {oldest:>10} {entries:>12} {batches:>9} {payload:>14} {batch:>14} {amplification:>6} \
         {segments:>8} {files:>14}"
    )
}

/// The lowest seq that is kept; none for a shard that holds nothing.
fn oldest(survey: &Survey, shard: &SurveyedShard) -> Option<u64> {
    let released = survey.manifest()?.shard(shard.shard)?.released_seq.0;
    let first = shard.runs.iter().find(|run| run.entries > 0)?.first_seq.0;
    Some(first.max(released + 1))
}

fn document(survey: &Survey) -> Value {
    let mut totals = Counts::default();
    let mut shards = Vec::new();
    for shard in survey.shards() {
        let counts = Counts::of(survey, shard);
        totals.add(counts);
        let mut value = counts.to_json();
        value["shard"] = shard.shard.0.into();
        value["oldest_seq"] = oldest(survey, shard).into();
        value["newest_seq"] =
            shard.runs.iter().filter_map(|run| run.last_seq).max().map(|it| it.0).into();
        value["runs"] = shard.runs.len().into();
        let record = survey.manifest().and_then(|it| it.shard(shard.shard));
        value["active"] = record.map(|it| it.active).into();
        value["released_seq"] = record.map(|it| it.released_seq.0).into();
        shards.push(value);
    }
    let manifest = survey.manifest();
    json!({
        "log": manifest.map(|it| it.log.to_string()),
        "incarnation": manifest.map(|it| it.incarnation.0),
        "committed_epoch": survey.committed_epoch().0,
        "checkpoint": manifest.and_then(|it| it.checkpoint.as_ref()).map(|it| json!({
            "epoch": it.epoch.0,
            "bytes": it.bytes.len(),
        })),
        "totals": totals.to_json(),
        "shards": shards,
        "damaged_places": survey.findings().len() + survey.weak().len(),
    })
}
