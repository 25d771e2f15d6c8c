//! Deciding what of a run is kept. Pure: knows no file.

use std::collections::BTreeSet;

use corewal_format::{
    BatchFlags, BatchHeader, BatchNumber, Epoch, HEADER_BLOCKS, Incarnation, MAX_SEGMENT_LEN,
    MIN_BLOCK_LEN, Run, SegmentNumber, Seq, Void, VoidCause,
};

use crate::recovery::salvage::scan::Stretch;

/// What is known of a run before its batches are looked at. Zeros where nothing is.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) incarnation: Incarnation,
    pub(super) first_epoch: Epoch,
    pub(super) first_segment: SegmentNumber,
    pub(super) first_batch: BatchNumber,
    pub(super) first_seq: Seq,
    pub(super) end: End,
}

/// How far a run goes.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// As far as the manifest says; it is the proof for all before.
    Recorded(Run),
    /// As far as promises go, and what verifies behind them.
    Open {
        /// Every batch up to this one was durable.
        promised: BatchNumber,
        /// This epoch was committed, so the barrier of it was durable; 0 for none.
        claimed: Epoch,
    },
}

/// A range in which batches are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// The last batch before it.
    pub(super) after: Option<BatchHeader>,
    /// The first batch behind it; none if it goes on to the end of the run.
    pub(super) before: Option<BatchHeader>,
}

/// What is kept of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Sifted {
    /// More than one where a walk cannot get from one part to the next.
    pub(super) runs: Vec<Run>,
    pub(super) kept: Vec<Stretch>,
    /// What is lost. A torn tail is not, and neither is what was void before.
    pub(super) gaps: Vec<Gap>,
    /// Whether nobody knows how much is lost at the end.
    pub(super) is_open_ended: bool,
}

/// Keeps every batch that verifies, up to the end of the run: what was torn stays torn.
///
/// `damaged` are the segments that are damaged as a whole, so that no power cut explains what is missing there.
pub(super) fn sift(
    bounds: &Bounds,
    stretches: &[Stretch],
    damaged: &BTreeSet<SegmentNumber>,
) -> Sifted {
    let mut sifted = Sifted::default();
    let mut is_torn = false;
    for stretch in stretches.iter().filter(|it| bounds.admits(it)) {
        let last = sifted.kept.last().map(|it| it.last);
        if !bounds.follows(last, stretch) {
            continue;
        }
        let gap = Gap { after: last, before: Some(stretch.first) };
        let is_next = match bounds.expected(last) {
            Some(expected) => expected == stretch.first.number,
            None => stretch.first.at() == first_place(&stretch.first),
        };
        let was_void = bounds.was_void(&gap);
        if is_next && !is_reachable(last, &stretch.first) {
            // Nothing that genuine batches can be.
            continue;
        }
        if !is_next && !was_void {
            if !bounds.is_loss(&gap, damaged, sifted.barrier()) {
                is_torn = true;
                break;
            }
            if last.is_some() && void_of(&gap).is_none() {
                // Nothing that genuine batches can be: what stands before it is kept.
                break;
            }
            sifted.gaps.push(gap);
        }
        sifted.kept.push(*stretch);
    }
    let tail = Gap { after: sifted.kept.last().map(|it| it.last), before: None };
    if !is_torn && bounds.is_loss(&tail, damaged, sifted.barrier()) {
        sifted.gaps.push(tail);
        sifted.is_open_ended = matches!(bounds.end, End::Open { .. });
    }
    sifted.runs = runs(bounds, &sifted.kept);
    sifted
}

impl Sifted {
    fn barrier(&self) -> Epoch {
        self.kept.iter().map(|it| it.barrier).max().unwrap_or_default()
    }
}

impl Bounds {
    /// The batch that comes behind `last`; none if nobody knows.
    fn expected(&self, last: Option<BatchHeader>) -> Option<BatchNumber> {
        match last {
            Some(last) => Some(last.number.next()),
            None => (self.first_batch > BatchNumber(0)).then_some(self.first_batch),
        }
    }

    fn admits(&self, stretch: &Stretch) -> bool {
        let is_inside = match &self.end {
            End::Open { .. } => true,
            End::Recorded(run) => {
                let is_void = run.voids.iter().any(|void| {
                    void.first_batch <= stretch.last.number
                        && stretch.first.number <= void.last_batch
                });
                stretch.last.number <= run.last_batch && !is_void
            }
        };
        is_inside
            && stretch.first.incarnation == self.incarnation
            && stretch.first.number >= self.first_batch
            && stretch.first.segment >= self.first_segment
    }

    /// Whether the stretch contradicts nothing before it.
    fn follows(&self, last: Option<BatchHeader>, stretch: &Stretch) -> bool {
        let next = &stretch.first;
        match last {
            None => next.first_seq >= self.first_seq && next.epoch >= self.first_epoch,
            Some(last) => {
                next.number > last.number
                    && next.first_seq > last.last_seq()
                    && next.epoch >= last.epoch
                    && (next.segment, next.at()) >= (last.segment, last.at() + last.disk_len())
            }
        }
    }

    fn was_void(&self, gap: &Gap) -> bool {
        let End::Recorded(run) = &self.end else { return false };
        let (Some(mut expected), Some(before)) = (self.expected(gap.after), gap.before) else {
            return false;
        };
        for void in &run.voids {
            if void.first_batch == expected {
                expected = void.last_batch.next();
            }
        }
        expected == before.number
    }

    /// Whether something that had been acknowledged is missing in a gap, or something that no power cut takes.
    fn is_loss(&self, gap: &Gap, damaged: &BTreeSet<SegmentNumber>, barrier: Epoch) -> bool {
        let expected = self.expected(gap.after).unwrap_or(BatchNumber(1));
        let (promised, claimed) = match &self.end {
            End::Recorded(run) => return expected <= run.last_batch,
            End::Open { promised, claimed } => (*promised, *claimed),
        };
        let from = gap.after.map_or(self.first_segment, |it| it.segment);
        let to = gap.before.map_or(SegmentNumber(u64::MAX), |it| it.segment);
        let is_claimed = match &gap.before {
            Some(before) => before.epoch <= claimed || barrier < claimed,
            None => barrier < claimed,
        };
        expected <= promised || is_claimed || damaged.range(from..=to).next().is_some()
    }
}

/// The range between two batches of a run, if there is one that a manifest can record.
fn void_of(gap: &Gap) -> Option<Void> {
    let (after, before) = (gap.after?, gap.before?);
    let end = after.at() + after.disk_len();
    let (from_segment, from_at) = if end < MAX_SEGMENT_LEN {
        (after.segment, end)
    } else {
        (after.segment.next(), u64::from(HEADER_BLOCKS) * u64::from(MIN_BLOCK_LEN))
    };
    let void = Void {
        from_segment,
        from_at,
        to_segment: before.segment,
        to_at: before.at(),
        first_batch: after.number.next(),
        last_batch: before.number.before(),
        first_seq: after.last_seq().next(),
        last_seq: before.first_seq.before(),
        cause: VoidCause::Salvaged,
    };
    let holds = (from_segment, from_at) < (void.to_segment, void.to_at)
        && void.first_batch <= void.last_batch;
    holds.then_some(void)
}

/// Whether a walk gets from one batch to the next without a void.
fn is_walkable(last: &BatchHeader, next: &BatchHeader) -> bool {
    let is_behind = next.segment == last.segment && next.at() == last.at() + last.disk_len();
    is_behind || next.segment == last.segment.next() && next.at() == first_place(next)
}

/// The records of what is kept.
fn runs(bounds: &Bounds, kept: &[Stretch]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut last: Option<BatchHeader> = None;
    for stretch in kept {
        let first = stretch.first;
        let old_voids = old_voids(bounds, last, &first);
        let gap = Gap { after: last, before: Some(first) };
        let is_next = last.is_some_and(|last| last.number.next() == first.number);
        match runs.last_mut() {
            Some(run) if is_next && last.is_some_and(|last| is_walkable(&last, &first)) => {
                extend(run, stretch);
            }
            Some(run) if !is_next => {
                if bounds.was_void(&gap) {
                    run.voids.extend(old_voids);
                } else {
                    run.voids.extend(void_of(&gap));
                }
                extend(run, stretch);
            }
            _ => runs.push(begin(bounds, stretch, last.is_none())),
        }
        last = Some(stretch.last);
    }
    if let (End::Recorded(old), Some(run)) = (&bounds.end, runs.last_mut()) {
        run.last_kept_seq = if run.last_batch == old.last_batch {
            old.last_kept_seq
        } else {
            run.last_kept_seq.min(old.last_kept_seq)
        };
    }
    runs
}

fn old_voids(bounds: &Bounds, last: Option<BatchHeader>, next: &BatchHeader) -> Vec<Void> {
    let End::Recorded(old) = &bounds.end else { return Vec::new() };
    let is_between = |void: &&Void| {
        last.is_some_and(|last| last.number < void.first_batch) && void.last_batch < next.number
    };
    old.voids.iter().filter(is_between).copied().collect()
}

fn begin(bounds: &Bounds, stretch: &Stretch, is_first: bool) -> Run {
    let Stretch { first, last, .. } = stretch;
    let first_seq =
        if is_first && bounds.first_seq > Seq(0) { bounds.first_seq } else { first.first_seq };
    let mut run = Run {
        first_segment: first.segment,
        last_segment: last.segment,
        first_batch: first.number,
        last_batch: last.number,
        last_batch_at: last.at(),
        first_seq,
        last_kept_seq: last.last_seq(),
        incarnation: bounds.incarnation,
        first_epoch: if bounds.first_epoch > Epoch(0) { bounds.first_epoch } else { first.epoch },
        voids: Vec::new(),
    };
    if first.at() > first_place(first) {
        // A walk begins at the start of a segment: what is missing there is void.
        run.first_batch = first.number.before();
        run.voids.push(Void {
            from_segment: first.segment,
            from_at: first_place(first),
            to_segment: first.segment,
            to_at: first.at(),
            first_batch: run.first_batch,
            last_batch: run.first_batch,
            first_seq,
            last_seq: first.first_seq.before(),
            cause: VoidCause::Salvaged,
        });
    }
    run
}

/// Where the first batch of a segment stands.
fn first_place(header: &BatchHeader) -> u64 {
    u64::from(HEADER_BLOCKS) * u64::from(header.block_len)
}

/// Whether the next batch by number stands where it can stand: behind the last one, or first in its segment.
fn is_reachable(last: Option<BatchHeader>, next: &BatchHeader) -> bool {
    next.at() == first_place(next) || last.is_some_and(|last| is_walkable(&last, next))
}

fn extend(run: &mut Run, stretch: &Stretch) {
    let last = &stretch.last;
    run.last_segment = last.segment;
    run.last_batch = last.number;
    run.last_batch_at = last.at();
    run.last_kept_seq = last.last_seq();
}

/// The lowest epoch of which something can be lost in a gap; none if there is room for no entry.
pub(super) fn first_lost_epoch(bounds: &Bounds, gap: &Gap) -> Option<Epoch> {
    let (first_seq, last_seq) = lost_seqs(bounds, gap);
    if last_seq.is_some_and(|last| last < first_seq) {
        return None;
    }
    let epoch = match &gap.after {
        // The barrier is the last entry of its epoch on the shard.
        Some(after) if after.flags.contains(BatchFlags::BARRIER) => after.epoch.next(),
        Some(after) => after.epoch,
        None => bounds.first_epoch,
    };
    Some(epoch.max(bounds.first_epoch))
}

/// The first seq that can be lost, and the last one if that is known.
pub(super) fn lost_seqs(bounds: &Bounds, gap: &Gap) -> (Seq, Option<Seq>) {
    let first = gap.after.map_or(bounds.first_seq, |after| after.last_seq().next());
    let recorded = match &bounds.end {
        End::Recorded(run) => Some(run.last_kept_seq),
        End::Open { .. } => None,
    };
    (first, gap.before.map(|before| before.first_seq.before()).or(recorded))
}
