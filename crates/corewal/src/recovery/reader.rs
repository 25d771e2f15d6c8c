//! A log read without its lock, also beside its writer.

use corewal_format::{Checkpoint, ShardId, ShardRecord};

use crate::error::RecoverError;
use crate::layout::Layout;
use crate::manifests::{self, Found};
use crate::recovery::merge::Merge;
use crate::recovery::snapshot::{Extent, Refused, Scan, Snapshot, Sync};
use crate::recovery::stream::Selection;
use crate::recovery::{Entry, Report, ShardReader};
use crate::{Options, RecoverError::NoLog};

/// How often the log may change while one reading of it fails.
const ATTEMPTS: usize = 64;

/// The entries of a log as they were when the reader was made. Changes nothing, takes no lock.
///
/// Beside a live writer the stream ends where its batches were complete at that moment. Its last entries are
/// written, and may not yet be durable. What is released while it reads it may miss: a [`Pin`](crate::Pin)
/// prevents that, and else it is told by [`RecoverError::Released`].
#[derive(Debug)]
pub struct LogReader {
    layout: Layout,
    snapshot: Snapshot,
    merge: Merge,
    report: Report,
    checkpoint: Option<Checkpoint>,
    /// What the first failure turned out to be.
    refused: Option<RecoverError>,
}

impl LogReader {
    /// Reads and judges the log; see [`Log::read`](crate::Log::read).
    pub(crate) fn start(options: &Options) -> Result<Self, RecoverError> {
        let started = std::time::Instant::now();
        let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
        let snapshot = take(&layout, Scan::of(options), Extent::End)?
            .ok_or(NoLog { dir: layout.dir.clone() })?;
        let mut report = snapshot.report();
        report.took = started.elapsed();
        let merge = Merge::new(snapshot.streams(&layout, Selection::ALL));
        let checkpoint = snapshot.manifest.checkpoint.clone();
        Ok(Self { layout, snapshot, merge, report, checkpoint, refused: None })
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
    /// [`RecoverError::Released`] if the log has let go of it meanwhile; [`RecoverError::Damaged`] if a batch
    /// does not verify that lies below a recorded end, or below the last that is promised to be durable. Every
    /// further call returns the same error.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, RecoverError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        match self.merge.advance() {
            Ok(Some(_)) => {}
            Ok(None) => self.report.complete(&self.merge),
            Err(error) => {
                let error = self.explain(error);
                self.refused = Some(error.clone());
                return Err(error);
            }
        }
        let committed = self.report.committed_epoch;
        Ok(self.merge.current().map(|stream| Entry::of(stream, committed)))
    }

    /// What was found. What is counted while the stream is read is complete when it has been read to its end.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The last checkpoint when the reader was made; as [`Recovery::checkpoint`](crate::Recovery::checkpoint).
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// What does not verify is damage only if the newest manifest still keeps it.
    fn explain(&self, error: RecoverError) -> RecoverError {
        let RecoverError::Damaged(damage) = &error else { return error };
        let shard = damage.at.shard;
        let newest = self.layout.list().ok().and_then(|listing| {
            match manifests::read(&self.layout, &listing) {
                Ok(Found::Log(manifest)) => Some(manifest),
                Ok(Found::Nothing) | Err(_) => None,
            }
        });
        let (Some(newest), Some(seq)) = (newest, self.merge.next_seq(shard)) else { return error };
        let keeps = |record: &ShardRecord| {
            let mut runs = record.runs.iter();
            runs.any(|run| (run.first_seq..=run.last_kept_seq).contains(&seq))
                || record.current.is_some_and(|current| current.first_seq <= seq)
        };
        if newest.generation == self.report.generation || newest.shard(shard).is_some_and(keeps) {
            return error;
        }
        RecoverError::Released { shard, seq }
    }
}

/// Damage counts only if it is seen twice in one place under one manifest, which is still the newest then: the
/// log may have been opened, closed, rotated or released while it was read.
pub(crate) fn take(
    layout: &Layout,
    scan: Scan,
    extent: Extent,
) -> Result<Option<Snapshot>, RecoverError> {
    let mut seen = None;
    for _ in 0..ATTEMPTS {
        let refused = match Snapshot::try_take(layout, Sync::Never, scan, extent) {
            // Under an older manifest, a run that a truncation has ended would seem to go on in the next one.
            Ok(Some(snapshot)) if is_older(layout, &snapshot) => continue,
            Ok(snapshot) => return Ok(snapshot),
            Err(refused) => refused,
        };
        let now = fingerprint(&refused);
        if seen.as_ref() == Some(&now) && !is_outdated(layout, &refused) {
            return Err(absent(layout, refused.error));
        }
        seen = Some(now);
    }
    Err(RecoverError::Changing { dir: layout.dir.clone() })
}

/// Whether there is a newer manifest than the one that was read.
fn is_older(layout: &Layout, snapshot: &Snapshot) -> bool {
    let newest = layout.list().map(|listing| manifests::read(layout, &listing));
    match newest {
        Ok(Ok(Found::Log(newest))) => newest.generation != snapshot.manifest.generation,
        Ok(Ok(Found::Nothing) | Err(_)) | Err(_) => false,
    }
}

fn fingerprint(refused: &Refused) -> (corewal_format::Generation, String) {
    (refused.generation, refused.error.to_string())
}

/// Whether there is a newer manifest than the one that was read first.
fn is_outdated(layout: &Layout, refused: &Refused) -> bool {
    if !matches!(refused.error, RecoverError::Damaged(_)) {
        return false;
    }
    let listing = layout.list().unwrap_or_default();
    match manifests::read(layout, &listing) {
        Ok(Found::Log(manifest)) => manifest.generation != refused.generation,
        Ok(Found::Nothing) | Err(_) => false,
    }
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
