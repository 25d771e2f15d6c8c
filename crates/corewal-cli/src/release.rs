//! `corewal release`: lets go of what is held elsewhere.

use std::io::{self, Write};

use clap::Args;
use corewal::{Epoch, Log, Options, Released, Seq, ShardId, inspect};
use serde_json::{Value, json};

use crate::confirm::{Consent, confirm};
use crate::options::{Place, check_shard, of_the_log};
use crate::trouble::{Exit, Trouble, quiet};

/// Let go of the oldest segments: those of which the entries are held elsewhere, or not needed any more.
///
/// Opens the log, so no writer may run. Only whole segments go, never the last one. What goes cannot come back, so it asks
/// first.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Release {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Record a checkpoint of this epoch, and let go of what is up to it, on every shard
    #[arg(
        long,
        value_name = "EPOCH",
        required_unless_present = "before",
        conflicts_with = "before"
    )]
    checkpoint: Option<u64>,

    /// What the checkpoint says about where the state is, for the program that reads it
    #[arg(long, value_name = "TEXT", requires = "checkpoint")]
    bytes: Option<String>,

    /// Let go of what one shard has below this seq
    #[arg(long, value_name = "SEQ", requires = "shard")]
    before: Option<u64>,

    /// The shard for --before
    #[arg(long, value_name = "SHARD", requires = "before")]
    shard: Option<u16>,

    #[command(flatten)]
    consent: Consent,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  corewal release --dir wal --checkpoint 120 --bytes snapshot-120
  corewal release --dir wal --shard 0 --before 50000 --yes";

impl Release {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let Some(manifest) = inspect::manifest(&Options::new(&self.place.dir))? else {
            return Err(corewal::RecoverError::NoLog { dir: self.place.dir.clone() }.into());
        };
        check_shard(self.shard, manifest.shards.iter().map(|record| record.shard))?;
        let last = manifest.checkpoint.as_ref();
        if self.checkpoint.is_some()
            && self.bytes.is_none()
            && last.is_some_and(|it| !it.bytes.is_empty())
        {
            let text = "the last checkpoint has bytes that a program reads; say with --bytes what this one says";
            return Err(Trouble::new(Exit::Usage, text));
        }
        let dir = self.place.dir.display();
        let what = match (self.checkpoint, self.before, self.shard) {
            (Some(epoch), _, _) => format!("up to epoch {epoch}"),
            (_, Some(seq), Some(shard)) => format!("of shard {shard} below seq {seq}"),
            _ => unreachable!("clap requires one of both"),
        };
        let question = format!("Let go of every entry {what} in {dir}? This cannot be undone.");
        confirm(self.consent, &question)?;
        let log = Log::recover(of_the_log(&self.place)?)?.open()?;
        let released = match (self.checkpoint, self.before, self.shard) {
            (Some(epoch), _, _) => {
                let bytes = self.bytes.as_deref().unwrap_or_default();
                log.checkpoint(Epoch(epoch), bytes.as_bytes())
            }
            (_, Some(seq), Some(shard)) => log.release_before(ShardId(shard), Seq(seq)),
            _ => unreachable!("clap requires one of both"),
        };
        let closed = log.close();
        let released = released.map_err(Trouble::world)?;
        closed?;
        let shown = if self.json { print(&document(&released)) } else { show(&released) };
        shown.or_else(quiet).map_err(|error| Trouble::output(&error))
    }
}

fn print(document: &Value) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{document}")
}

fn document(released: &Released) -> Value {
    let shards = released.shards.iter();
    let shards = shards.map(|(shard, seq)| json!({ "shard": shard.0, "released_seq": seq.0 }));
    json!({
        "shards": shards.collect::<Value>(),
        "segments": released.segments,
        "spared": released.spared,
        "unremoved": released.unremoved.as_ref().map(ToString::to_string),
    })
}

fn show(released: &Released) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (shard, seq) in &released.shards {
        writeln!(out, "shard {shard}: everything up to seq {seq} is gone")?;
    }
    writeln!(
        out,
        "{} segments released, {} of them kept as spare files",
        released.segments, released.spared
    )?;
    match &released.unremoved {
        None => Ok(()),
        Some(fault) => writeln!(out, "note: {fault}; the next opening tries again"),
    }
}
