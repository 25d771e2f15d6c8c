//! The engine's options, as the command line gives them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use corewal::{Engine, Options, SyncMethod};

use crate::quantity::parse_size;

/// Bytes of the engine's defaults that a small segment lowers.
const BLOCK: u64 = 4096;
const FIRST_SEGMENT: u64 = 1 << 20;
const MAX_BATCH: u64 = 32 << 20;
const MAX_RECORD: u64 = 16 << 20;
const WRITE: u64 = 256 << 10;

/// Where the log is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Directory of the log
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// How the log is written.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How it is written")]
pub(crate) struct Tuning {
    /// What the kernel is asked with: io_uring, synchronous calls, or the first if it can be had
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto")]
    engine: EngineName,

    /// How a batch becomes durable: a write with RWF_DSYNC, an fdatasync after the write, or one linked to it
    #[arg(long, value_enum, value_name = "WHICH", default_value = "dsync")]
    sync_method: SyncName,

    /// Size of a segment file
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size)]
    segment_size: u64,

    /// Batches of a shard that may be in flight at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    depth: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    Auto,
    Uring,
    Blocking,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SyncName {
    Dsync,
    AfterWrite,
    Linked,
}

impl Tuning {
    /// Options for a log of `shards` shards.
    pub(crate) fn options(&self, place: &Place, shards: u16) -> Options {
        // What a segment can hold bounds the rest.
        let room = self.segment_size.saturating_sub(2 * BLOCK);
        let max_batch = room.min(MAX_BATCH);
        let options = Options::new(&place.dir)
            .shards(shards)
            .depth(self.depth)
            .segment_len(self.segment_size)
            .first_segment_len(self.segment_size.min(FIRST_SEGMENT))
            .max_batch(bytes(max_batch))
            .write_len(bytes(max_batch.min(WRITE) / BLOCK * BLOCK))
            .max_record(self.max_line());
        let options = options.engine(match self.engine {
            EngineName::Auto => Engine::Auto,
            EngineName::Uring => Engine::Uring,
            EngineName::Blocking => Engine::Blocking,
        });
        options.sync_method(match self.sync_method {
            SyncName::Dsync => SyncMethod::Dsync,
            SyncName::AfterWrite => SyncMethod::AfterWrite,
            SyncName::Linked => SyncMethod::Linked,
        })
    }

    /// The same options, for another process of this program.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|it| it.get_name().to_owned()).unwrap_or_default()
        };
        vec![
            format!("--engine={}", name(self.engine.to_possible_value())),
            format!("--sync-method={}", name(self.sync_method.to_possible_value())),
            format!("--segment-size={}", self.segment_size),
            format!("--depth={}", self.depth),
        ]
    }

    /// The longest line that can be appended, in bytes.
    pub(crate) fn max_line(&self) -> usize {
        // A block is more than a batch's and an entry's headers.
        let max_batch = self.segment_size.saturating_sub(2 * BLOCK).min(MAX_BATCH);
        bytes(max_batch.saturating_sub(BLOCK).clamp(1, MAX_RECORD))
    }
}

fn bytes(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
