//! `corewal truncate`: cuts off the end of a shard.

use std::io::{self, Write};

use clap::Args;
use corewal::{AppendError, Log, Options, RecoverError, Seq, ShardId, TruncateError, inspect};
use serde_json::json;

use crate::confirm::{Consent, confirm};
use crate::options::{Place, check_shard, of_the_log};
use crate::trouble::{Trouble, quiet};

/// Cut off the end of a shard: no recovery delivers it again, and its seqs are never given out again.
///
/// Opens the log, so no writer may run. Nothing of a committed epoch can be cut off, and no atomic group be parted. What
/// goes cannot come back, so it asks first.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Truncate {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Which shard
    #[arg(long, value_name = "SHARD")]
    shard: u16,

    /// The last seq that is kept
    #[arg(long, value_name = "SEQ")]
    after: u64,

    #[command(flatten)]
    consent: Consent,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  corewal tail --dir wal --shard 2 -n 3
  corewal truncate --dir wal --shard 2 --after 4711
  corewal truncate --dir wal --shard 2 --after 4711 --yes";

impl Truncate {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let Some(manifest) = inspect::manifest(&Options::new(&self.place.dir))? else {
            return Err(RecoverError::NoLog { dir: self.place.dir.clone() }.into());
        };
        let (shard, seq) = (ShardId(self.shard), Seq(self.after));
        check_shard(Some(self.shard), manifest.shards.iter().map(|record| record.shard))?;
        if manifest.shard(shard).is_some_and(|record| !record.active) {
            return Err(Trouble::world(format_args!("shard {shard} is retired")));
        }
        let dir = self.place.dir.display();
        let question = format!(
            "Cut off every entry of shard {shard} above seq {seq} in {dir}? This cannot be undone."
        );
        confirm(self.consent, &question)?;
        let mut log = Log::recover(of_the_log(&self.place)?)?.open()?;
        let seat = log.take_seats().into_iter().find(|seat| seat.shard() == shard);
        let mut writer = seat.expect("an active shard has a seat").sit()?;
        let truncation = loop {
            match writer.truncate_after(seq) {
                // The first segment is still being prepared.
                Err(TruncateError::NoRoom(AppendError::Full)) => {
                    writer.turn()?;
                    std::thread::yield_now();
                }
                done => break done,
            }
        };
        writer.close()?;
        let closed = log.close();
        let truncation = truncation.map_err(|error| match error {
            TruncateError::Read(error) => error.into(),
            other => Trouble::world(other),
        })?;
        closed?;
        let mut out = io::stdout().lock();
        let shown = match truncation.seqs {
            seqs if self.json => {
                let document = json!({
                    "shard": shard.0,
                    "entries": truncation.entries,
                    "first_seq": seqs.map(|(first, _)| first.0),
                    "last_seq": seqs.map(|(_, last)| last.0),
                    "next_seq": truncation.next_seq.0,
                });
                writeln!(out, "{document}")
            }
            None => writeln!(out, "shard {shard} has nothing above seq {seq}"),
            Some((first, last)) => writeln!(
                out,
                "{} entries of shard {shard} are cut off, seqs {first} to {last}; the next one has seq {}",
                truncation.entries, truncation.next_seq
            ),
        };
        shown.or_else(quiet).map_err(|error| Trouble::output(&error))
    }
}
