//! Looking into a log: its manifest, its segments and batches, and what is damaged.
//!
//! Takes no lock and changes nothing, also beside a live writer; and, other than a recovery, does not stop at
//! damage: it names it, and gives what can be read.
//!
//! ```
//! use corewal::inspect::{Inspection, SegmentState};
//! use corewal::{Kind, Log, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("log");
//! let mut log = Log::recover(Options::new(&dir))?.open()?;
//! let mut writer = log.take_seats().remove(0).sit()?;
//! let stamp = writer.append_bytes(Kind::PUT, b"an event")?;
//! writer.wait(stamp)?;
//!
//! let inspection = Inspection::read(&Options::new(&dir))?;
//! assert!(inspection.damage().is_empty());
//! assert_eq!(inspection.segments()[0].state, SegmentState::Current);
//! let mut batches = inspection.batches();
//! while let Some(batch) = batches.next_batch()? {
//!     for entry in batch.entries() {
//!         println!("{} {:?}", entry.stamp, entry.payload());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod shape;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use corewal_format::{Epoch, Seq, ShardId};

use crate::Options;
use crate::error::{IoFault, RecoverError};
use crate::layout::{Layout, Listing};
use crate::manifests::{self, Found};
use crate::method;
use crate::recovery::{
    Cursor, Extent, Opened, Scan, ShardStream, Span, Step, Walker, judged, open_segment,
};

pub use corewal_format::{
    BatchFault, BatchFlags, BatchHeader, BodyFault, Checkpoint, CurrentRun, EntryFlags, EntryView,
    Manifest, ManifestFault, RkyvLayout, Run, SegmentFault, SegmentHeader, SegmentNumber,
    ShardRecord, Void, VoidCause,
};

pub use self::shape::{SegmentShape, Shape};
pub use crate::method::Remembered;
pub use crate::recovery::Report;
pub use crate::survey::{
    Content, Finding, Gap, HeaderCopy, Proof, Stretch, Survey, SurveyedRun, SurveyedSegment,
    SurveyedShard,
};

/// How often a log is looked at again because its manifest changed meanwhile.
const ATTEMPTS: usize = 8;

/// What stands in a log.
#[derive(Debug)]
pub struct Inspection {
    layout: Layout,
    manifest: Option<Manifest>,
    report: Option<Report>,
    segments: Vec<SegmentFacts>,
    damage: Vec<RecoverError>,
    remembered: Option<Remembered>,
    salvages: Vec<PathBuf>,
    foreign: Vec<PathBuf>,
}

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentFacts {
    /// Whose it is.
    pub shard: ShardId,
    /// Its number.
    pub number: SegmentNumber,
    /// What it is to the log.
    pub state: SegmentState,
    /// Its header, or why there is none.
    pub header: Result<SegmentHeader, SegmentFault>,
    /// Size of the file, in bytes.
    pub file_len: u64,
    /// Batches in it that belong to the log's runs.
    pub batch_count: u64,
    /// Entries of those batches.
    pub entry_count: u64,
    /// Bytes of those batches, with headers and padding.
    pub batch_len: u64,
    /// The seqs of its first and its last entry; none without an entry.
    pub seqs: Option<(Seq, Seq)>,
    /// The epochs of its first and its last batch; none without a batch.
    pub epochs: Option<(Epoch, Epoch)>,
}

/// What a segment is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentState {
    /// Part of a run that has ended.
    Ended,
    /// Part of the run that is being written.
    Current,
    /// Ready for the run that is being written; no batch yet.
    Prepared,
    /// Of no run: prepared by an earlier incarnation, or beyond a run's end.
    Leftover,
    /// No manifest tells.
    Unknown,
}

/// The newest manifest of the log in the options' directory; none if there is no log.
///
/// # Errors
/// [`RecoverError::Manifest`] if the manifests do not verify or do not belong together; [`RecoverError::Io`].
pub fn manifest(options: &Options) -> Result<Option<Manifest>, RecoverError> {
    let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
    let listing = match layout.list() {
        Err(fault) if fault.cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        listing => listing?,
    };
    Ok(match manifests::read(&layout, &listing)? {
        Found::Log(manifest) => Some(*manifest),
        Found::Nothing => None,
    })
}

/// What was measured of the device when the log in the options' directory was open, and is remembered for the next
/// opening with [`SyncMethod::Auto`](crate::SyncMethod::Auto); none if nothing was, or the file does not verify.
///
/// ```
/// use corewal::{Options, inspect};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// match inspect::remembered(&Options::new(dir)) {
///     Some(answer) => println!("{:?} is fastest on {}", answer.method, answer.device),
///     None => println!("nothing is known of the device"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn remembered(options: &Options) -> Option<Remembered> {
    method::load(&Layout { disk: options.disk.clone(), dir: options.dir.clone() })
}

impl Inspection {
    /// Reads the whole log. Of the options, the directory and the disk count.
    ///
    /// # Errors
    /// [`RecoverError::NoLog`] if there is none, [`RecoverError::Io`] if the system failed. Damage is no error
    /// here: [`damage`](Self::damage) has it.
    pub fn read(options: &Options) -> Result<Self, RecoverError> {
        let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
        let mut attempts = 0;
        loop {
            let inspection = Self::attempt(layout.clone())?;
            attempts += 1;
            // Beside a writer, what was recycled under a newer manifest is no damage.
            let generation =
                |manifest: &Option<Manifest>| manifest.as_ref().map(|it| it.generation);
            if inspection.damage.is_empty()
                || attempts == ATTEMPTS
                || generation(&manifest(options).ok().flatten()) == generation(&inspection.manifest)
            {
                return Ok(inspection);
            }
        }
    }

    fn attempt(layout: Layout) -> Result<Self, RecoverError> {
        let mut inspection = Self {
            manifest: None,
            report: None,
            segments: Vec::new(),
            damage: Vec::new(),
            remembered: method::load(&layout),
            salvages: Vec::new(),
            foreign: Vec::new(),
            layout,
        };
        let layout = &inspection.layout;
        let listing = match judged(layout, Scan::AtOnce, Extent::Whole) {
            Ok(None) => return Err(RecoverError::NoLog { dir: layout.dir.clone() }),
            Ok(Some(snapshot)) => {
                inspection.report = Some(snapshot.report());
                inspection.manifest = Some(snapshot.manifest);
                snapshot.listing
            }
            Err(error @ (RecoverError::Damaged(_) | RecoverError::Manifest { .. })) => {
                let listing = layout.list()?;
                if let Ok(Found::Log(manifest)) = manifests::read(layout, &listing) {
                    inspection.manifest = Some(*manifest);
                }
                inspection.damage.push(error);
                listing
            }
            Err(error) => return Err(error),
        };
        inspection.look_at(&listing)?;
        inspection.count()?;
        inspection.classify();
        inspection.salvages = listing.salvages;
        inspection.foreign = listing.foreign;
        Ok(inspection)
    }

    /// The newest manifest, if it can be read.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// What a recovery would report; none for a log that it would refuse.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Every segment file, by shard and number.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFacts] {
        &self.segments
    }

    /// What a recovery would refuse the log for: of the manifests and the runs that are being written the
    /// first reason, of the runs that have ended the first of each.
    #[must_use]
    pub fn damage(&self) -> &[RecoverError] {
        &self.damage
    }

    /// What is remembered of the device; see [`remembered`].
    #[must_use]
    pub fn remembered(&self) -> Option<&Remembered> {
        self.remembered.as_ref()
    }

    /// Folders in which a [`salvage`](crate::salvage) has put copies aside; nothing reads them.
    #[must_use]
    pub fn salvages(&self) -> &[PathBuf] {
        &self.salvages
    }

    /// What lies in the directory and does not belong to a log.
    #[must_use]
    pub fn foreign(&self) -> &[PathBuf] {
        &self.foreign
    }

    /// The batches of the log's runs, shard by shard, in order.
    #[must_use]
    pub fn batches(&self) -> Batches<'_> {
        let mut runs = VecDeque::new();
        for record in self.manifest.iter().flat_map(|manifest| &manifest.shards) {
            runs.extend(record.runs.iter().map(|run| Walked::Ended(record.shard, run)));
            runs.extend(record.current.map(|run| Walked::Current(record.shard, run)));
        }
        Batches { inspection: self, runs, walk: None }
    }

    fn look_at(&mut self, listing: &Listing) -> Result<(), IoFault> {
        for (shard, numbers) in &listing.shards {
            for &number in numbers {
                let (header, file_len) = match open_segment(&self.layout, *shard, number)? {
                    // Recycled since the directory was listed.
                    Opened::Missing => continue,
                    Opened::Unreadable(fault, file) => {
                        let path = self.layout.segment(*shard, number);
                        let len = file.len();
                        (Err(fault), len.map_err(|cause| IoFault::new("stat", &path, cause))?)
                    }
                    Opened::Segment(open) => (Ok(open.header), open.file_len),
                };
                self.segments.push(SegmentFacts {
                    shard: *shard,
                    number,
                    state: SegmentState::Unknown,
                    header,
                    file_len,
                    batch_count: 0,
                    entry_count: 0,
                    batch_len: 0,
                    seqs: None,
                    epochs: None,
                });
            }
        }
        Ok(())
    }

    /// Counts the batches, and finds what is damaged in the runs that have ended.
    fn count(&mut self) -> Result<(), RecoverError> {
        let mut counts: BTreeMap<(ShardId, SegmentNumber), Count> = BTreeMap::new();
        let mut damage = Vec::new();
        let mut batches = self.batches();
        loop {
            match batches.next_batch() {
                Ok(None) => break,
                Ok(Some(Batch { header, .. })) => {
                    let count = counts.entry((header.shard, header.segment)).or_default();
                    count.take(&header);
                }
                Err(error @ RecoverError::Damaged(_)) => damage.push(error),
                Err(error) => return Err(error),
            }
        }
        self.damage.append(&mut damage);
        for segment in &mut self.segments {
            let count = counts.get(&(segment.shard, segment.number)).copied().unwrap_or_default();
            let Count { batches, entries, bytes, seqs, epochs } = count;
            (segment.batch_count, segment.entry_count, segment.batch_len) =
                (batches, entries, bytes);
            (segment.seqs, segment.epochs) = (seqs, epochs);
        }
        Ok(())
    }

    fn classify(&mut self) {
        let Some(manifest) = &self.manifest else { return };
        let is_accused = |segment: &SegmentFacts| {
            self.damage.iter().any(|error| match error {
                RecoverError::Damaged(damage) => {
                    damage.at.shard == segment.shard && segment.number <= damage.at.segment
                }
                _ => false,
            })
        };
        let state = |segment: &SegmentFacts| {
            let Some(record) = manifest.shard(segment.shard) else { return SegmentState::Leftover };
            let is_in =
                |run: &Run| (run.first_segment..=run.last_segment).contains(&segment.number);
            if record.runs.iter().any(is_in) {
                return SegmentState::Ended;
            }
            match record.current {
                Some(current) if segment.number >= current.first_segment => {
                    if segment.batch_count > 0 || is_accused(segment) {
                        SegmentState::Current
                    } else {
                        SegmentState::Prepared
                    }
                }
                _ => SegmentState::Leftover,
            }
        };
        let states: Vec<SegmentState> = self.segments.iter().map(state).collect();
        for (segment, state) in self.segments.iter_mut().zip(states) {
            segment.state = state;
        }
    }
}

/// What a segment's batches add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    batches: u64,
    entries: u64,
    bytes: u64,
    seqs: Option<(Seq, Seq)>,
    epochs: Option<(Epoch, Epoch)>,
}

impl Count {
    fn take(&mut self, header: &BatchHeader) {
        self.batches += 1;
        self.entries += u64::from(header.entry_count);
        self.bytes += header.disk_len();
        let first_epoch = self.epochs.map_or(header.epoch, |(first, _)| first);
        self.epochs = Some((first_epoch, header.epoch));
        if header.entry_count > 0 {
            let first_seq = self.seqs.map_or(header.first_seq, |(first, _)| first);
            self.seqs = Some((first_seq, header.last_seq()));
        }
    }
}

/// A run that is still to be walked.
#[derive(Debug)]
enum Walked<'a> {
    Ended(ShardId, &'a Run),
    Current(ShardId, CurrentRun),
}

/// Walks over the batches of a log's runs.
#[derive(Debug)]
pub struct Batches<'a> {
    inspection: &'a Inspection,
    runs: VecDeque<Walked<'a>>,
    walk: Option<Walk>,
}

#[derive(Debug)]
enum Walk {
    Ended(Box<ShardStream>, Seq),
    Current(Box<Walker>),
}

/// One batch; every byte of it verifies.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// Its header, with its promises.
    pub header: BatchHeader,
    /// Entries above this seq are void. None for a batch of the run that is being written.
    pub last_kept_seq: Option<Seq>,
    bytes: &'a [u8],
}

impl Batches<'_> {
    /// The next batch. A run that is being written ends at the first place that does not verify.
    ///
    /// # Errors
    /// [`RecoverError::Damaged`] inside a run that has ended; the next call goes on with the next run.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>, RecoverError> {
        let header = loop {
            if self.walk.is_none() {
                let Some(run) = self.runs.pop_front() else { return Ok(None) };
                self.walk = self.inspection.walk(&run);
            }
            let stepped = match &mut self.walk {
                None => continue,
                Some(Walk::Ended(stream, _)) => stream.advance_batch(),
                Some(Walk::Current(walker)) => {
                    walker.step().map_err(RecoverError::from).map(|it| match it {
                        Step::Batch(header) => Some(header),
                        Step::Stop(_) => None,
                    })
                }
            };
            match stepped {
                Ok(Some(header)) => break header,
                Ok(None) => self.walk = None,
                Err(error) => {
                    self.walk = None;
                    return Err(error);
                }
            }
        };
        let (bytes, last_kept_seq) = match &self.walk {
            Some(Walk::Ended(stream, last)) => (stream.held(&header), Some(*last)),
            Some(Walk::Current(walker)) => (walker.held(&header), None),
            None => unreachable!("the batch came from a walk"),
        };
        Ok(Some(Batch { header, last_kept_seq, bytes }))
    }
}

impl Inspection {
    fn walk(&self, run: &Walked<'_>) -> Option<Walk> {
        let manifest = self.manifest.as_ref()?;
        let layout = self.layout.clone();
        Some(match run {
            Walked::Ended(shard, run) => {
                let spans = VecDeque::from([Span::from(*run)]);
                let (log, generation) = (manifest.log, manifest.generation);
                let stream = ShardStream::new(layout, log, *shard, generation, spans);
                Walk::Ended(Box::new(stream), run.last_kept_seq)
            }
            Walked::Current(shard, run) => {
                let first = run.first_segment;
                let files = self.segments.iter().filter(|it| it.shard == *shard);
                let last = files.map(|it| it.number).max().unwrap_or(first).max(first);
                let cursor = Cursor::start(*run, manifest.first_epoch);
                let (log, incarnation) = (manifest.log, manifest.incarnation);
                let walker = Walker::new(layout, log, *shard, incarnation, first..=last, cursor);
                Walk::Current(Box::new(walker))
            }
        })
    }
}

impl<'a> Batch<'a> {
    /// Its entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = EntryView<'a>> + use<'a> {
        let (header, bytes) = (self.header, self.bytes);
        let mut at = 0;
        std::iter::from_fn(move || {
            let (entry, next) = header.entry_at(bytes, at)?;
            at = next;
            Some(entry)
        })
    }
}
