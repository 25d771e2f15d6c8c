//! `corewal tail`: the newest entries, and those to come.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use corewal::{Entry, Kind, Log, Options, Seq, ShardId, Stamp, Tail as ShardTail, inspect};

use crate::options::{Place, check_shard};
use crate::replay::Format;
use crate::stop;
use crate::trouble::{Trouble, quiet};

/// Print the newest durable entries, and with -f those to come, as they become durable.
///
/// Follows the promises that the writer leaves on disk, from another process and without the log's lock: nothing is
/// printed that a power cut could still take back. The newest entries come in their merged order; with -f then each shard's
/// in its own order.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Go on with entries as they become durable, until Ctrl-C
    #[arg(long, short)]
    follow: bool,

    /// How many of the newest entries
    #[arg(long = "lines", short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,

    /// Only this shard
    #[arg(long, value_name = "SHARD")]
    shard: Option<u16>,

    /// What is printed for an entry, as by `replay`
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "tsv")]
    format: Format,
}

const HELP: &str = "\
An idle writer vouches for its last batch after a moment; until then it is not printed.

Examples:
  corewal tail --dir wal
  corewal tail --dir wal -f -n 0 --format jsonl | jq -r .payload
  corewal tail --dir wal -f --shard 2";

/// How long all shards rest when none has anything new.
const REST: Duration = Duration::from_millis(5);

/// An entry as it will be printed.
type Shown = (Stamp, Vec<u8>);

impl Tail {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = self.print(&mut out);
        let flushed = out.flush().or_else(quiet).map_err(|error| Trouble::output(&error));
        printed.and(flushed)
    }

    fn print(&self, out: &mut impl Write) -> Result<(), Trouble> {
        let options = Options::new(&self.place.dir);
        let stop = if self.follow { Some(stop::flag()?) } else { None };
        let mut tails = Vec::new();
        let mut newest: Vec<Shown> = Vec::new();
        for (shard, last) in self.shards(&options)? {
            let (tail, shown) = self.begin(&options, shard, last)?;
            tails.extend(tail);
            newest.extend(shown);
        }
        newest.sort_by_key(|(stamp, _)| *stamp);
        let skipped = newest.len().saturating_sub(self.count);
        for (_, line) in &newest[skipped..] {
            if let Err(error) = out.write_all(line) {
                return quiet(error).map_err(|error| Trouble::output(&error));
            }
        }
        let Some(stop) = stop else { return Ok(()) };
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = out.flush() {
                return quiet(error).map_err(|error| Trouble::output(&error));
            }
            let mut is_new = false;
            for tail in &mut tails {
                while let Some(entry) = tail.try_next()? {
                    is_new = true;
                    if entry.kind() == Kind::BARRIER {
                        continue;
                    }
                    if let Err(error) = self.format.write(out, &entry) {
                        return quiet(error).map_err(|error| Trouble::output(&error));
                    }
                }
            }
            if !is_new {
                std::thread::park_timeout(REST);
            }
        }
        Ok(())
    }

    /// The shards that are wanted, with the last seq that stands in each.
    fn shards(&self, options: &Options) -> Result<Vec<(ShardId, Seq)>, Trouble> {
        let shards = Log::read(options.clone())?.report().shards.clone();
        check_shard(self.shard, shards.iter().map(|it| it.shard))?;
        let shards = shards.iter().filter(|it| self.shard.is_none_or(|shard| it.shard.0 == shard));
        Ok(shards.map(|it| (it.shard, it.last.map_or(Seq(0), |(_, seq)| seq))).collect())
    }

    /// The newest entries of a shard, and what follows it from there on.
    fn begin(
        &self,
        options: &Options,
        shard: ShardId,
        last: Seq,
    ) -> Result<(Option<ShardTail>, Vec<Shown>), Trouble> {
        // Barriers take seqs too, so go further back until there are enough.
        let mut back = (self.count as u64).saturating_mul(2).saturating_add(16);
        loop {
            let released = inspect::manifest(options)?
                .and_then(|it| it.shard(shard).map(|it| it.released_seq))
                .unwrap_or_default();
            let from = Seq(last.0.saturating_sub(back)).max(released).next();
            let Some(mut tail) = Log::follow(options.clone(), shard, from)? else {
                return Ok((None, Vec::new()));
            };
            let mut shown = VecDeque::new();
            while let Some(entry) = tail.try_next()? {
                if entry.kind() == Kind::BARRIER || self.count == 0 {
                    continue;
                }
                if shown.len() == self.count {
                    shown.pop_front();
                }
                shown.push_back((entry.stamp(), self.shown(&entry)?));
            }
            if shown.len() >= self.count || from <= released.next() {
                return Ok((Some(tail), shown.into()));
            }
            back = back.saturating_mul(4);
        }
    }

    fn shown(&self, entry: &Entry<'_>) -> Result<Vec<u8>, Trouble> {
        let mut line = Vec::new();
        self.format.write(&mut line, entry).map_err(|error| Trouble::output(&error))?;
        Ok(line)
    }
}
