//! What the user wants to be called for, off the way of every append.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corewal_format::{Epoch, SegmentNumber, Seq, ShardId};

use crate::prepare::Bell;
use crate::shared::Shared;

/// How long an archive rests that has failed.
const ARCHIVE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A segment that is durable to its end and is not written any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedSegment {
    /// Its shard.
    pub shard: ShardId,
    /// Its number.
    pub segment: SegmentNumber,
    /// Its file.
    pub path: PathBuf,
    /// The last seq up to its end.
    pub last_seq: Seq,
    /// The epoch of its last entry; 0 if it has none.
    pub last_epoch: Epoch,
}

type OnCheckpoint = Arc<dyn Fn(Epoch) + Send + Sync>;
type OnGrowth = Arc<dyn Fn(u64) + Send + Sync>;
type Archive = Arc<dyn Fn(&SealedSegment) -> io::Result<()> + Send + Sync>;

/// What is called when.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) checkpoint: Option<OnCheckpoint>,
    /// With the bytes from which on it is called.
    pub(crate) growth: Option<(u64, OnGrowth)>,
    pub(crate) archive: Option<Archive>,
}

impl Hooks {
    /// Whether anything is to be done by a thread of its own.
    pub(crate) fn want_thread(&self) -> bool {
        self.growth.is_some() || self.archive.is_some()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("checkpoint", &self.checkpoint.is_some())
            .field("growth", &self.growth.as_ref().map(|(limit, _)| limit))
            .field("archive", &self.archive.is_some())
            .finish()
    }
}

/// A user's panic is the user's: it ends the call, and nothing of the log.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Calls the hooks that something is to be told; true if nothing failed.
pub(crate) fn call(shared: &Shared) -> bool {
    let hooks = &shared.options.hooks;
    if let Some((limit, hook)) = &hooks.growth {
        let bytes = {
            let mut kept = shared.kept();
            let bytes = kept.growth();
            let was_told = std::mem::replace(&mut kept.is_growth_told, bytes >= *limit);
            (bytes >= *limit && !was_told).then_some(bytes)
        };
        if let Some(bytes) = bytes {
            contained(|| hook(bytes));
        }
    }
    let Some(archive) = &hooks.archive else { return true };
    loop {
        // Not archived, so it is not released meanwhile.
        let next = shared.kept().next_to_archive();
        let Some((shard, piece)) = next else { return true };
        if shared.hook_bell.is_stopped() {
            return true;
        }
        for number in piece.first.0..=piece.last.0 {
            let segment = SegmentNumber(number);
            let path = shared.recipe.layout.segment(shard, segment);
            let (last_seq, last_epoch) = (piece.last_seq, piece.last_epoch);
            let sealed = SealedSegment { shard, segment, path, last_seq, last_epoch };
            let said = contained(|| archive(&sealed));
            if let Some(Ok(())) = said {
                continue;
            }
            let why = match said {
                Some(Err(error)) => error.to_string(),
                _ => "it panicked".to_owned(),
            };
            shared.kept().archive_fault = Some(format!("{}: {why}", sealed.path.display()));
            return false;
        }
        shared.kept().set_archived(shard, &piece);
    }
}

/// The thread that calls the hooks.
pub(crate) fn run(shared: &Shared) {
    let bell: &Bell = &shared.hook_bell;
    loop {
        let patience = if call(shared) { None } else { Some(ARCHIVE_AGAIN_AFTER) };
        if !bell.wait(patience) {
            return;
        }
    }
}
