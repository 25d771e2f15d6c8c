//! The log under test: opened as a variant says, and reopened in the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use corewal::{
    AppendError, Durable, Engine, Kind, Log, Options, Preparing, RingFacts, ShardWriter, Stamp,
    SyncMethod, Turn,
};
use corewal_benches::Anything;
use corewal_benches::record::Check;

/// How corewal is set up: `corewal`, and settings behind it, such as `corewal-blocking` or `corewal-depth32`.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    settings: Vec<Setting>,
}

#[derive(Clone, Copy, Debug)]
enum Setting {
    Engine(Engine),
    Sync(SyncMethod),
    Depth(usize),
    BlockLen(u32),
    WriteLen(usize),
}

impl Setting {
    fn parse(text: &str) -> Option<Self> {
        let number = |prefix: &str| text.strip_prefix(prefix)?.parse::<usize>().ok();
        Some(match text {
            "uring" => Self::Engine(Engine::Uring),
            "blocking" => Self::Engine(Engine::Blocking),
            "auto" => Self::Sync(SyncMethod::Auto),
            "linked" => Self::Sync(SyncMethod::Linked),
            "afterwrite" => Self::Sync(SyncMethod::AfterWrite),
            _ => {
                if let Some(depth) = number("depth") {
                    Self::Depth(depth)
                } else if let Some(len) = number("block") {
                    Self::BlockLen(u32::try_from(len).ok()?)
                } else {
                    Self::WriteLen(number("write")? << 10)
                }
            }
        })
    }
}

impl Variant {
    pub(crate) fn parse(way: &str) -> Option<Self> {
        let mut parts = way.split('-');
        if parts.next() != Some("corewal") {
            return None;
        }
        let settings = parts.map(Setting::parse).collect::<Option<_>>()?;
        Some(Self { settings })
    }

    /// Default options, but for the method, so that nothing is measured beside the measurement; and the settings.
    pub(crate) fn options(&self, dir: &Path) -> Options {
        let options = Options::new(dir).sync_method(SyncMethod::Dsync);
        self.settings.iter().fold(options, |options, setting| match *setting {
            Setting::Engine(engine) => options.engine(engine),
            Setting::Sync(method) => options.sync_method(method),
            Setting::Depth(depth) => options.depth(depth),
            Setting::BlockLen(bytes) => options.block_len(bytes),
            Setting::WriteLen(bytes) => options.write_len(bytes),
        })
    }

    /// With one segment for all that a shard will write, zeroed before anything is measured, as the files of the
    /// floors are.
    pub(crate) fn prepared(&self, dir: &Path, room: u64) -> Options {
        self.options(dir)
            .preparing(Preparing::Manual)
            .first_segment_len(room)
            .segment_len(room.max(64 << 20))
            .prepared_ahead(1)
    }
}

/// A log with one shard, its writer, and a directory that goes away.
pub(crate) struct LogUnderTest {
    pub(crate) writer: ShardWriter,
    log: Log,
    dir: tempfile::TempDir,
    /// Of the prepared space, in bytes.
    room: u64,
}

impl LogUnderTest {
    pub(crate) fn open(variant: &Variant, dir: &Path, room: u64) -> Result<Self, Anything> {
        let dir = tempfile::tempdir_in(dir)?;
        let mut log = Log::recover(variant.prepared(&dir.path().join("log"), room))?.open()?;
        let writer = log.take_seats().remove(0).sit()?;
        Ok(Self { writer, log, dir, room })
    }

    /// Whether `margin` bytes more may not fit into what is prepared.
    pub(crate) fn is_full(&self, margin: u64) -> bool {
        self.writer.stats().batch_bytes + margin >= self.room
    }

    /// Becomes ready when an entry is durable; not before a turn.
    pub(crate) fn durable(&self, stamp: Stamp) -> Durable {
        self.log.durable(stamp)
    }

    /// Closes and reopens the log, and finds `acknowledged` records of each producer.
    pub(crate) fn verify(self, record_len: usize, acknowledged: &[u64]) -> Result<u64, Anything> {
        self.writer.close()?;
        self.log.close()?;
        find(&self.dir.path().join("log"), record_len, acknowledged)
    }
}

/// Recovers a log, and finds `acknowledged` records of each producer.
pub(crate) fn find(dir: &Path, record_len: usize, acknowledged: &[u64]) -> Result<u64, Anything> {
    let mut recovery = Log::recover(Options::new(dir))?;
    let mut check = Check::new(u32::try_from(acknowledged.len())?, record_len);
    while let Some(entry) = recovery.next_entry()? {
        if entry.kind() != Kind::BARRIER {
            check.see(entry.bytes())?;
        }
    }
    Ok(check.end(acknowledged)?)
}

/// Appends, and turns or sleeps while the shard is full.
pub(crate) fn append(writer: &mut ShardWriter, bytes: &[u8]) -> Result<Stamp, Anything> {
    loop {
        match writer.append_bytes(Kind::PUT, bytes) {
            Ok(stamp) => return Ok(stamp),
            Err(AppendError::Full) => {
                if writer.turn()? != Turn::Again {
                    // Segments that are being prepared tell nobody; so look again.
                    writer.sleep(Some(Duration::from_micros(200)))?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// How batches become durable, in words.
pub(crate) fn method(facts: RingFacts, variant: &Variant) -> String {
    let RingFacts { engine, flags, registered_files, registered_blocks, .. } = facts;
    let sync = variant.settings.iter().rev().find_map(|it| match it {
        Setting::Sync(method) => Some(*method),
        _ => None,
    });
    let blocks = if registered_blocks.is_ok() { "registered" } else { "plain" };
    let files = if registered_files { "registered" } else { "plain" };
    let sync = sync.unwrap_or(SyncMethod::Dsync);
    // The synchronous engine has no flags.
    let flags = if flags.is_empty() { String::new() } else { format!(", {}", flags.join(" ")) };
    format!("{engine:?} {sync:?}{flags}, files {files}, blocks {blocks}")
}

/// The file of flights, as lines.
pub(crate) fn flights() -> Result<String, Anything> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/corewal-stream/data/flights-20k.ndjson");
    Ok(std::fs::read_to_string(path)?)
}
