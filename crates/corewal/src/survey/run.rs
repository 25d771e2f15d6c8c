//! What the scans of one run's segments say together: where its batches go on, where they do not, and whether that
//! is its end.

use std::collections::BTreeMap;

use corewal_format::{
    BatchFault, BatchFlags, BatchHeader, BatchNumber, Epoch, Generation, Place, SegmentFault,
    SegmentNumber, Seq, ShardId, ShardRecord, Void,
};

use crate::error::{Claim, Damage, Reason, RecoverError, Source, Witness};
use crate::recovery::{Claims, Intact, RunFacts, Seen, judge};
use crate::survey::{Finding, Gap};

/// What one segment holds, for the run that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct SegmentScan {
    pub(crate) header: Result<(), Reason>,
    /// Whether a batch was ever written to it, as far as can be told.
    pub(crate) was_used: bool,
    pub(crate) items: Vec<Item>,
}

/// A stretch of a segment.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// Batches one behind the other, with consecutive numbers.
    Chain(Box<Chain>),
    /// What does not verify.
    Bad { at: u64, reason: Reason },
    /// Nothing of this life of the file.
    Nothing { at: u64, fault: BatchFault },
}

/// Consecutive batches.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) first: BatchHeader,
    pub(crate) last: BatchHeader,
    pub(crate) intact: Intact,
    /// Bytes of the users' payloads.
    pub(crate) payload_len: u64,
    /// The last epoch that a barrier in it closed; 0 for none.
    pub(crate) barrier: Epoch,
}

impl Chain {
    pub(crate) fn of(header: BatchHeader, payload_len: u64) -> Self {
        let mut chain = Self {
            first: header,
            last: header,
            intact: Intact::default(),
            payload_len: 0,
            barrier: Epoch(0),
        };
        chain.take(&header, payload_len);
        chain
    }

    /// Adds the next batch if it is the very next one.
    pub(crate) fn extend(&mut self, header: &BatchHeader, payload_len: u64) -> bool {
        let last = &self.last;
        let follows = header.number == last.number.next()
            && header.at() == last.at() + last.disk_len()
            && header.first_seq > last.last_seq()
            && header.epoch >= last.epoch;
        if follows {
            self.take(header, payload_len);
        }
        follows
    }

    fn take(&mut self, header: &BatchHeader, payload_len: u64) {
        self.last = *header;
        self.intact.take(header);
        self.payload_len += payload_len;
        if header.flags.contains(BatchFlags::BARRIER) {
            self.barrier = header.epoch;
        }
    }
}

/// What is known of a run from the manifest.
#[derive(Debug, Clone)]
pub(crate) struct RunRecord<'a> {
    pub(crate) record: &'a ShardRecord,
    pub(crate) first_segment: SegmentNumber,
    pub(crate) last_segment: SegmentNumber,
    pub(crate) first_batch: BatchNumber,
    pub(crate) first_seq: Seq,
    pub(crate) first_epoch: Epoch,
    pub(crate) voids: &'a [Void],
    pub(crate) end: End,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The manifest records it.
    Recorded { batch: BatchNumber, at: u64, last_kept_seq: Seq, generation: Generation },
    /// It is being written; what was promised of its batches.
    Open { durable: Option<(BatchNumber, Source)>, claims: Claims },
}

/// What was found of a run.
#[derive(Debug, Clone)]
pub(crate) struct RunFound {
    pub(crate) findings: Vec<Finding>,
    pub(crate) intact: Intact,
    pub(crate) payload_len: u64,
    pub(crate) barrier: Epoch,
    /// The next batch at the run's end: batches from here on do not count.
    pub(crate) expected: BatchNumber,
    pub(crate) last_seq: Option<Seq>,
    pub(crate) end: Place,
}

/// Goes over a run's segments in order.
pub(crate) fn join(
    run: &RunRecord<'_>,
    segments: &BTreeMap<SegmentNumber, SegmentScan>,
) -> RunFound {
    let mut joint = Joint::new(run);
    let mut next = run.first_segment;
    let range = run.first_segment..=run.last_segment;
    let last = segments.range(range.clone()).next_back().map(|(number, _)| *number);
    for (&number, scan) in segments.range(range) {
        if joint.is_over {
            break;
        }
        joint.missing(next, number);
        joint.segment(number, scan, last == Some(number));
        next = number.next();
    }
    if matches!(run.end, End::Recorded { .. }) && !joint.is_over && next <= run.last_segment {
        joint.missing(next, run.last_segment.next());
    }
    joint.finish(next)
}

struct Joint<'a> {
    run: &'a RunRecord<'a>,
    found: RunFound,
    expected: BatchNumber,
    least_seq: Seq,
    least_epoch: Epoch,
    /// Nothing stands here, so the next batch should stand in the next segment.
    hole: Option<(Place, Reason)>,
    /// Batches are missing: by which finding, and from which batch and seq on.
    gap: Option<OpenGap>,
    voids: &'a [Void],
    is_over: bool,
}

#[derive(Clone, Copy, Debug)]
struct OpenGap {
    /// None inside of a void: nothing is wrong there.
    finding: Option<usize>,
    first_batch: BatchNumber,
    first_seq: Seq,
}

impl<'a> Joint<'a> {
    fn new(run: &'a RunRecord<'a>) -> Self {
        let end = Place { shard: run.record.shard, segment: run.first_segment, at: 0 };
        let mut joint = Self {
            run,
            found: RunFound {
                findings: Vec::new(),
                intact: Intact::default(),
                payload_len: 0,
                barrier: Epoch(0),
                expected: run.first_batch,
                last_seq: None,
                end,
            },
            expected: run.first_batch,
            least_seq: run.first_seq,
            least_epoch: run.first_epoch,
            hole: None,
            gap: None,
            voids: run.voids,
            is_over: false,
        };
        joint.enter_void();
        joint
    }

    fn shard(&self) -> ShardId {
        self.run.record.shard
    }

    fn place(&self, segment: SegmentNumber, at: u64) -> Place {
        Place { shard: self.shard(), segment, at }
    }

    /// Where a void begins, the next batch is the one behind it.
    fn enter_void(&mut self) {
        while let Some((void, rest)) = self.voids.split_first()
            && self.expected == void.first_batch
        {
            self.expected = void.last_batch.next();
            self.least_seq = void.last_seq.next();
            self.voids = rest;
            self.hole = None;
            let (first_batch, first_seq) = (self.expected, self.least_seq);
            self.gap = Some(OpenGap { finding: None, first_batch, first_seq });
        }
    }

    /// Whether what is missing here is left out by the manifest.
    fn is_void(&self) -> bool {
        self.gap.is_some_and(|gap| gap.finding.is_none())
    }

    /// Segments from `from` up to before `to` have no file.
    fn missing(&mut self, from: SegmentNumber, to: SegmentNumber) {
        let mut number = from;
        // A manifest may name more than anybody wants to read.
        let most = SegmentNumber(from.0.saturating_add(1000)).min(to);
        while number < most && !self.is_void() {
            let damage =
                Damage { at: self.place(number, 0), reason: Reason::SegmentMissing, witness: None };
            self.report(damage);
            number = number.next();
        }
    }

    fn segment(&mut self, number: SegmentNumber, scan: &SegmentScan, is_last: bool) {
        if let Err(reason) = &scan.header {
            let unprepared = matches!(
                reason,
                Reason::SegmentHeader(
                    SegmentFault::Zero | SegmentFault::Magic | SegmentFault::Checksum
                ) | Reason::SegmentLen { .. }
            );
            let is_open = matches!(self.run.end, End::Open { .. });
            let is_unprepared = is_open && is_last && unprepared && !scan.was_used;
            if !is_unprepared && !self.is_void() {
                let (at, reason) = (self.place(number, 0), reason.clone());
                self.report(Damage { at, reason, witness: self.recorded() });
            }
        }
        for item in &scan.items {
            if self.is_over {
                return;
            }
            match item {
                Item::Nothing { at, fault } => {
                    let reason = Reason::Batch { expected: self.expected, fault: *fault };
                    let place = self.place(number, *at);
                    self.hole.get_or_insert((place, reason));
                }
                Item::Bad { at, reason } => self.bad(number, *at, reason),
                Item::Chain(chain) => self.chain(number, chain),
            }
        }
    }

    fn bad(&mut self, number: SegmentNumber, at: u64, reason: &Reason) {
        if self.gap.is_some() {
            return;
        }
        let reason = match reason {
            Reason::Batch { fault, .. } => Reason::Batch { expected: self.expected, fault: *fault },
            Reason::Body { batch, .. } if *batch != self.expected => {
                Reason::OtherBatch { expected: self.expected, found: *batch }
            }
            other => other.clone(),
        };
        // At the end of the segment before nothing stood, so what should be there stands here.
        let speaks_of_it = !matches!(reason, Reason::OtherBatch { .. });
        let is_here = |hole: &Place| hole.segment == number || !speaks_of_it;
        let here = self.hole.take().filter(|(hole, _)| is_here(hole));
        let (place, reason) = here.unwrap_or((self.place(number, at), reason));
        self.stop_at(place, reason);
    }

    fn chain(&mut self, number: SegmentNumber, chain: &Chain) {
        let first = &chain.first;
        if let End::Recorded { batch, .. } = self.run.end
            && first.number > batch
        {
            return;
        }
        if first.number < self.expected {
            // Left out by a void, or of no meaning here.
            if self.gap.is_none() {
                let found = first.number;
                let reason = Reason::OtherBatch { expected: self.expected, found };
                self.stop_at(self.place(number, first.at()), reason);
            }
            return;
        }
        let is_next = first.number == self.expected;
        let hole = self.hole.take();
        let is_placed = hole.as_ref().is_none_or(|(hole, _)| hole.segment != number);
        if self.gap.is_none() && !(is_next && is_placed) || !is_next && self.is_void() {
            let other = Reason::OtherBatch { expected: self.expected, found: first.number };
            let (place, reason) = hole.unwrap_or((self.place(number, first.at()), other));
            self.gap = None;
            self.stop_at(place, reason);
        } else if self.gap.is_none() && is_next {
            let what = if first.first_seq < self.least_seq {
                Some("seq")
            } else if first.epoch < self.least_epoch {
                Some("epoch")
            } else {
                None
            };
            if let Some(what) = what {
                let reason = Reason::Order { batch: first.number, what };
                self.stop_at(self.place(number, first.at()), reason);
            }
        }
        if !self.is_over {
            self.resume(chain);
        }
    }

    /// Goes on behind a chain, and knows now how much a gap before it has cost.
    fn resume(&mut self, chain: &Chain) {
        let first = &chain.first;
        if let Some(OpenGap { finding: Some(finding), first_batch, first_seq }) = self.gap.take() {
            let gap = Gap {
                first_batch,
                last_batch: Some(first.number.before()),
                first_seq,
                last_seq: Some(first.first_seq.before()),
            };
            self.found.findings[finding].gap = (first.number > first_batch).then_some(gap);
        }
        let last = &chain.last;
        self.expected = last.number.next();
        self.least_seq = last.last_seq().next();
        self.least_epoch = last.epoch;
        let found = &mut self.found;
        found.intact.batches += chain.intact.batches;
        found.intact.entries += chain.intact.entries;
        found.intact.bytes += chain.intact.bytes;
        found.payload_len += chain.payload_len;
        found.barrier = found.barrier.max(chain.barrier);
        found.last_seq = Some(last.last_seq());
        found.end =
            Place { shard: last.shard, segment: last.segment, at: last.at() + last.disk_len() };
        if let End::Recorded { batch, at, .. } = self.run.end
            && last.number == batch
        {
            if (last.segment, last.at()) != (self.run.last_segment, at) {
                let place = self.place(last.segment, last.at());
                let reason = Reason::OtherBatch { expected: batch, found: batch };
                let witness = self.recorded();
                self.report(Damage { at: place, reason, witness });
            }
            self.is_over = true;
        }
        self.enter_void();
    }

    /// The expected batch is not at this place: damage, or the end.
    fn stop_at(&mut self, at: Place, reason: Reason) {
        match self.verdict(at, reason) {
            Some(damage) => self.report(damage),
            None => self.is_over = true,
        }
    }

    fn verdict(&self, at: Place, reason: Reason) -> Option<Damage> {
        let (durable, claims) = match self.run.end {
            End::Recorded { .. } => {
                return Some(Damage { at, reason, witness: self.recorded() });
            }
            End::Open { durable, claims } => (durable, claims),
        };
        let facts = RunFacts {
            shard: self.shard(),
            last: None,
            expected: self.expected,
            stop: at,
            reason,
            barrier: self.found.barrier,
            durable,
            committed: claims.committed,
            seen: Seen::default(),
            torn_len: 0,
            damage: None,
            from_device: true,
        };
        judge(&facts, self.run.record, &claims).err().map(|damage| *damage)
    }

    fn recorded(&self) -> Option<Witness> {
        match self.run.end {
            End::Recorded { batch, generation, .. } => {
                let claim = Claim::RunEnd(batch);
                Some(Witness { claim, source: Source::Manifest(generation) })
            }
            End::Open { .. } => None,
        }
    }

    fn report(&mut self, damage: Damage) {
        let finding = Some(self.found.findings.len());
        let error = RecoverError::Damaged(Box::new(damage));
        self.found.findings.push(Finding { error, gap: None });
        if self.gap.is_none() {
            let (first_batch, first_seq) = (self.expected, self.least_seq);
            self.gap = Some(OpenGap { finding, first_batch, first_seq });
        }
    }

    /// All segments were seen; `next` would be the next one.
    fn finish(mut self, next: SegmentNumber) -> RunFound {
        let recorded = match self.run.end {
            End::Recorded { batch, last_kept_seq, .. } => Some((batch, last_kept_seq)),
            End::Open { .. } => None,
        };
        let is_short = recorded.is_none_or(|(batch, _)| self.expected <= batch);
        if !self.is_over && is_short {
            if self.gap.is_none() || self.is_void() {
                let (place, reason) =
                    self.hole.take().unwrap_or((self.place(next, 0), Reason::SegmentMissing));
                self.gap = None;
                self.stop_at(place, reason);
            }
            if let Some(OpenGap { finding: Some(finding), first_batch, first_seq }) = self.gap {
                let last_batch = recorded.map(|(batch, _)| batch);
                let last_seq = recorded.map(|(_, seq)| seq);
                self.found.findings[finding].gap =
                    Some(Gap { first_batch, last_batch, first_seq, last_seq });
            }
        }
        self.found.expected = self.expected;
        self.found
    }
}
