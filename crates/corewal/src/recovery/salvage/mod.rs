//! Salvage: what a damaged log still holds, kept; what it has lost, named; nothing deleted.
//!
//! A recovery refuses a log of which something acknowledged is missing. A salvage is the way on that somebody
//! asks for: [`plan`] looks at every block and changes nothing; [`Salvage::carry_out`] then copies what is
//! damaged into a folder of the log, and writes one manifest that ends every run, leaves out what does not
//! verify, and keeps every batch that does, also behind a damaged place. What was torn stays torn.
//!
//! ```
//! use corewal::salvage::{self, SalvageError};
//! use corewal::{Kind, Log, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("log");
//! let mut log = Log::recover(Options::new(&dir))?.open()?;
//! let mut writer = log.take_seats().remove(0).sit()?;
//! for text in ["a", "b", "c"] {
//!     let stamp = writer.append_bytes(Kind::PUT, text.as_bytes())?;
//!     writer.wait(stamp)?;
//! }
//! writer.close()?;
//! log.close()?;
//! assert!(matches!(salvage::plan(&Options::new(&dir)), Err(SalvageError::Sound)));
//!
//! // The second batch rots.
//! let path = dir.join("shard-0000/0000000001.seg");
//! let mut bytes = std::fs::read(&path)?;
//! bytes[3 * 4096 + 130] ^= 1;
//! std::fs::write(&path, bytes)?;
//!
//! let plan = salvage::plan(&Options::new(&dir))?;
//! assert_eq!(plan.report().lost.len(), 1);
//! plan.carry_out()?;
//! let mut reader = Log::read(Options::new(&dir))?;
//! assert_eq!(reader.next_entry()?.unwrap().bytes(), b"a");
//! assert_eq!(reader.next_entry()?.unwrap().bytes(), b"c");
//! # Ok(())
//! # }
//! ```

mod aside;
mod base;
mod report;
mod scan;
mod shards;
mod sift;

use std::collections::BTreeSet;
use std::path::PathBuf;

use corewal_disk::Lock;
use corewal_format::{
    Epoch, Generation, Kind, MAX_MANIFEST_LEN, Manifest, ManifestFault, SegmentHeader,
    SegmentNumber, ShardId, Stamp,
};

use crate::error::{IoFault, RecoverError};
use crate::layout::Layout;
use crate::manifests::{self, ManifestWriter};
use crate::recovery::merge::Merge;
use crate::recovery::snapshot::{Extent, Scan, Snapshot, Sync};
use crate::recovery::stream::Selection;
use crate::recovery::take_lock;
use crate::{Options, OptionsError};

pub use base::{ManifestTrouble, Origin};
pub use report::{BrokenBatch, Kept, Lost, Report, Restored, Restoring};

use base::Base;
use shards::Survey;

/// How far numbers jump where nobody knows how much was given out: no shard counts that far between two looks at
/// its end.
const UNKNOWN_LOSS: u64 = 1 << 32;

/// Why a log is not salvaged.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// The options cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A recovery takes the log as it is.
    #[error("nothing to repair: the log recovers without damage")]
    Sound,
    /// Locked, or not there; or the system failed. A device that cannot read a file is to be replaced first:
    /// copy the log to a good one, with zeros for what cannot be read, and salvage the copy.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A file of a later version of the format: that version knows more of it.
    #[error("{} is of a later version of the format: repair it with a later version of this program", path.display())]
    LaterVersion {
        /// The file.
        path: PathBuf,
    },
    /// No manifest can be read and no segment has a header: nothing says which log this is.
    #[error("no manifest can be read, and no segment says which log it belongs to")]
    NoEvidence,
    /// What was found contradicts itself, so that no manifest can describe it.
    #[error("what was found fits into no manifest: {0}")]
    Contradiction(ManifestFault),
    /// The manifest would be larger than any reader takes.
    #[error("the manifest would have {0} bytes, which is too much")]
    ManifestTooLarge(usize),
    /// The salvage is done, and the log is still refused.
    #[error("the log is still refused: {0}")]
    Remains(RecoverError),
}

impl From<IoFault> for SalvageError {
    fn from(fault: IoFault) -> Self {
        Self::Recover(fault.into())
    }
}

/// A plan of what a salvage does. Holds the log's lock; nothing is changed yet.
#[derive(Debug)]
pub struct Salvage {
    layout: Layout,
    lock: Lock,
    base: Base,
    next: Manifest,
    report: Report,
    headers: Vec<SegmentHeader>,
    short: Vec<SegmentHeader>,
}

/// An entry of a batch that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedEntry {
    /// Its place in the merged order.
    pub stamp: Stamp,
    /// What it is.
    pub kind: Kind,
    /// Its payload.
    pub bytes: Vec<u8>,
}

/// Locks the log in the options' directory, looks at all of it, and plans a salvage. Writes nothing but the lock
/// file.
///
/// # Errors
/// [`SalvageError::Sound`] if there is nothing to do; others of [`SalvageError`].
pub fn plan(options: &Options) -> Result<Salvage, SalvageError> {
    options.validate()?;
    let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
    let no_log = || RecoverError::NoLog { dir: options.dir.clone() };
    if let Err(fault) = layout.list() {
        let is_absent = fault.cause.kind() == std::io::ErrorKind::NotFound;
        return Err(if is_absent { no_log().into() } else { fault.into() });
    }
    let lock = take_lock(&layout, options)?;
    manifests::sync(&layout)?;
    match verify(&layout, Scan::of(options)) {
        Ok(Verified::Sound) => return Err(SalvageError::Sound),
        Ok(Verified::Nothing) => return Err(no_log().into()),
        Err(RecoverError::Damaged(_) | RecoverError::Manifest { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let listing = layout.list()?;
    let base = base::find(&layout, &listing)?;
    let survey = Survey::take(&layout, &listing, &base.manifest)?;
    let found = survey.settle(base.origin);
    let next = next_manifest(&base, &found, options);
    next.validate().map_err(SalvageError::Contradiction)?;
    if next.encoded_len() > MAX_MANIFEST_LEN {
        return Err(SalvageError::ManifestTooLarge(next.encoded_len()));
    }
    let (headers, short, restored) = restore(&survey, &found, options);
    let generation = match base.origin {
        // Neither slot holds anything: both are written.
        Origin::Segments => base.manifest.generation.next().next(),
        Origin::Newest(_) | Origin::Survivor(_) => base.manifest.generation.next(),
    };
    let report = Report {
        log: base.manifest.log,
        origin: base.origin,
        manifests: base.troubles.clone(),
        generation,
        folder: layout.salvage(generation),
        copies: copies(&layout, &base, &found.touched),
        restored,
        lost: found.lost,
        kept: found.kept,
        committed_before: found.committed,
        committed_after: next.committed_epoch,
    };
    Ok(Salvage { layout, lock, base, next, report, headers, short })
}

/// What a recovery would say.
enum Verified {
    Sound,
    Nothing,
}

fn verify(layout: &Layout, scan: Scan) -> Result<Verified, RecoverError> {
    let Some(snapshot) = Snapshot::take(layout, Sync::First, scan, Extent::End)? else {
        return Ok(Verified::Nothing);
    };
    let mut merge = Merge::new(snapshot.streams(layout, Selection::ALL));
    while merge.advance()?.is_some() {}
    Ok(Verified::Sound)
}

/// The manifest that ends every run, and speaks of nothing that is lost.
fn next_manifest(base: &Base, found: &shards::Found, options: &Options) -> Manifest {
    let old = &base.manifest;
    let checkpoint = old.checkpoint.as_ref().map_or(Epoch(0), |it| it.epoch);
    // What is up to the checkpoint is held elsewhere.
    let lost = found.first_lost_epoch.map_or(found.committed, Epoch::before);
    let seen = old.first_epoch.max(found.seen_epoch).max(found.committed.next());
    let jump = if found.is_open_ended { UNKNOWN_LOSS } else { 0 };
    Manifest {
        log: old.log,
        generation: old.generation,
        incarnation: old.incarnation.max(found.incarnation),
        committed_epoch: found.committed.min(lost).max(checkpoint),
        first_epoch: Epoch(seen.0.saturating_add(jump)),
        pipeline_bound: match base.origin {
            Origin::Segments => options.pipeline_bound,
            Origin::Newest(_) | Origin::Survivor(_) => old.pipeline_bound,
        },
        checkpoint: old.checkpoint.clone(),
        shards: found.records.clone(),
    }
}

/// Every manifest that is there, and the segments that are touched.
fn copies(
    layout: &Layout,
    base: &Base,
    touched: &BTreeSet<(ShardId, SegmentNumber)>,
) -> Vec<PathBuf> {
    let is_there =
        |path: &PathBuf| !base.troubles.iter().any(|it| it.path == *path && it.cause.is_none());
    let slots = [Generation(0), Generation(1)].map(|slot| layout.manifest(slot));
    let manifests = slots.into_iter().filter(is_there);
    manifests.chain(touched.iter().map(|&(shard, it)| layout.segment(shard, it))).collect()
}

/// Segments of what is kept that have no header, or not their length.
fn restore(
    survey: &Survey<'_>,
    found: &shards::Found,
    options: &Options,
) -> (Vec<SegmentHeader>, Vec<SegmentHeader>, Vec<Restored>) {
    let (mut headers, mut short, mut restored) = (Vec::new(), Vec::new(), Vec::new());
    for (shard, scan) in survey.scans() {
        let is_kept = found.records.iter().filter(|it| it.shard == shard).any(|record| {
            let mut runs = record.runs.iter();
            runs.any(|run| (run.first_segment..=run.last_segment).contains(&scan.number))
        });
        let Some(fault) = scan.fault.clone().filter(|_| is_kept) else { continue };
        let segment = scan.number;
        match scan.header {
            None if scan.needs_header() => {
                let (header, like) = survey.header_for(shard, scan, options);
                headers.push(header);
                let how = Restoring::Header { like };
                restored.push(Restored { shard, segment, fault, how });
            }
            Some(header) if scan.file_len < header.segment_len => {
                short.push(header);
                let how = Restoring::Length;
                restored.push(Restored { shard, segment, fault, how });
            }
            _ => {}
        }
    }
    (headers, short, restored)
}

impl Salvage {
    /// What is going to be done, and what is lost.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The entries of a batch that is given up whose own checksums hold. They are no part of the log afterwards:
    /// a batch counts only whole, and some of them may belong to an atomic group that is not.
    ///
    /// # Errors
    /// [`SalvageError::Recover`] if the file cannot be read.
    pub fn intact_entries(&self, batch: &BrokenBatch) -> Result<Vec<SavedEntry>, SalvageError> {
        let bytes = scan::batch_bytes(&self.layout, &batch.header)?;
        let entries = batch.header.intact_entries(self.report.log, &bytes);
        let saved = entries.map(|entry| SavedEntry {
            stamp: entry.stamp,
            kind: entry.kind,
            bytes: entry.payload().to_vec(),
        });
        Ok(saved.collect())
    }

    /// Copies what is damaged aside, puts headers right, and writes the manifest. Nothing is deleted. A crash on
    /// the way leaves the log as damaged as it was, or salvaged; then plan again.
    ///
    /// # Errors
    /// [`SalvageError::Recover`] if the system failed, [`SalvageError::Remains`] if the log is refused for
    /// another reason afterwards.
    pub fn carry_out(self) -> Result<Report, SalvageError> {
        let Self { layout, lock, base, next, report, headers, short } = self;
        aside::copy_all(&layout, &report.folder, &report.copies)?;
        for header in &headers {
            aside::write_header(&layout, header)?;
        }
        for header in &short {
            aside::lengthen(&layout, header)?;
        }
        let mut writer = ManifestWriter::after(layout.clone(), base.manifest);
        if base.origin == Origin::Segments {
            writer.write(next.clone()).map_err(IoFault::from)?;
        }
        writer.write(next).map_err(IoFault::from)?;
        let verified = verify(&layout, Scan::InTurn);
        drop(lock);
        match verified {
            Ok(_) => Ok(report),
            Err(error @ (RecoverError::Damaged(_) | RecoverError::Manifest { .. })) => {
                Err(SalvageError::Remains(error))
            }
            Err(error) => Err(error.into()),
        }
    }
}
