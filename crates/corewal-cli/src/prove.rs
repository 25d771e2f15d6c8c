//! `corewal prove`: which entries are provably acknowledged, and by which witness.

use std::io::{self, BufWriter, Write};

use clap::Args;
use corewal::inspect::{Content, Proof, Stretch, Survey, VoidCause};
use corewal::{BatchNumber, Options, RecoverError, SegmentNumber, Seq, ShardId};
use serde_json::{Value, json};

use crate::damage;
use crate::options::{Place, check_surveyed_shard};
use crate::style;
use crate::trouble::{Trouble, quiet};
use crate::verify::found;

/// Say which entries are provably acknowledged and by which witness, which are merely intact, and which are torn.
///
/// A witness is a statement on disk that was true before it was written: the recorded end of a run or a durable batch in
/// the manifest, the promise of a later batch of the shard, or the committed epoch that a batch of any shard speaks of.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Prove {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Only this shard
    #[arg(long, value_name = "SHARD")]
    shard: Option<u16>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Each line is a stretch of a shard:
  proven   a witness says that it was durable: a recovery without it is refused
  intact   it verifies and a recovery delivers it; that it was acknowledged, nothing on disk says
  void     the manifest leaves it out: truncated, not committed, or given up
  beyond   batches behind the end of their run, which do not count
  torn     written behind the end of the run, and does not verify
  damaged  must be there, and does not verify

Examples:
  corewal prove --dir wal
  corewal prove --dir wal --shard 3 --json | jq '.stretches[] | select(.state == \"intact\")'

Exits 3 if anything is damaged.";

/// Neighbours of which the same is known.
struct Line {
    shard: ShardId,
    segment: SegmentNumber,
    at: u64,
    len: u64,
    state: &'static str,
    why: String,
    batches: Option<(BatchNumber, BatchNumber)>,
    seqs: Option<(Seq, Seq)>,
    proof: Option<Proof>,
}

impl Prove {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let survey = Survey::read(&Options::new(&self.place.dir))?;
        check_surveyed_shard(self.shard, &survey)?;
        let lines = self.lines(&survey)?;
        let mut out = BufWriter::new(style::stdout());
        let shown = match self.json {
            true => writeln!(out, "{}", document(&survey, &lines)),
            false => lines.iter().try_for_each(|line| line.show(&mut out)).and_then(|()| {
                let bad = style::BAD;
                survey.findings().iter().try_for_each(|finding| {
                    let kind = damage::kind(&finding.error);
                    writeln!(out, "{bad}damaged{bad:#} [{kind}] {}", finding.error)
                })
            }),
        };
        let shown = shown.and_then(|()| out.flush());
        shown.or_else(quiet).map_err(|error| Trouble::output(&error))?;
        found(&survey, &self.place)
    }

    fn lines(&self, survey: &Survey) -> Result<Vec<Line>, Trouble> {
        let mut lines: Vec<Line> = Vec::new();
        for segment in survey.segments().iter().filter(|it| it.is_in_run) {
            if self.shard.is_some_and(|shard| shard != segment.shard.0) {
                continue;
            }
            let (shard, number) = (segment.shard, segment.number);
            survey
                .stretches(shard, number, &mut |stretch| take(&mut lines, shard, number, &stretch))
                .map_err(RecoverError::from)?;
        }
        Ok(lines)
    }
}

fn take(lines: &mut Vec<Line>, shard: ShardId, segment: SegmentNumber, stretch: &Stretch<'_>) {
    let (at, len) = (stretch.at, stretch.len);
    match &stretch.content {
        Content::Batch { header, proof, .. } => {
            let (number, first, last) = (header.number, header.first_seq, header.last_seq());
            let seqs = (header.entry_count > 0).then_some((first, last));
            if let Some(line) = lines.last_mut()
                && line.proof == Some(*proof)
                && line.shard == shard
                && line.batches.is_some_and(|(_, before)| before.next() == number)
            {
                line.len += len;
                line.batches = line.batches.map(|(first, _)| (first, number));
                line.seqs = match (line.seqs, seqs) {
                    (Some((first, _)), Some((_, last))) => Some((first, last)),
                    (one, other) => one.or(other),
                };
                return;
            }
            let (state, why) = match proof {
                Proof::Proven(witness) => ("proven", witness.to_string()),
                Proof::Intact => ("intact", "no promise speaks of it".to_owned()),
                Proof::Void(cause) => ("void", cause_text(*cause).to_owned()),
                _ => ("beyond", "it stands behind the end of its run".to_owned()),
            };
            let (batches, proof) = (Some((number, number)), Some(*proof));
            lines.push(Line { shard, segment, at, len, state, why, batches, seqs, proof });
        }
        Content::Broken { reason, is_torn } => {
            let state = if *is_torn { "torn" } else { "damaged" };
            let (why, batches, seqs, proof) = (reason.to_string(), None, None, None);
            // What belongs there, the survey's findings say.
            let why = why.split_once("found ").map_or(why.clone(), |(_, found)| found.to_owned());
            lines.push(Line { shard, segment, at, len, state, why, batches, seqs, proof });
        }
        _ => {}
    }
}

fn cause_text(cause: VoidCause) -> &'static str {
    match cause {
        VoidCause::Truncated => "truncated",
        VoidCause::Uncommitted => "not committed at a recovery of committed epochs only",
        VoidCause::Salvaged => "given up by a repair",
    }
}

impl Line {
    fn show(&self, out: &mut impl Write) -> io::Result<()> {
        let style = match self.state {
            "proven" => style::GOOD,
            "damaged" => style::BAD,
            "intact" => style::NOTE,
            _ => style::DIM,
        };
        let Self { shard, segment, at, len, state, .. } = self;
        write!(out, "shard {shard} {style}{state:7}{style:#} ")?;
        if let Some((first, last)) = self.batches {
            write!(out, "batches {first} to {last}, ")?;
        }
        if let Some((first, last)) = self.seqs {
            write!(out, "seqs {first} to {last}, ")?;
        }
        let segment = segment.0;
        writeln!(out, "from segment {shard}-{segment:06} at {at}, {len} bytes: {}", self.why)
    }

    fn to_json(&self) -> Value {
        json!({
            "shard": self.shard.0,
            "segment": self.segment.0,
            "at": self.at,
            "bytes": self.len,
            "state": self.state,
            "why": self.why,
            "first_batch": self.batches.map(|it| it.0.0),
            "last_batch": self.batches.map(|it| it.1.0),
            "first_seq": self.seqs.map(|it| it.0.0),
            "last_seq": self.seqs.map(|it| it.1.0),
        })
    }
}

fn document(survey: &Survey, lines: &[Line]) -> Value {
    json!({
        "committed_epoch": survey.committed_epoch().0,
        "stretches": lines.iter().map(Line::to_json).collect::<Value>(),
        "damage": survey.findings().iter().map(damage::to_json).collect::<Value>(),
    })
}
