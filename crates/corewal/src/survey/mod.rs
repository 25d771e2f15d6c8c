//! Surveying: what stands in every block of a log, what must stand there, and everything that does not.
//!
//! Other than a recovery, a survey does not end at the first damage: it goes on behind it, and says what is lost in
//! between. It reads on its own, by the rules of the format, and then asks recovery for its verdict, too.
//!
//! | module | what it does |
//! |---|---|
//! | `scan` | the blocks of one segment, each by itself |
//! | `run` | the segments of one run together: where its batches go on, and where they do not |

mod run;
mod scan;
mod stretch;

use std::collections::BTreeMap;

use corewal_format::{
    BatchNumber, Epoch, Generation, LogId, Manifest, Place, SegmentFault, SegmentHeader,
    SegmentNumber, Seq, ShardId, ShardRecord,
};

use crate::error::{Claim, IoFault, Reason, RecoverError, Source, Witness};
use crate::layout::{Layout, Listing};
use crate::manifests::{self, Found};
use crate::recovery::{
    Claims, Extent, OpenSegment, Opened, Scan, check_segment, committed, judged, open_segment,
};
use crate::{Options, pool};
use run::{Chain, End, Item, RunRecord, SegmentScan, join};
use scan::{Seen, scan};

pub use stretch::{Content, Proof, Stretch};

/// How often a log is surveyed again because its manifest changed meanwhile.
const ATTEMPTS: usize = 8;

/// A log that was read completely.
#[derive(Debug)]
pub struct Survey {
    layout: Layout,
    /// The newest manifest, if it can be read.
    manifest: Option<Manifest>,
    committed: Epoch,
    /// The committed epoch that a batch speaks of, and where; binds every active shard.
    claimed: Option<(Epoch, Source)>,
    shards: Vec<SurveyedShard>,
    segments: Vec<SurveyedSegment>,
    findings: Vec<Finding>,
    weak: Vec<HeaderCopy>,
}

/// Something that must be there and is not, or is not what it must be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What, where, and by which witness.
    pub error: RecoverError,
    /// What cannot be read for it; none if nothing is missing, or if it is part of the finding before.
    pub gap: Option<Gap>,
}

/// Acknowledged batches that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The first one.
    pub first_batch: BatchNumber,
    /// The last one; none if nothing intact follows in a run whose end is not recorded.
    pub last_batch: Option<BatchNumber>,
    /// No entry from this seq on ..
    pub first_seq: Seq,
    /// .. up to this one can be read. Seqs may have been left out, so there may be fewer entries.
    pub last_seq: Option<Seq>,
}

/// A copy of a used segment's header that does not verify, while the other one does: nothing is lost, but
/// something that was durable has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderCopy {
    /// Where.
    pub at: Place,
    /// Which copy, 0 or 1.
    pub copy: u8,
    /// What is wrong with it.
    pub fault: SegmentFault,
}

/// What was found of a shard.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SurveyedShard {
    /// Which.
    pub shard: ShardId,
    /// Its runs, in order; the last one may be being written.
    pub runs: Vec<SurveyedRun>,
}

/// What was found of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SurveyedRun {
    /// Its first segment.
    pub first_segment: SegmentNumber,
    /// The lowest seq that it may hold.
    pub first_seq: Seq,
    /// The last seq of an intact batch; none without one.
    pub last_seq: Option<Seq>,
    /// Intact batches.
    pub batches: u64,
    /// Entries in them, those of the engine included.
    pub entries: u64,
    /// Their bytes, with headers and padding.
    pub batch_len: u64,
    /// Bytes of the users' payloads in them.
    pub payload_len: u64,
    /// Behind its last intact batch.
    pub end: Place,
    /// What the manifest says of its end; none for the run that is being written.
    pub recorded: Option<(BatchNumber, Seq)>,
    /// The furthest promise about its batches, with its source; none for a run that has ended.
    pub durable: Option<(BatchNumber, Source)>,
    /// Batches from here on do not count: the run ends before them.
    pub(crate) expected: BatchNumber,
    barrier: Epoch,
}

/// What was found of a segment, counted by bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyedSegment {
    /// Whose it is.
    pub shard: ShardId,
    /// Its number.
    pub number: SegmentNumber,
    /// Its header, or why there is none.
    pub header: Result<SegmentHeader, SegmentFault>,
    /// Size of the file, in bytes.
    pub file_len: u64,
    /// Bytes of batches that verify.
    pub intact_len: u64,
    /// Bytes that were written and do not verify.
    pub broken_len: u64,
    /// Bytes of earlier lives of the file.
    pub older_len: u64,
    /// Bytes that were never written.
    pub zero_len: u64,
    /// Entries in batches that verify.
    pub entries: u64,
    /// Whether it belongs to a run; in others nothing counts.
    pub is_in_run: bool,
}

/// A segment, scanned.
struct Scanned {
    facts: SurveyedSegment,
    scan: SegmentScan,
    durable: Option<(BatchNumber, Source)>,
    committed: Option<(Epoch, Source)>,
    weak: Vec<HeaderCopy>,
}

type Scans = BTreeMap<ShardId, BTreeMap<SegmentNumber, SegmentScan>>;

impl Survey {
    /// Reads and checks everything, several segments at once. Takes no lock and changes nothing, also beside a live
    /// writer: what is still on its way is no damage. Of the options, the directory and the disk count.
    ///
    /// # Errors
    /// [`RecoverError::NoLog`] if there is none, [`RecoverError::Io`] if the system failed. Damage is no error
    /// here: [`findings`](Self::findings) has it.
    pub fn read(options: &Options) -> Result<Self, RecoverError> {
        let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
        let scan = Scan::of(options);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let survey = Self::attempt(&layout, scan)?;
            // Beside a writer, what was let go of under a newer manifest is no damage.
            let generation = survey.manifest.as_ref().map(|it| it.generation);
            let is_newest = || newest(&layout).map(|it| it.generation) == generation;
            if survey.findings.is_empty() || attempts == ATTEMPTS || is_newest() {
                return Ok(survey);
            }
        }
    }

    fn attempt(layout: &Layout, scan: Scan) -> Result<Self, RecoverError> {
        let verdict = match judged(layout, scan, Extent::Whole) {
            Ok(None) => return Err(RecoverError::NoLog { dir: layout.dir.clone() }),
            Err(error @ (RecoverError::Io(_) | RecoverError::NoLog { .. })) => return Err(error),
            Ok(Some(_)) => None,
            Err(error) => Some(error),
        };
        let listing = layout.list()?;
        let manifest = newest(layout);
        let mut survey = Self {
            layout: layout.clone(),
            committed: manifest.as_ref().map_or(Epoch(0), |it| it.committed_epoch),
            manifest,
            claimed: None,
            shards: Vec::new(),
            segments: Vec::new(),
            findings: Vec::new(),
            weak: Vec::new(),
        };
        if survey.manifest.is_none() {
            let faults = manifests::faults(layout, &listing);
            survey.findings.extend(faults.into_iter().map(|error| Finding { error, gap: None }));
        }
        let (mut scans, promises) = survey.scan_all(&listing, scan)?;
        survey.join_all(&scans, &promises);
        if !survey.findings.is_empty() && survey.manifest.is_some() {
            // What was on its way when it was read, and promised when its promise was read, stands there now.
            let again = layout.list()?;
            (scans, _) = survey.scan_all(&again, scan)?;
            survey.join_all(&scans, &promises);
        }
        survey.take_verdict(verdict);
        Ok(survey)
    }

    /// Damage that recovery sees and the survey does not, such as a stray segment.
    fn take_verdict(&mut self, verdict: Option<RecoverError>) {
        let Some(error) = verdict else { return };
        let is_known = match &error {
            RecoverError::Damaged(damage) => self.findings.iter().any(|it| match &it.error {
                RecoverError::Damaged(known) => known.at.shard == damage.at.shard,
                _ => false,
            }),
            RecoverError::Manifest { .. } => !self.findings.is_empty(),
            _ => false,
        };
        if !is_known {
            self.findings.push(Finding { error, gap: None });
        }
    }

    /// Scans every segment that a run may hold.
    fn scan_all(
        &mut self,
        listing: &Listing,
        scan: Scan,
    ) -> Result<(Scans, Promises), RecoverError> {
        let jobs: Vec<(ShardId, SegmentNumber)> = listing
            .shards
            .iter()
            .flat_map(|(shard, numbers)| numbers.iter().map(|&number| (*shard, number)))
            .collect();
        let mut scans = Scans::new();
        let mut promises = Promises::default();
        self.segments.clear();
        self.weak.clear();
        for scanned in self.in_parallel(&jobs, scan)?.into_iter().flatten() {
            let (shard, number) = (scanned.facts.shard, scanned.facts.number);
            if scanned.facts.is_in_run {
                promises.take(shard, number, &scanned, self.manifest.as_ref());
                scans.entry(shard).or_default().insert(number, scanned.scan);
            }
            self.segments.push(scanned.facts);
            self.weak.extend(scanned.weak);
        }
        Ok((scans, promises))
    }

    fn in_parallel(
        &self,
        jobs: &[(ShardId, SegmentNumber)],
        scan: Scan,
    ) -> Result<Vec<Option<Scanned>>, IoFault> {
        let look = |&(shard, number): &(ShardId, SegmentNumber)| self.scan_one(shard, number);
        let threads = match scan {
            Scan::InTurn => 1,
            Scan::AtOnce => pool::cpu_count(),
        };
        pool::each(jobs, threads, look).into_iter().collect()
    }

    /// Scans one segment; `None` if its file is gone.
    fn scan_one(&self, shard: ShardId, number: SegmentNumber) -> Result<Option<Scanned>, IoFault> {
        let place = self.run_place(shard, number);
        let mut facts = SurveyedSegment {
            shard,
            number,
            header: Err(SegmentFault::Zero),
            file_len: 0,
            intact_len: 0,
            broken_len: 0,
            older_len: 0,
            zero_len: 0,
            entries: 0,
            is_in_run: place.is_some(),
        };
        let open = match open_segment(&self.layout, shard, number)? {
            Opened::Missing => return Ok(None),
            Opened::Unreadable(fault, file) => {
                let path = self.layout.segment(shard, number);
                facts.file_len = file.len().map_err(|cause| IoFault::new("stat", &path, cause))?;
                facts.header = Err(fault);
                let header = Err(Reason::SegmentHeader(fault));
                // Recovery knows whether a segment without a header was used, and its verdict is asked for.
                let scan = SegmentScan { header, was_used: false, items: Vec::new() };
                let (durable, committed) = (None, None);
                return Ok(Some(Scanned { facts, scan, durable, committed, weak: Vec::new() }));
            }
            Opened::Segment(open) => *open,
        };
        facts.header = Ok(open.header);
        facts.file_len = open.file_len;
        let fits = place.map_or(Ok(()), |(log, incarnation)| {
            check_segment(&open.header, log, shard, number, incarnation)
        });
        if fits.is_err() || place.is_none() {
            let scan = SegmentScan { header: fits, was_used: true, items: Vec::new() };
            let (durable, committed) = (None, None);
            return Ok(Some(Scanned { facts, scan, durable, committed, weak: Vec::new() }));
        }
        self.scan_open(&open, facts).map(Some)
    }

    /// The log and the incarnation of a segment in a run; without a manifest, as its header says.
    fn run_place(
        &self,
        shard: ShardId,
        number: SegmentNumber,
    ) -> Option<(LogId, corewal_format::Incarnation)> {
        let manifest = self.manifest.as_ref()?;
        let record = manifest.shard(shard)?;
        let is_in =
            |run: &&corewal_format::Run| (run.first_segment..=run.last_segment).contains(&number);
        if let Some(run) = record.runs.iter().find(is_in) {
            return Some((manifest.log, run.incarnation));
        }
        let current = record.current?;
        (number >= current.first_segment).then_some((manifest.log, manifest.incarnation))
    }

    fn scan_open(&self, open: &OpenSegment, facts: SurveyedSegment) -> Result<Scanned, IoFault> {
        let (found, stated) = (open.file_len, open.header.segment_len);
        let header =
            if found == stated { Ok(()) } else { Err(Reason::SegmentLen { found, stated }) };
        let scan_of = SegmentScan { header, was_used: false, items: Vec::new() };
        let (durable, committed) = (None, None);
        let mut done = Scanned { facts, scan: scan_of, durable, committed, weak: Vec::new() };
        let cuts = self.cuts(open.header.shard);
        scan(&self.layout, open.header.log, open, &mut |at, len, seen| {
            done.take(&cuts, at, len, seen);
        })?;
        if !done.scan.was_used {
            // A copy may be on its way into a segment that is still being prepared.
            done.weak.clear();
        }
        Ok(done)
    }

    /// Batches behind which a chain ends, though the next one follows: where runs end, and voids begin and end.
    fn cuts(&self, shard: ShardId) -> Vec<BatchNumber> {
        let record = self.manifest.as_ref().and_then(|it| it.shard(shard));
        let mut cuts = Vec::new();
        for run in record.iter().flat_map(|it| &it.runs) {
            cuts.push(run.last_batch);
            for void in &run.voids {
                cuts.extend([void.first_batch.before(), void.last_batch]);
            }
        }
        cuts
    }

    /// Judges the scans by promises that were read before them, or with them.
    fn join_all(&mut self, scans: &Scans, promises: &Promises) {
        let Some(manifest) = &self.manifest else { return };
        self.findings.clear();
        let claims = Claims {
            manifest_committed: manifest.committed_epoch,
            committed: promises.committed,
            generation: manifest.generation,
        };
        self.claimed = promises.committed.filter(|(epoch, _)| *epoch > manifest.committed_epoch);
        let none = BTreeMap::new();
        let mut shards = Vec::new();
        for record in &manifest.shards {
            let scans = scans.get(&record.shard).unwrap_or(&none);
            let mut runs = Vec::new();
            for (run, durable) in runs_of(manifest, record, promises, claims) {
                let found = join(&run, scans);
                self.findings.extend(found.findings);
                let recorded = match run.end {
                    End::Recorded { batch, last_kept_seq, .. } => Some((batch, last_kept_seq)),
                    End::Open { .. } => None,
                };
                runs.push(SurveyedRun {
                    first_segment: run.first_segment,
                    first_seq: run.first_seq,
                    last_seq: found.last_seq,
                    batches: found.intact.batches,
                    entries: found.intact.entries,
                    batch_len: found.intact.bytes,
                    payload_len: found.payload_len,
                    end: found.end,
                    recorded,
                    durable,
                    expected: found.expected,
                    barrier: found.barrier,
                });
            }
            shards.push(SurveyedShard { shard: record.shard, runs });
        }
        let barriers = manifest.shards.iter().zip(&shards).filter(|(it, _)| it.active).map(
            |(record, shard)| {
                let open = shard.runs.iter().find(|run| run.recorded.is_none());
                record.barrier.max(open.map_or(Epoch(0), |run| run.barrier))
            },
        );
        self.committed = committed(manifest.committed_epoch, barriers);
        self.shards = shards;
    }

    /// The newest manifest, if it can be read.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The committed epoch.
    #[must_use]
    pub fn committed_epoch(&self) -> Epoch {
        self.committed
    }

    /// The furthest committed epoch that a batch speaks of and the manifest does not, and that batch. Every entry
    /// of an epoch up to it is proven on every shard that is being written.
    #[must_use]
    pub fn claimed_epoch(&self) -> Option<(Epoch, Source)> {
        self.claimed
    }

    /// Every shard, retired ones too. Empty without a manifest.
    #[must_use]
    pub fn shards(&self) -> &[SurveyedShard] {
        &self.shards
    }

    /// Every segment file, by shard and number.
    #[must_use]
    pub fn segments(&self) -> &[SurveyedSegment] {
        &self.segments
    }

    /// Everything that is damaged, shard by shard, in order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Copies of segment headers that do not verify, where the other copy does.
    #[must_use]
    pub fn weak(&self) -> &[HeaderCopy] {
        &self.weak
    }
}

fn newest(layout: &Layout) -> Option<Manifest> {
    let listing = layout.list().ok()?;
    match manifests::read(layout, &listing) {
        Ok(Found::Log(manifest)) => Some(*manifest),
        Ok(Found::Nothing) | Err(_) => None,
    }
}

/// The runs of a shard, and the promise about the batches of the one that is being written.
fn runs_of<'a>(
    manifest: &Manifest,
    record: &'a ShardRecord,
    promises: &Promises,
    claims: Claims,
) -> Vec<(RunRecord<'a>, Option<(BatchNumber, Source)>)> {
    let generation: Generation = manifest.generation;
    let ended = record.runs.iter().map(|run| {
        let last_kept_seq = run.last_kept_seq;
        let (batch, at) = (run.last_batch, run.last_batch_at);
        let record = RunRecord {
            record,
            first_segment: run.first_segment,
            last_segment: run.last_segment,
            first_batch: run.first_batch,
            first_seq: run.first_seq,
            first_epoch: run.first_epoch,
            voids: &run.voids,
            end: End::Recorded { batch, at, last_kept_seq, generation },
        };
        (record, None)
    });
    let mut runs: Vec<_> = ended.collect();
    if let Some(current) = record.current {
        let durable = promises.durable.get(&record.shard).copied();
        let run = RunRecord {
            record,
            first_segment: current.first_segment,
            last_segment: SegmentNumber(u64::MAX),
            first_batch: current.first_batch,
            first_seq: current.first_seq,
            first_epoch: manifest.first_epoch,
            voids: &[],
            end: End::Open { durable, claims },
        };
        let manifests = (record.durable_batch.0 > 0)
            .then_some((record.durable_batch, Source::Manifest(generation)));
        let furthest = durable.into_iter().chain(manifests).max_by_key(|(batch, _)| *batch);
        runs.push((run, furthest.filter(|(batch, _)| batch.0 > 0)));
    }
    runs
}

/// The furthest promises of the runs that are being written.
#[derive(Debug, Clone, Default)]
struct Promises {
    durable: BTreeMap<ShardId, (BatchNumber, Source)>,
    committed: Option<(Epoch, Source)>,
}

impl Promises {
    fn take(
        &mut self,
        shard: ShardId,
        number: SegmentNumber,
        scanned: &Scanned,
        manifest: Option<&Manifest>,
    ) {
        let current = manifest.and_then(|it| it.shard(shard)).and_then(|it| it.current);
        if current.is_none_or(|current| number < current.first_segment) {
            return;
        }
        if let Some((batch, source)) = scanned.durable {
            let known = self.durable.entry(shard).or_insert((batch, source));
            if known.0 < batch {
                *known = (batch, source);
            }
        }
        if let Some((epoch, source)) = scanned.committed
            && self.committed.is_none_or(|(known, _)| known < epoch)
        {
            self.committed = Some((epoch, source));
        }
    }
}

impl Scanned {
    fn take(&mut self, cuts: &[BatchNumber], at: u64, len: u64, seen: Seen<'_>) {
        let items = &mut self.scan.items;
        match seen {
            Seen::Header(_, None) => {}
            Seen::Header(copy, Some(fault)) => {
                let at = Place { shard: self.facts.shard, segment: self.facts.number, at };
                self.weak.push(HeaderCopy { at, copy, fault });
            }
            Seen::Batch(header, bytes) => {
                self.facts.intact_len += len;
                self.facts.entries += u64::from(header.entry_count);
                self.scan.was_used = true;
                let payload_len = payload_len(&header, bytes);
                let goes_on = match items.last_mut() {
                    Some(Item::Chain(chain)) => {
                        !cuts.contains(&chain.last.number) && chain.extend(&header, payload_len)
                    }
                    _ => false,
                };
                if !goes_on {
                    items.push(Item::Chain(Box::new(Chain::of(header, payload_len))));
                }
                self.promises(&header);
            }
            Seen::Headed(header, reason) => {
                self.facts.broken_len += len;
                self.scan.was_used = true;
                items.push(Item::Bad { at, reason });
                self.promises(&header);
            }
            Seen::Bad(reason) => {
                self.facts.broken_len += len;
                items.push(Item::Bad { at, reason });
            }
            Seen::Older(fault) => {
                self.facts.older_len += len;
                items.push(Item::Nothing { at, fault });
            }
            Seen::Zero => {
                self.facts.zero_len += len;
                items.push(Item::Nothing { at, fault: corewal_format::BatchFault::Zero });
            }
        }
    }

    fn promises(&mut self, header: &corewal_format::BatchHeader) {
        let at = Place { shard: header.shard, segment: header.segment, at: header.at() };
        let source = Source::Batch { number: header.number, at };
        if self.durable.is_none_or(|(batch, _)| batch < header.durable_batch) {
            self.durable = Some((header.durable_batch, source));
        }
        if self.committed.is_none_or(|(epoch, _)| epoch < header.committed_epoch) {
            self.committed = Some((header.committed_epoch, source));
        }
    }
}

fn payload_len(header: &corewal_format::BatchHeader, bytes: &[u8]) -> u64 {
    let mut at = 0;
    let mut len = 0;
    while let Some((entry, next)) = header.entry_at(bytes, at) {
        len += entry.payload().len() as u64;
        at = next;
    }
    len
}

/// What proves a batch of the run that is being written.
fn witness(
    run: &SurveyedRun,
    claimed: Option<(Epoch, Source)>,
    batch: BatchNumber,
    epoch: Epoch,
) -> Option<Witness> {
    if let Some((durable, source)) = run.durable
        && durable >= batch
    {
        return Some(Witness { claim: Claim::Durable(durable), source });
    }
    let (committed, source) = claimed?;
    (committed >= epoch).then_some(Witness { claim: Claim::Committed(committed), source })
}
