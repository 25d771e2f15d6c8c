//! All shards together: their segments, what the promises among them cover, and the records that are left.

use std::collections::{BTreeMap, BTreeSet};

use corewal_format::{
    BatchFault, BatchHeader, BatchNumber, Epoch, Incarnation, Manifest, Place, Run, SegmentHeader,
    SegmentNumber, Seq, ShardId, ShardRecord,
};

use crate::Options;
use crate::error::{Claim, IoFault, Reason, Source, Witness};
use crate::layout::{Layout, Listing};
use crate::record;
use crate::recovery::salvage::UNKNOWN_LOSS;
use crate::recovery::salvage::base::Origin;
use crate::recovery::salvage::report::{BrokenBatch, Kept, Lost};
use crate::recovery::salvage::scan::{SegmentScan, Spot, Stretch, scan};
use crate::recovery::salvage::sift::{Bounds, End, Gap, Sifted, first_lost_epoch, lost_seqs, sift};

/// Everything that stands in the folders.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    manifest: &'a Manifest,
    shards: Vec<ShardSurvey>,
}

#[derive(Debug)]
struct ShardSurvey {
    record: ShardRecord,
    /// Whether the manifest knows the shard.
    is_known: bool,
    scans: Vec<SegmentScan>,
}

/// What is left of a log, and what is not.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<ShardRecord>,
    pub(super) lost: Vec<Lost>,
    pub(super) kept: Vec<Kept>,
    /// Segments whose bytes are aside before anything is changed.
    pub(super) touched: BTreeSet<(ShardId, SegmentNumber)>,
    /// The furthest committed epoch that anything tells of.
    pub(super) committed: Epoch,
    /// The lowest epoch of which something is lost.
    pub(super) first_lost_epoch: Option<Epoch>,
    pub(super) seen_epoch: Epoch,
    pub(super) incarnation: Incarnation,
    /// Whether nobody knows how far the log went.
    pub(super) is_open_ended: bool,
}

/// What one incarnation says of committed epochs.
#[derive(Debug, Clone, Copy)]
struct Claims {
    first_epoch: Epoch,
    committed: Option<(Epoch, Source)>,
}

impl<'a> Survey<'a> {
    /// Looks at every segment of every shard.
    pub(super) fn take(
        layout: &Layout,
        listing: &Listing,
        manifest: &'a Manifest,
    ) -> Result<Self, IoFault> {
        let listed = listing.shards.iter().map(|(shard, _)| *shard);
        let ids: BTreeSet<ShardId> =
            manifest.shards.iter().map(|record| record.shard).chain(listed).collect();
        let mut shards = Vec::new();
        for shard in ids {
            let known = manifest.shard(shard);
            let record = known.cloned().unwrap_or_else(|| ShardRecord::new(shard));
            let voids = record.runs.iter().flat_map(|run| &run.voids);
            let ends = voids
                .flat_map(|void| [void.first_batch.before(), void.last_batch])
                .chain(record.runs.iter().map(|run| run.last_batch))
                .collect();
            let spot = Spot { layout, log: manifest.log, shard, ends: &ends };
            let scans: Result<Vec<SegmentScan>, IoFault> =
                listing.segments(shard).iter().map(|&number| scan(spot, number)).collect();
            shards.push(ShardSurvey { record, is_known: known.is_some(), scans: scans? });
        }
        Ok(Self { manifest, shards })
    }

    pub(super) fn scans(&self) -> impl Iterator<Item = (ShardId, &SegmentScan)> {
        self.shards.iter().flat_map(|it| it.scans.iter().map(|scan| (it.record.shard, scan)))
    }

    /// A header for a segment whose own is unreadable, and the segment that it is like.
    pub(super) fn header_for(
        &self,
        shard: ShardId,
        scan: &SegmentScan,
        options: &Options,
    ) -> (SegmentHeader, Option<(ShardId, SegmentNumber)>) {
        let first = scan.stretches.first().expect("a header is made from batches").first;
        let readable = self.scans().filter_map(|(shard, it)| Some((shard, it.header?)));
        // One incarnation has one schema.
        let like = readable.min_by_key(|(other, header)| {
            (
                header.incarnation != first.incarnation,
                *other != shard,
                header.segment.0.abs_diff(scan.number.0),
            )
        });
        let block_len = u64::from(first.block_len);
        let header = SegmentHeader {
            log: self.manifest.log,
            shard,
            segment: scan.number,
            incarnation: first.incarnation,
            segment_len: scan.file_len / block_len * block_len,
            block_len: first.block_len,
            rkyv: like.map_or_else(record::rkyv_layout, |(_, it)| it.rkyv),
            schema: like.map_or(options.schema, |(_, it)| it.schema),
        };
        (header, like.map(|(shard, it)| (shard, it.segment)))
    }

    /// What every incarnation of a current run says.
    fn claims(&self) -> BTreeMap<Incarnation, Claims> {
        let mut claims: BTreeMap<Incarnation, Claims> = BTreeMap::new();
        for (_, scan) in self.scans() {
            let Some(incarnation) = scan.incarnation else { continue };
            let first = scan.stretches.first().map_or(Epoch(u64::MAX), |it| it.first.epoch);
            let claim = claims
                .entry(incarnation)
                .or_insert(Claims { first_epoch: Epoch(u64::MAX), committed: None });
            claim.first_epoch = claim.first_epoch.min(first);
            claim.committed = [claim.committed, scan.committed]
                .into_iter()
                .flatten()
                .max_by_key(|(epoch, _)| *epoch);
        }
        if let Some(claim) = claims.get_mut(&self.manifest.incarnation) {
            claim.first_epoch = self.manifest.first_epoch;
        }
        claims
    }

    /// Decides what is kept of every shard.
    pub(super) fn settle(&self, origin: Origin) -> Found {
        let claims = self.claims();
        let told = claims.values().filter_map(|it| it.committed);
        let mut found = Found {
            committed: told.map(|(epoch, _)| epoch).max().unwrap_or_default(),
            incarnation: claims.keys().max().copied().unwrap_or_default(),
            is_open_ended: !matches!(origin, Origin::Newest(_)),
            ..Found::default()
        };
        found.committed = found.committed.max(self.manifest.committed_epoch);
        let mut barriers = Vec::new();
        for shard in &self.shards {
            let barrier = shard.settle(self.manifest, &claims, origin, &mut found);
            if shard.record.active {
                barriers.push(barrier);
            }
        }
        // As recovery has it: only in the incarnation of the manifest, and if every active shard tells.
        if found.incarnation <= self.manifest.incarnation {
            found.committed = found.committed.max(barriers.into_iter().min().unwrap_or_default());
        }
        found
    }
}

impl ShardSurvey {
    /// Adds what is left of the shard to `found`, and returns its last barrier of the manifest's incarnation.
    fn settle(
        &self,
        manifest: &Manifest,
        claims: &BTreeMap<Incarnation, Claims>,
        origin: Origin,
        found: &mut Found,
    ) -> Epoch {
        let shard = self.record.shard;
        let mut runs: Vec<Run> = Vec::new();
        let mut kept = Kept { shard, batches: 0, entries: 0, last_seq: Seq(0) };
        let mut barrier = self.record.barrier;
        let mut is_open_ended = !matches!(origin, Origin::Newest(_));
        for bounds in self.bounds(manifest, claims) {
            let damaged = self.damaged(&bounds, found.incarnation);
            let stretches: Vec<Stretch> =
                self.inside(&bounds).flat_map(|it| it.stretches.iter().copied()).collect();
            let sifted = sift(&bounds, &stretches, &damaged);
            for gap in &sifted.gaps {
                found.lost.push(self.lost(manifest, &bounds, claims, gap, &damaged));
                let lost = first_lost_epoch(&bounds, gap);
                found.first_lost_epoch = [found.first_lost_epoch, lost].into_iter().flatten().min();
            }
            self.touch(&bounds, &sifted, found);
            is_open_ended |= sifted.is_open_ended;
            if matches!(bounds.end, End::Open { .. }) && bounds.incarnation == manifest.incarnation
            {
                let barriers = sifted.kept.iter().map(|it| it.barrier);
                barrier = barriers.fold(barrier, Epoch::max);
            }
            for stretch in &sifted.kept {
                kept.batches += stretch.batches;
                kept.entries += stretch.entries;
            }
            runs.extend(sifted.runs);
        }
        kept.last_seq = runs.last().map_or(Seq(0), |run| run.last_kept_seq);
        for scan in &self.scans {
            found.seen_epoch = found.seen_epoch.max(scan.seen.epoch);
        }
        found.is_open_ended |= is_open_ended;
        found.kept.push(kept);
        found.records.push(self.record_of(runs, is_open_ended));
        barrier
    }

    /// The runs of the shard: those of the manifest, and those of incarnations that it does not know.
    fn bounds(&self, manifest: &Manifest, claims: &BTreeMap<Incarnation, Claims>) -> Vec<Bounds> {
        let ended = self.record.runs.iter().map(|run| Bounds {
            incarnation: run.incarnation,
            first_epoch: run.first_epoch,
            first_segment: run.first_segment,
            first_batch: run.first_batch,
            first_seq: run.first_seq,
            end: End::Recorded(run.clone()),
        });
        let current = self.record.current.map(|current| Bounds {
            incarnation: manifest.incarnation,
            first_epoch: manifest.first_epoch,
            first_segment: current.first_segment,
            first_batch: current.first_batch,
            first_seq: current.first_seq,
            end: self.open_end(manifest.incarnation, claims, self.record.durable_batch),
        });
        let incarnations: BTreeSet<Incarnation> = self
            .scans
            .iter()
            .filter_map(|scan| scan.incarnation)
            .filter(|&it| it > manifest.incarnation)
            .collect();
        let unknown = incarnations.into_iter().map(|incarnation| {
            let mut of_it = self.scans.iter().filter(|it| it.incarnation == Some(incarnation));
            Bounds {
                incarnation,
                first_epoch: Epoch(0),
                first_segment: of_it.next().map_or(SegmentNumber(1), |scan| scan.number),
                first_batch: BatchNumber(0),
                first_seq: Seq(0),
                end: self.open_end(incarnation, claims, BatchNumber(0)),
            }
        });
        ended.chain(current).chain(unknown).collect()
    }

    fn open_end(
        &self,
        incarnation: Incarnation,
        claims: &BTreeMap<Incarnation, Claims>,
        recorded: BatchNumber,
    ) -> End {
        let promised = self.promise(incarnation).map_or(BatchNumber(0), |(batch, _)| batch);
        let claim = claims.get(&incarnation);
        let claimed = claim
            .and_then(|claim| Some((claim.first_epoch, claim.committed?.0)))
            // Of an earlier incarnation's epochs ended runs tell.
            .filter(|&(first, epoch)| epoch >= first && epoch > self.record.barrier)
            .map_or(Epoch(0), |(_, epoch)| epoch);
        End::Open { promised: promised.max(recorded), claimed }
    }

    /// The furthest promise of an incarnation about this shard's batches.
    fn promise(&self, incarnation: Incarnation) -> Option<(BatchNumber, Source)> {
        let of_it = self.scans.iter().filter(|scan| scan.incarnation == Some(incarnation));
        of_it.filter_map(|scan| scan.durable).max_by_key(|(batch, _)| *batch)
    }

    /// The segments of a run that are there.
    fn inside(&self, bounds: &Bounds) -> impl Iterator<Item = &SegmentScan> {
        let last = match &bounds.end {
            End::Recorded(run) => run.last_segment,
            End::Open { .. } => SegmentNumber(u64::MAX),
        };
        let (first, incarnation) = (bounds.first_segment, bounds.incarnation);
        self.scans.iter().filter(move |scan| {
            (first..=last).contains(&scan.number)
                && scan.incarnation.is_none_or(|it| it == incarnation)
        })
    }

    /// Segments of a run that are damaged as a whole, and of those that are missing the first of each range.
    fn damaged(&self, bounds: &Bounds, newest: Incarnation) -> BTreeSet<SegmentNumber> {
        let mut damaged = BTreeSet::new();
        let scans: Vec<&SegmentScan> = self.inside(bounds).collect();
        let used = scans.iter().rposition(|scan| !scan.stretches.is_empty());
        let is_newest = bounds.incarnation == newest;
        let mut expected = bounds.first_segment;
        for (index, scan) in scans.iter().enumerate() {
            // Of an earlier incarnation, what was prepared and not used has new numbers since.
            if !is_newest && used.is_none_or(|used| index > used) {
                break;
            }
            // A current run may begin anywhere, if nothing says where.
            if scan.number > expected {
                damaged.insert(expected);
            }
            expected = scan.number.next();
            let is_last = index + 1 == scans.len();
            let is_long = scan.header.is_some_and(|header| header.segment_len <= scan.file_len);
            let is_readable = scan.fault.is_none() || scan.needs_header() || is_long;
            if !(is_readable || is_last && scan.is_unprepared()) {
                damaged.insert(scan.number);
            }
        }
        damaged
    }

    /// What is lost in a gap, by its most telling place.
    fn lost(
        &self,
        manifest: &Manifest,
        bounds: &Bounds,
        claims: &BTreeMap<Incarnation, Claims>,
        gap: &Gap,
        damaged: &BTreeSet<SegmentNumber>,
    ) -> Lost {
        let shard = self.record.shard;
        let from = gap.after.map_or((bounds.first_segment, 0), behind);
        let to = match (&gap.before, &bounds.end) {
            (Some(before), _) => (before.segment, before.at()),
            (None, End::Recorded(run)) => (run.last_segment, u64::MAX),
            (None, End::Open { .. }) => (SegmentNumber(u64::MAX), u64::MAX),
        };
        let first = gap.after.map_or(bounds.first_batch, |after| after.number.next());
        let last = gap.before.map(|before| before.number.before()).or(match &bounds.end {
            End::Recorded(run) => Some(run.last_batch),
            End::Open { .. } => None,
        });
        let place = |segment, at| Place { shard, segment, at };
        // By how much they tell, then by place.
        let mut signs: Vec<(u8, Place, Reason)> = Vec::new();
        for &number in damaged.range(from.0..=to.0) {
            if !self.scans.iter().any(|scan| scan.number == number) {
                signs.push((0, place(number, 0), Reason::SegmentMissing));
            }
        }
        if let Some(number) = self.missing(bounds, from.0, to.0) {
            signs.push((0, place(number, 0), Reason::SegmentMissing));
        }
        let (mut bytes, mut broken) = (0, Vec::new());
        let within = from.0..=to.0;
        for scan in self.scans.iter().filter(|scan| within.contains(&scan.number)) {
            if let Some(fault) = scan.fault.clone().filter(|_| !scan.needs_header()) {
                signs.push((0, place(scan.number, 0), fault));
            }
            let is_inside = |at: u64| (from..to).contains(&(scan.number, at));
            for it in scan.broken.iter().filter(|it| is_inside(it.header.at())) {
                let batch = it.header.number;
                let reason = Reason::Body { batch, fault: it.fault };
                signs.push((1, place(scan.number, it.header.at()), reason));
                broken.push(BrokenBatch { header: it.header, fault: it.fault, intact: it.intact });
            }
            for hole in scan.holes.iter().filter(|hole| is_inside(hole.bytes.start)) {
                bytes += hole.written;
                let rank = if hole.written > 0 { 2 } else { 3 };
                let reason = Reason::Batch { expected: first, fault: hole.fault };
                signs.push((rank, place(scan.number, hole.bytes.start), reason));
            }
        }
        let sign = signs.into_iter().min_by_key(|(rank, place, _)| (*rank, *place));
        let nothing = Reason::Batch { expected: first, fault: BatchFault::Zero };
        let (_, at, reason) = sign.unwrap_or((3, place(from.0, from.1), nothing));
        Lost {
            at,
            reason,
            witness: self.witness(manifest, bounds, claims, first),
            batches: (first > BatchNumber(0)).then_some((first, last)),
            seqs: lost_seqs(bounds, gap),
            bytes,
            broken,
        }
    }

    /// The first segment of a recorded run that is missing between two of its segments.
    fn missing(
        &self,
        bounds: &Bounds,
        from: SegmentNumber,
        to: SegmentNumber,
    ) -> Option<SegmentNumber> {
        let End::Recorded(_) = &bounds.end else { return None };
        let mut expected = from;
        for scan in self.scans.iter().filter(|scan| (from..=to).contains(&scan.number)) {
            if scan.number != expected {
                return Some(expected);
            }
            expected = expected.next();
        }
        (expected <= to).then_some(expected)
    }

    /// What proves that batch `first` had been acknowledged.
    fn witness(
        &self,
        manifest: &Manifest,
        bounds: &Bounds,
        claims: &BTreeMap<Incarnation, Claims>,
        first: BatchNumber,
    ) -> Option<Witness> {
        let recorded = Source::Manifest(manifest.generation);
        let claimed = match &bounds.end {
            End::Recorded(run) => {
                return Some(Witness { claim: Claim::RunEnd(run.last_batch), source: recorded });
            }
            End::Open { claimed, .. } => *claimed,
        };
        if let Some((batch, source)) = self.promise(bounds.incarnation)
            && batch >= first
        {
            return Some(Witness { claim: Claim::Durable(batch), source });
        }
        if bounds.incarnation == manifest.incarnation && self.record.durable_batch >= first {
            let claim = Claim::Durable(self.record.durable_batch);
            return Some(Witness { claim, source: recorded });
        }
        let (epoch, source) = claims.get(&bounds.incarnation)?.committed?;
        (claimed > Epoch(0)).then_some(Witness { claim: Claim::Committed(epoch), source })
    }

    /// Segments that change, or that are no part of the log any more and held something.
    fn touch(&self, bounds: &Bounds, sifted: &Sifted, found: &mut Found) {
        let is_kept = |stretch: &Stretch| sifted.kept.contains(stretch);
        let is_in_gap = |number: SegmentNumber| {
            sifted.gaps.iter().any(|gap| {
                let from = gap.after.map_or(bounds.first_segment, |it| it.segment);
                let to = gap.before.map_or(SegmentNumber(u64::MAX), |it| it.segment);
                (from..=to).contains(&number)
            })
        };
        for scan in self.inside(bounds) {
            let is_written = scan.holes.iter().any(|hole| hole.written > 0);
            let loses = scan.stretches.iter().any(|it| !is_kept(it)) || is_written;
            let is_changed = scan.fault.is_some();
            let is_zeroed = is_in_gap(scan.number) && scan.was_used();
            let is_open = matches!(bounds.end, End::Open { .. });
            if is_changed || is_zeroed || (is_open || is_in_gap(scan.number)) && loses {
                found.touched.insert((self.record.shard, scan.number));
            }
        }
    }

    /// The shard's record: every run has ended, and numbers go on above everything.
    fn record_of(&self, runs: Vec<Run>, is_open_ended: bool) -> ShardRecord {
        let old = &self.record;
        let jump = if is_open_ended { UNKNOWN_LOSS } else { 0 };
        let listed = self.scans.last().map_or(SegmentNumber(0), |scan| scan.number);
        let batch = self.scans.iter().map(|scan| scan.seen.batch).max().unwrap_or_default();
        let seq = self.scans.iter().map(|scan| scan.seen.seq).max().unwrap_or_default();
        let mut next = old.clone();
        let is_ours = self.scans.iter().any(|scan| scan.incarnation.is_some());
        next.active = old.active || !self.is_known && is_ours;
        next.next_segment = old.next_segment.max(listed.next());
        next.next_batch = old.next_batch.max(batch.next());
        next.next_seq = old.next_seq.max(seq.next());
        if let Some(current) = old.current {
            next.next_segment = next.next_segment.max(current.first_segment);
            next.next_batch = next.next_batch.max(current.first_batch);
            next.next_seq = next.next_seq.max(current.first_seq);
        }
        // Promises of what is lost may name more than was seen.
        next.next_batch = next.next_batch.max(old.durable_batch.next());
        next.next_seq = next.next_seq.max(old.durable_seq.next());
        next.next_batch = BatchNumber(next.next_batch.0.saturating_add(jump));
        next.next_seq = Seq(next.next_seq.0.saturating_add(jump));
        next.current = None;
        next.durable_batch = BatchNumber(0);
        next.durable_seq = Seq(0);
        next.barrier = Epoch(0);
        next.runs = runs;
        next
    }
}

/// The place behind a batch.
fn behind(header: BatchHeader) -> (SegmentNumber, u64) {
    (header.segment, header.at() + header.disk_len())
}
