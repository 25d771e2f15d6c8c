//! The engine's options, as the command line gives them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use corewal::inspect::{Shape, Survey};
use corewal::{Engine, Options, RecoverError, ShardId, SyncMethod};

use crate::quantity::parse_size;
use crate::trouble::{Exit, Trouble};

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

impl fmt::Display for Place {
    /// As on a command line: `--dir DIR`, quoted for a shell where it must be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.to_string_lossy();
        let is_plain = |it: char| it.is_alphanumeric() || "/._-+,:@%".contains(it);
        match dir.chars().all(is_plain) {
            true => write!(f, "--dir {dir}"),
            false => write!(f, "--dir '{}'", dir.replace('\'', r"'\''")),
        }
    }
}

/// How the log is written.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How it is written")]
pub(crate) struct Tuning {
    /// A TOML file with all options of the engine, instead of the ones here
    ///
    /// Its keys are those of `Options::from_toml` of the corewal crate; an unknown one, and a value that cannot be,
    /// is refused. `--shards` goes before the file's.
    #[arg(
        long = "options",
        value_name = "FILE",
        conflicts_with_all = ["engine", "sync_method", "segment_size", "depth"]
    )]
    file: Option<PathBuf>,

    /// What the kernel is asked with: io_uring, synchronous calls, or the first if it can be had
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto")]
    engine: EngineName,

    /// How a batch becomes durable: a write with RWF_DSYNC, an fdatasync after the write, one linked to it, or the
    /// fastest of them here
    ///
    /// `auto` begins with `dsync`, measures for a moment beside the log when nothing is in flight, takes the answer up with
    /// the next segment, and remembers it in the log's directory. Remove `SYNC-METHOD` there to forget it.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto")]
    sync_method: SyncName,

    /// Size of a segment file
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size)]
    segment_size: u64,

    /// Batches of a shard that may be in flight at once
    #[arg(long, value_name = "N", default_value_t = 8)]
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
    Auto,
    Dsync,
    AfterWrite,
    Linked,
}

impl Tuning {
    /// Options for a log of `shards` shards; of `default_shards` if neither this nor the file says how many.
    pub(crate) fn options(
        &self,
        place: &Place,
        shards: Option<u16>,
        default_shards: u16,
    ) -> Result<Options, Trouble> {
        let options = match &self.file {
            Some(file) => of_file(file, place, default_shards)?,
            None => self.of_flags(place).shards(default_shards),
        };
        Ok(match shards {
            Some(shards) => options.shards(shards),
            None => options,
        })
    }

    fn of_flags(&self, place: &Place) -> Options {
        // What a segment can hold bounds the rest.
        let room = self.segment_size.saturating_sub(2 * BLOCK);
        let max_batch = room.min(MAX_BATCH);
        // A block is more than a batch's and an entry's headers.
        let max_record = max_batch.saturating_sub(BLOCK).clamp(1, MAX_RECORD);
        let options = Options::new(&place.dir)
            .depth(self.depth)
            .segment_len(self.segment_size)
            .first_segment_len(self.segment_size.min(FIRST_SEGMENT))
            .max_batch(bytes(max_batch))
            .write_len(bytes(max_batch.min(WRITE) / BLOCK * BLOCK))
            .max_record(bytes(max_record));
        let options = options.engine(match self.engine {
            EngineName::Auto => Engine::Auto,
            EngineName::Uring => Engine::Uring,
            EngineName::Blocking => Engine::Blocking,
        });
        options.sync_method(match self.sync_method {
            SyncName::Auto => SyncMethod::Auto,
            SyncName::Dsync => SyncMethod::Dsync,
            SyncName::AfterWrite => SyncMethod::AfterWrite,
            SyncName::Linked => SyncMethod::Linked,
        })
    }

    /// Whether a ring of this engine may be used.
    pub(crate) fn allows(&self, engine: Engine) -> bool {
        match self.engine {
            EngineName::Auto => true,
            EngineName::Uring => engine == Engine::Uring,
            EngineName::Blocking => engine == Engine::Blocking,
        }
    }

    /// The same options, for another process of this program.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        if let Some(file) = &self.file {
            return vec!["--options".into(), file.into()];
        }
        let name = |value: Option<PossibleValue>| {
            value.map(|it| it.get_name().to_owned()).unwrap_or_default()
        };
        let arguments = [
            format!("--engine={}", name(self.engine.to_possible_value())),
            format!("--sync-method={}", name(self.sync_method.to_possible_value())),
            format!("--segment-size={}", self.segment_size),
            format!("--depth={}", self.depth),
        ];
        arguments.map(OsString::from).into()
    }
}

/// What somebody else's log is opened with: its segments stay as they are.
pub(crate) fn of_the_log(place: &Place) -> Result<Options, Trouble> {
    let options = Options::new(&place.dir);
    match Shape::read(&options)? {
        None => Err(RecoverError::NoLog { dir: place.dir.clone() }.into()),
        Some(shape) => Ok(options.shape(&shape)),
    }
}

/// The shard that was asked for, if one was, must be one of those that the log has.
pub(crate) fn check_shard(
    wanted: Option<u16>,
    known: impl Iterator<Item = ShardId>,
) -> Result<(), Trouble> {
    let known: BTreeSet<ShardId> = known.collect();
    match wanted {
        Some(wanted) if !known.contains(&ShardId(wanted)) => {
            let trouble = Trouble::world(format_args!("the log has no shard {wanted}"));
            Err(trouble.with(format_args!("it has {}", known.len())))
        }
        _ => Ok(()),
    }
}

/// The same; without a manifest the segments say which shards there are.
pub(crate) fn check_surveyed_shard(wanted: Option<u16>, survey: &Survey) -> Result<(), Trouble> {
    let shards = survey.shards().iter().map(|it| it.shard);
    check_shard(wanted, shards.chain(survey.segments().iter().map(|it| it.shard)))
}

fn of_file(file: &Path, place: &Place, default_shards: u16) -> Result<Options, Trouble> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Trouble::world(format_args!("cannot read {}: {error}", file.display())))?;
    let refused = |why: &dyn fmt::Display| {
        Trouble::new(Exit::Usage, format_args!("{}: {why}", file.display()))
    };
    let options = Options::new(&place.dir).shards(default_shards);
    let options = options.with_toml(&text).map_err(|error| refused(&error))?;
    if options.dir() != place.dir {
        return Err(refused(&"option dir names another directory than --dir"));
    }
    Ok(options)
}

fn bytes(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
