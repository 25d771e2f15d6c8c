//! Recovery: the manifest, the ended runs, the facts of the current runs, the verdict, and the next manifest.
//!
//! Pure: it looks at a disk and says what it finds. Syncing before, and writing the manifest after, are steps of
//! their own.

use std::sync::Arc;

use crate::disk::{
    Batch, Content, Current, Cut, Disk, Entry, File, Ghost, Header, Manifest, Record, Run, Slot,
};
use crate::ledger::Delivery;
use crate::rules::{Rule, Rules};

/// With what a log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opening {
    /// Active shards.
    pub shards: u8,
    /// The pipelining bound.
    pub bound: u8,
    /// Entries above the committed epoch are voided.
    pub committed_only: bool,
}

/// What recovery makes of a disk.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// There is no log yet, or its creation was not finished.
    NoLog {
        next_generation: u8,
    },
    Refused,
    Recovered(Box<Recovered>),
}

#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) delivery: Delivery,
    pub(crate) next: Manifest,
    /// What the next manifest voids, as bits.
    pub(crate) voided: u32,
}

/// The facts of a shard's current run.
struct Facts {
    batches: Vec<Arc<Batch>>,
    /// The number that the first place that does not verify should hold, and its segment.
    expected: u8,
    segment: u8,
    /// The last epoch that a barrier of the intact beginning closed.
    barrier: u8,
    /// Promises and numbers, wherever in the run they stand.
    durable: u8,
    committed: u8,
    seen: Seen,
    /// A whole batch behind the first bad place, and the highest segment that has one.
    behind: u8,
    is_damaged: bool,
}

#[derive(Default)]
struct Seen {
    batch: u8,
    seq: u8,
    epoch: u8,
}

/// A disk under the rules by which it is read.
pub(crate) struct Look<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) rules: Rules,
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) segment: u8,
    pub(crate) at: u8,
    pub(crate) expected: u8,
}

impl Look<'_> {
    /// The latest manifest: both slots must hold one, and the generations must be neighbours.
    fn manifest(&self) -> Result<Arc<Manifest>, Outcome> {
        let slots = [self.disk.slot(0), self.disk.slot(1)];
        let lenient = |slot: &Slot| match slot {
            Slot::Absent => !self.rules.has(Rule::BothManifestsAreRequired),
            Slot::Broken => !self.rules.has(Rule::ABrokenManifestIsDamage),
            Slot::Held(_) => false,
        };
        match slots {
            [Slot::Held(even), Slot::Held(odd)] => match even.generation.abs_diff(odd.generation) {
                1 if even.generation > odd.generation => Ok(even),
                1 => Ok(odd),
                _ => Err(Outcome::Refused),
            },
            [Slot::Held(one), other] | [other, Slot::Held(one)] if lenient(&other) => Ok(one),
            [even, odd] => {
                let headers = self.disk.shards.iter().flatten();
                let untouched = headers.into_iter().all(|file| file.header == Header::Zero);
                let is_first = matches!(&odd, Slot::Held(first) if first.generation == 1);
                match (even, odd) {
                    (Slot::Absent, Slot::Absent) if untouched => {
                        Err(Outcome::NoLog { next_generation: 1 })
                    }
                    (Slot::Absent, _) if untouched && is_first => {
                        Err(Outcome::NoLog { next_generation: 2 })
                    }
                    _ => Err(Outcome::Refused),
                }
            }
        }
    }

    fn content(&self, shard: u8, segment: u8, at: u8, incarnation: u8) -> Option<&Content> {
        let file = self.disk.file(shard, segment)?;
        if file.header.text()?.incarnation != incarnation {
            return None;
        }
        let block = file.blocks.get(usize::from(at))?;
        let reads_device = self.rules.has(Rule::RecoveryReadsTheDevice);
        Some(if reads_device { block.device() } else { block.cache() })
    }

    fn whole(&self, shard: u8, place: Place, incarnation: u8) -> Option<&Arc<Batch>> {
        match self.content(shard, place.segment, place.at, incarnation)? {
            Content::Whole(batch) if is_here(batch, place.segment, incarnation) => {
                (batch.number == place.expected).then_some(batch)
            }
            _ => None,
        }
    }

    /// The next batch at `place`, or at the start of the next segment if it did not fit.
    pub(crate) fn step(&self, shard: u8, place: &mut Place, incarnation: u8) -> Option<Arc<Batch>> {
        let next = Place { segment: place.segment + 1, at: 0, ..*place };
        for here in [*place, next] {
            if let Some(batch) = self.whole(shard, here, incarnation) {
                *place = Place { at: here.at + 1, expected: here.expected + 1, ..here };
                return Some(batch.clone());
            }
        }
        None
    }

    /// The batches of an ended run, each verified; `None` if one is not there.
    pub(crate) fn ended(&self, shard: u8, run: &Run) -> Option<Vec<Arc<Batch>>> {
        let mut place = Place { segment: run.first_segment, at: 0, expected: run.first_batch };
        let mut batches = Vec::new();
        while place.expected <= run.last_batch {
            batches.push(self.step(shard, &mut place, run.incarnation)?);
        }
        let looks_behind = !self.rules.has(Rule::NothingLooksBehindAnEnd);
        let accused = |behind: &Arc<Batch>| behind.durable >= place.expected;
        if looks_behind && self.behind(shard, place, run.incarnation).iter().any(accused) {
            return None;
        }
        Some(batches)
    }

    /// Every batch header from `place` on that verifies, for its promises.
    pub(crate) fn behind(&self, shard: u8, place: Place, incarnation: u8) -> Vec<Arc<Batch>> {
        let mut found = Vec::new();
        for file in self.disk.shards[usize::from(shard)].iter() {
            let from = if file.number == place.segment { place.at } else { 0 };
            let blocks = u8::try_from(file.blocks.len()).unwrap_or(u8::MAX);
            for at in from..blocks {
                if file.number >= place.segment
                    && let Some(content) = self.content(shard, file.number, at, incarnation)
                    && let Content::Whole(batch) | Content::Torn(batch) = content
                    && is_here(batch, file.number, incarnation)
                {
                    found.push(batch.clone());
                }
            }
        }
        found
    }

    fn gather(&self, shard: u8, manifest: &Manifest, current: Current) -> Facts {
        let incarnation = manifest.incarnation;
        let mut place = Place { segment: current.segment, at: 0, expected: current.batch };
        let cut = self.header_cut(shard, current);
        let mut batches = Vec::new();
        loop {
            if let Some((segment, cut)) = cut
                && place.segment < segment
                && place.expected > cut.last_batch
            {
                place = Place { segment, at: 0, expected: cut.next_batch };
            }
            match self.step(shard, &mut place, incarnation) {
                Some(batch) => batches.push(batch),
                None => break,
            }
        }
        let behind = self.behind(shard, place, incarnation);
        let mut facts = Facts {
            expected: place.expected,
            segment: place.segment,
            barrier: batches.iter().filter(|it| it.barrier).map(|it| it.epoch).max().unwrap_or(0),
            durable: 0,
            committed: 0,
            seen: Seen::default(),
            behind: behind.iter().map(|it| it.segment).max().unwrap_or(0),
            is_damaged: self.damaged_segment(shard, manifest, current),
            batches,
        };
        for batch in facts.batches.iter().chain(&behind) {
            facts.durable = facts.durable.max(batch.durable);
            facts.committed = facts.committed.max(batch.committed);
            facts.seen.batch = facts.seen.batch.max(batch.number);
            facts.seen.epoch = facts.seen.epoch.max(batch.epoch);
            let last_seq = batch.entries.last().map_or(0, |entry| entry.seq);
            facts.seen.seq = facts.seen.seq.max(last_seq);
        }
        facts
    }

    /// Without the rule that a truncation is in the manifest: the one that a segment header records.
    fn header_cut(&self, shard: u8, current: Current) -> Option<(u8, Cut)> {
        let files = self.disk.shards[usize::from(shard)].iter();
        let mut cuts = files.filter(|file| file.number >= current.segment);
        cuts.find_map(|file| Some((file.number, file.header.text()?.cut?)))
    }

    /// A missing file below an existing one, the unreadable header of a used segment, or another incarnation.
    fn damaged_segment(&self, shard: u8, manifest: &Manifest, current: Current) -> bool {
        let files = &self.disk.shards[usize::from(shard)];
        let everywhere = !self.rules.has(Rule::MissingOnlyInsideRuns);
        let from = if everywhere { 0 } else { current.segment };
        let files: Vec<&File> = files.iter().filter(|file| file.number >= from).collect();
        let first =
            if everywhere { files.first().map_or(0, |it| it.number) } else { current.segment };
        let is_missing = files.iter().zip(first..).any(|(file, number)| file.number != number);
        if is_missing && self.rules.has(Rule::MissingBelowAnExistingOneIsDamage) {
            return true;
        }
        files.iter().filter(|file| file.number >= current.segment).any(|file| {
            let is_last = files.last().is_some_and(|last| last.number == file.number);
            match file.header.text() {
                Some(text) => text.incarnation != manifest.incarnation,
                None => !is_last || self.was_used(file, manifest.incarnation),
            }
        })
    }

    fn was_used(&self, file: &File, incarnation: u8) -> bool {
        self.rules.has(Rule::SeedIsDerived)
            && file.blocks.iter().any(|block| match block.device() {
                Content::Whole(batch) | Content::Torn(batch) => {
                    is_here(batch, file.number, incarnation)
                }
                Content::Zero | Content::Garbage => false,
            })
    }

    /// Whether the first bad place of a current run had been acknowledged.
    fn is_accused(&self, facts: &Facts, record: &Record, manifest: &Manifest, claim: u8) -> bool {
        let has = |rule| self.rules.has(rule);
        let barrier = facts.barrier.max(record.barrier);
        let promised = facts.durable >= facts.expected || record.durable >= facts.expected;
        let moved = record.current.is_some_and(|current| current.batch > record.next_batch);
        facts.is_damaged
            || promised
            || claim > manifest.committed && claim > barrier
            || !has(Rule::AHoleWithoutPromiseIsTorn) && facts.behind > 0
            || !has(Rule::SegmentsSayNothingOfTheOneBefore) && facts.behind > facts.segment
            || !has(Rule::FirstKeptSegmentMayBeEmpty) && moved && facts.batches.is_empty()
    }

    /// Judges the disk.
    pub(crate) fn recover(&self, opening: Opening) -> Outcome {
        let manifest = match self.manifest() {
            Ok(manifest) => manifest,
            Err(outcome) => return outcome,
        };
        let later = |file: &File| {
            file.header.text().is_some_and(|text| text.incarnation > manifest.incarnation)
        };
        if self.disk.shards.iter().flatten().any(later) {
            return Outcome::Refused;
        }
        let mut delivery =
            Delivery { committed_only: opening.committed_only, ..Delivery::default() };
        let mut runs = Vec::new();
        let mut facts = Vec::new();
        for (shard, record) in (0..).zip(&manifest.shards) {
            let mut ended = Vec::new();
            for run in &record.runs {
                match self.ended(shard, run) {
                    Some(batches) => ended.push((*run, batches)),
                    None => return Outcome::Refused,
                }
            }
            let current = record.current.map(|current| self.gather(shard, &manifest, current));
            if let (Some(facts), Some(start)) = (&current, record.current)
                && let Some(run) = end_run(&manifest, start, &facts.batches)
            {
                ended.push((run, facts.batches.clone()));
            }
            runs.push(ended);
            facts.push(current);
        }
        let claim = facts.iter().flatten().map(|facts| facts.committed).max().unwrap_or(0);
        for (record, facts) in manifest.shards.iter().zip(&facts) {
            let refused = match facts {
                Some(facts) => self.is_accused(facts, record, &manifest, claim),
                None => {
                    !self.rules.has(Rule::PromisesBindActiveShards)
                        && claim > manifest.committed.max(record.barrier)
                }
            };
            if refused {
                return Outcome::Refused;
            }
        }
        delivery.committed = self.committed(&manifest, &facts, opening);
        delivery.shards = runs
            .iter()
            .enumerate()
            .map(|(shard, runs)| {
                runs.iter().flat_map(|(run, batches)| self.entries(shard, run, batches)).collect()
            })
            .collect();
        delivery.witnessed = self.witnesses(&manifest);
        let (next, voided) = self.next(&manifest, runs, &facts, &delivery, opening);
        Outcome::Recovered(Box::new(Recovered { delivery, next, voided }))
    }

    /// The delivered entries of a run.
    fn entries(&self, shard: usize, run: &Run, batches: &[Arc<Batch>]) -> Vec<Entry> {
        let cut = u8::try_from(shard).ok().and_then(|shard| {
            let start = Current { segment: run.first_segment, batch: 0, seq: 0 };
            self.header_cut(shard, start)
        });
        let last = if self.rules.has(Rule::LastKeptSeq) { run.last_kept_seq } else { u8::MAX };
        let kept = |entry: &Entry, batch: &Batch| {
            entry.seq <= last
                && cut
                    .is_none_or(|(_, it)| entry.seq <= it.last_seq || batch.number >= it.next_batch)
        };
        let mut entries = Vec::new();
        for batch in batches {
            entries.extend(batch.entries.iter().filter(|entry| kept(entry, batch)));
        }
        entries
    }

    /// What the surviving batches of the current runs, and the manifest, could know.
    fn witnesses(&self, manifest: &Manifest) -> Ghost {
        let mut all = manifest.ghost;
        for (record, files) in manifest.shards.iter().zip(&self.disk.shards) {
            let Some(current) = record.current else { continue };
            for file in files.iter().filter(|file| file.number >= current.segment) {
                for block in &file.blocks {
                    if let Content::Whole(batch) | Content::Torn(batch) = block.device()
                        && is_here(batch, file.number, manifest.incarnation)
                    {
                        all.acked |= batch.ghost.acked;
                        all.reported = all.reported.max(batch.ghost.reported);
                    }
                }
            }
        }
        all
    }

    /// The manifest's, or the last epoch that every shard of the incarnation closed durably in it.
    fn committed(&self, manifest: &Manifest, facts: &[Option<Facts>], opening: Opening) -> u8 {
        let own_shards = self.rules.has(Rule::MinimumIsOverTheShardsOfTheIncarnation);
        let counts = |shard: usize, record: &Record| match own_shards {
            true => record.active,
            false => shard < usize::from(opening.shards),
        };
        let barriers = manifest.shards.iter().zip(facts).enumerate();
        let barriers = barriers.filter(|(shard, (record, _))| counts(*shard, record));
        let least = barriers.map(|(_, (record, facts))| {
            record.barrier.max(facts.as_ref().map_or(0, |facts| facts.barrier))
        });
        manifest.committed.max(least.min().unwrap_or(0))
    }

    /// The manifest of the next incarnation, and what it voids.
    fn next(
        &self,
        old: &Manifest,
        runs: Vec<Vec<(Run, Vec<Arc<Batch>>)>>,
        facts: &[Option<Facts>],
        delivery: &Delivery,
        opening: Opening,
    ) -> (Manifest, u32) {
        let mut voided = 0;
        let mut shards = Vec::new();
        for (shard, ((record, facts), runs)) in old.shards.iter().zip(facts).zip(runs).enumerate() {
            let mut next = self.retire(shard, record, facts.as_ref());
            for (run, batches) in runs {
                let kept = batches.iter().take_while(|batch| {
                    !opening.committed_only || batch.epoch <= delivery.committed
                });
                let kept = kept.count();
                for entry in batches[kept..].iter().flat_map(|batch| &batch.entries) {
                    voided |= crate::ledger::bit(entry.id);
                }
                let start = Current {
                    segment: run.first_segment,
                    batch: run.first_batch,
                    seq: run.first_seq,
                };
                if kept == batches.len() {
                    next.runs.push(run);
                } else if let Some(shorter) = end_run(old, start, &batches[..kept]) {
                    let (incarnation, first_epoch) = (run.incarnation, run.first_epoch);
                    next.runs.push(Run { incarnation, first_epoch, ..shorter });
                }
            }
            if shard < usize::from(opening.shards) {
                next.active = true;
                next.current = Some(Current {
                    segment: next.next_segment,
                    batch: next.next_batch,
                    seq: next.next_seq,
                });
            }
            shards.push(next);
        }
        let next = Manifest {
            generation: old.generation + 1,
            incarnation: old.incarnation + 1,
            committed: delivery.committed,
            first_epoch: self.first_epoch(old, facts, delivery.committed, opening),
            bound: opening.bound,
            checkpoint: old.checkpoint,
            shards,
            ghost: Ghost::default(),
        };
        (next, voided)
    }

    fn first_epoch(
        &self,
        old: &Manifest,
        facts: &[Option<Facts>],
        committed: u8,
        opening: Opening,
    ) -> u8 {
        if old.incarnation == 0 {
            return old.first_epoch;
        }
        let facts = facts.iter().flatten();
        if !self.rules.has(Rule::EpochsStartAboveTheBound) {
            let intact = facts.filter_map(|facts| facts.batches.last()).map(|it| it.epoch);
            return intact.max().unwrap_or(0).max(committed) + 1;
        }
        let seen = facts.map(|facts| facts.seen.epoch.max(facts.committed)).max().unwrap_or(0);
        let stored = self.rules.has(Rule::TheBoundIsStored);
        let bound = if stored { old.bound } else { opening.bound };
        seen.max(old.first_epoch).max(committed + 1) + bound + 1
    }

    /// The record of a shard whose incarnation is over: numbers go on above everything that was seen.
    fn retire(&self, shard: usize, old: &Record, facts: Option<&Facts>) -> Record {
        let files = &self.disk.shards[shard];
        let listed = files.last().map_or(0, |file| file.number);
        let started = old.current.unwrap_or(Current { segment: 0, batch: 0, seq: 0 });
        let unused = files.iter().filter(|file| {
            let used = facts.and_then(|it| it.batches.last()).map_or(0, |last| last.segment);
            file.number >= started.segment && file.number > used && file.header != Header::Zero
        });
        let leftover = unused.map(|file| file.number).min();
        let reuse = leftover.filter(|_| !self.rules.has(Rule::LeftoversGetNewNumbers));
        let seen = facts.map_or(Seen::default(), |facts| Seen { ..facts.seen });
        let counts_old = !self.rules.has(Rule::BarrierCountsOnlyInItsIncarnation);
        let barrier = facts.map_or(0, |facts| facts.barrier).max(old.barrier);
        let above = old.next_segment.max(listed + 1).max(started.segment);
        Record {
            active: false,
            runs: Vec::new(),
            next_segment: reuse.unwrap_or(above),
            next_batch: old.next_batch.max(seen.batch + 1).max(started.batch),
            next_seq: old.next_seq.max(seen.seq + 1).max(started.seq),
            current: None,
            durable: 0,
            barrier: if counts_old { barrier } else { 0 },
        }
    }
}

/// A run of these batches with its exact end; none without a batch.
pub(crate) fn end_run(manifest: &Manifest, start: Current, batches: &[Arc<Batch>]) -> Option<Run> {
    let last = batches.last()?;
    let last_entry = batches.iter().rev().find_map(|batch| batch.entries.last());
    Some(Run {
        incarnation: manifest.incarnation,
        first_epoch: manifest.first_epoch,
        first_segment: start.segment,
        first_batch: start.batch,
        first_seq: start.seq,
        last_segment: last.segment,
        last_batch: last.number,
        last_kept_seq: last_entry.map_or(start.seq - 1, |entry| entry.seq),
    })
}

/// The seed of a batch's checksums: an older life of a recycled file does not verify.
fn is_here(batch: &Batch, segment: u8, incarnation: u8) -> bool {
    batch.segment == segment && batch.incarnation == incarnation
}

/// What is answered for a stamp of an earlier incarnation: whether it is durable.
pub(crate) fn is_durable(manifest: &Manifest, stamp: crate::ledger::Stamp, rules: Rules) -> bool {
    let runs = &manifest.shards[usize::from(stamp.shard)].runs;
    let by_epoch = rules.has(Rule::StampsAreAnsweredFromRuns);
    let own = |run: &&Run| {
        let seqs = (run.first_seq..=run.last_kept_seq).contains(&stamp.seq);
        let later = runs.iter().map(|it| it.first_epoch).filter(|&it| it > run.first_epoch).min();
        let later = later.into_iter().chain(is_after(manifest, run)).min();
        let epochs = run.first_epoch <= stamp.epoch && later.is_none_or(|it| stamp.epoch < it);
        seqs && (epochs || !by_epoch)
    };
    runs.iter().any(|run| own(&run))
}

/// The current incarnation's first epoch, above all earlier ones.
fn is_after(manifest: &Manifest, run: &Run) -> Option<u8> {
    (manifest.first_epoch > run.first_epoch).then_some(manifest.first_epoch)
}
