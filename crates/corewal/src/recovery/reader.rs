//! A log read without its lock, also beside its writer.

use corewal_format::ShardId;

use crate::error::RecoverError;
use crate::layout::Layout;
use crate::recovery::merge::Merge;
use crate::recovery::snapshot::{Refused, Scan, Snapshot, Sync};
use crate::recovery::{Entry, Report, ShardReader};
use crate::{Options, RecoverError::NoLog};

/// How often damage is looked at again while the log's manifest changes.
const ATTEMPTS: usize = 8;

/// The entries of a log as they were when the reader was made. Changes nothing, takes no lock.
///
/// Beside a live writer the stream ends where its batches were complete at that moment. Its last entries are
/// written, and may not yet be durable.
#[derive(Debug)]
pub struct LogReader {
    layout: Layout,
    snapshot: Snapshot,
    merge: Merge,
    report: Report,
}

impl LogReader {
    /// Reads and judges the log; see [`Log::read`](crate::Log::read).
    pub(crate) fn start(options: &Options) -> Result<Self, RecoverError> {
        let started = std::time::Instant::now();
        let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
        let snapshot =
            take(&layout, Scan::of(options))?.ok_or(NoLog { dir: layout.dir.clone() })?;
        let mut report = snapshot.report();
        report.took = started.elapsed();
        let merge = Merge::new(snapshot.streams(&layout));
        Ok(Self { layout, snapshot, merge, report })
    }

    /// One shard of what this reader has judged, from any seq on; `None` for an unknown shard. Independent of the
    /// merged stream and of other such readers, so that shards can be replayed in parallel.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<ShardReader> {
        let spans = self.snapshot.spans(&self.layout, shard)?;
        Some(ShardReader::new(spans, self.report.committed_epoch))
    }

    /// Every shard of what this reader has judged, retired ones too.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardReader> {
        self.report.shards.iter().filter_map(|it| self.shard(it.shard)).collect()
    }

    /// The next entry of the merged stream, borrowed from the reader's memory.
    ///
    /// # Errors
    /// [`RecoverError::Damaged`] if a batch below a recorded end does not verify. Every further call returns
    /// the same error.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, RecoverError> {
        let committed = self.report.committed_epoch;
        Ok(self.merge.advance()?.map(|stream| Entry::of(stream, committed)))
    }

    /// What was found.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// Damage counts only if it is seen twice in one place under one manifest: the log may have been opened,
/// closed or rotated while it was read.
pub(crate) fn take(layout: &Layout, scan: Scan) -> Result<Option<Snapshot>, RecoverError> {
    let mut seen = None;
    for _ in 0..ATTEMPTS {
        let refused = match Snapshot::try_take(layout, Sync::Never, scan) {
            Ok(snapshot) => return Ok(snapshot),
            Err(refused) => refused,
        };
        let now = fingerprint(&refused);
        if seen.as_ref() == Some(&now) {
            return Err(absent(layout, refused.error));
        }
        seen = Some(now);
    }
    Snapshot::take(layout, Sync::Never, scan).map_err(|error| absent(layout, error))
}

fn fingerprint(refused: &Refused) -> (corewal_format::Generation, String) {
    (refused.generation, refused.error.to_string())
}

/// A directory that is not there is no log.
fn absent(layout: &Layout, error: RecoverError) -> RecoverError {
    match &error {
        RecoverError::Io(fault)
            if fault.cause.kind() == std::io::ErrorKind::NotFound && fault.path == layout.dir =>
        {
            NoLog { dir: layout.dir.clone() }
        }
        _ => error,
    }
}
