//! What takes effect by a manifest: truncation, release, clean close; and opening.

use std::sync::Arc;

use crate::disk::{Batch, Current, Cut, Disk, Header, Manifest, Record, Run};
use crate::ledger::{Violation, bit};
use crate::model::Protocol;
use crate::recovery::{Look, Opening, Outcome, Place, end_run, is_durable};
use crate::rules::Rule;
use crate::state::{Job, Phase, Process, Purpose, State, Writer};

impl Protocol {
    fn look<'a>(&self, disk: &'a Disk) -> Look<'a> {
        Look { disk, rules: self.rules }
    }

    /// Syncs, judges, delivers. What follows is the manifest of the next incarnation.
    pub(crate) fn recover(&self, state: &mut State, opening: Opening) -> Result<(), Violation> {
        state.spent.opens += 1;
        if self.rules.has(Rule::RecoverySyncsFirst) {
            state.disk.sync_all();
        }
        if self.rules.has(Rule::RecoveryReadsTheDevice) {
            for file in state.disk.shards.iter_mut().flatten() {
                for block in file.blocks.iter_mut().filter(|block| block.is_cache_only) {
                    block.volatile = None;
                    block.is_cache_only = false;
                }
            }
        }
        match self.look(&state.disk).recover(opening) {
            Outcome::NoLog { next_generation } => {
                if state.ledger.must != 0 {
                    state.phase = Phase::Over;
                    return Err(Violation::DamageIsSilent);
                }
                let next = Arc::new(first_manifest(next_generation, state.disk.shards.len()));
                state.phase =
                    Phase::Opening(Job { next, is_renamed: false, purpose: Purpose::Create });
            }
            Outcome::Refused => {
                state.phase = Phase::Over;
                if state.ledger.damaged.is_none() {
                    return Err(Violation::PowerCutIsRefused);
                }
            }
            Outcome::Recovered(found) => {
                state.ledger.recovered(&found.delivery, self.bounds.depth * self.bounds.batch)?;
                if state.ledger.damaged.is_some() {
                    state.phase = Phase::Over;
                    return Ok(());
                }
                let next = Manifest { ghost: state.ledger.ghost(), ..found.next };
                let purpose = Purpose::Open { voided: found.voided };
                state.phase =
                    Phase::Opening(Job { next: Arc::new(next), is_renamed: false, purpose });
            }
        }
        Ok(())
    }

    pub(crate) fn rename_manifest(&self, state: &mut State) {
        let job = state.job_mut().expect("a manifest is being written");
        job.is_renamed = true;
        let (next, purpose) = (job.next.clone(), job.purpose);
        state.disk.renamed = Some(next);
        match purpose {
            Purpose::Open { voided: entries } | Purpose::Truncate { dropped: entries, .. } => {
                state.ledger.may_void(entries);
            }
            Purpose::Release { released } => state.ledger.release(released),
            Purpose::Create | Purpose::Close => {}
        }
    }

    /// The directory is synced: the manifest is durable, and takes effect.
    pub(crate) fn finish_manifest(&self, state: &mut State) -> Result<(), Violation> {
        let job = state.job_mut().expect("a manifest is being written").clone();
        state.disk.renamed = None;
        state.disk.hold(job.next.clone());
        match job.purpose {
            Purpose::Create => state.phase = Phase::Down,
            Purpose::Open { voided } => {
                state.ledger.void(voided);
                self.start(state, job.next)?;
            }
            Purpose::Truncate { shard, dropped } => {
                state.ledger.void(dropped);
                let current = job.next.shards[usize::from(shard)].current;
                self.go_on(state, job.next);
                let writer = state.writer_mut(shard);
                if let Some(start) = current {
                    writer.next_seq = start.seq;
                    writer.next_batch = start.batch;
                    writer.segment = 0;
                    writer.queue.retain(|&number| number >= start.segment);
                }
            }
            Purpose::Release { released } => {
                state.ledger.release(released);
                self.go_on(state, job.next);
                self.remove_released(state);
            }
            Purpose::Close => state.phase = Phase::Down,
        }
        Ok(())
    }

    fn go_on(&self, state: &mut State, manifest: Arc<Manifest>) {
        let process = state.process_mut();
        process.manifest = manifest;
        process.job = None;
    }

    /// Files below the first kept segment are removed, if they are not to be recycled.
    pub(crate) fn remove_released(&self, state: &mut State) {
        if self.bounds.recycles {
            return;
        }
        let manifest = state.process().manifest.clone();
        for (record, files) in manifest.shards.iter().zip(&mut state.disk.shards) {
            let first = record.current.map_or(0, |current| current.segment);
            let kept = |number: u8| {
                number >= first || record.runs.iter().any(|run| run.last_segment >= number)
            };
            files.retain(|file| kept(file.number));
        }
    }

    /// The next incarnation starts.
    fn start(&self, state: &mut State, manifest: Arc<Manifest>) -> Result<(), Violation> {
        let records = manifest.shards.iter();
        let active = (0..).zip(records.clone()).filter(|(_, record)| record.active);
        let active = active.fold(0_u8, |mask, (shard, _)| mask | 1 << shard);
        state.ledger.open(manifest.first_epoch, active)?;
        let writers = records.map(|record: &Record| {
            let start = record.current?;
            Some(Writer::new(start, manifest.first_epoch, record.barrier))
        });
        let writers = writers.collect();
        let committed = manifest.committed;
        for (id, given) in (0..).zip(&state.ledger.given) {
            let is_kept = state.ledger.must & bit(id) != 0;
            let is_released = state.ledger.released & bit(id) != 0;
            if !is_released && is_durable(&manifest, given.stamp, self.rules) != is_kept {
                return Err(Violation::WrongAnswer);
            }
        }
        let process = Process { manifest: manifest.clone(), writers, committed, job: None };
        state.phase = Phase::Running(Box::new(process));
        if !self.bounds.steps {
            for shard in (0..).zip(&manifest.shards).filter(|(_, it)| it.active).map(|it| it.0) {
                self.prepare_ahead(state, shard);
            }
        }
        Ok(())
    }

    /// The committed epoch is published; whoever is told of it is told afterwards.
    pub(crate) fn publish(&self, state: &mut State) -> Result<(), Violation> {
        let committed = state.process().closed_everywhere();
        state.process_mut().committed = committed;
        self.report(state)
    }

    pub(crate) fn report(&self, state: &mut State) -> Result<(), Violation> {
        let committed = state.process().closed_everywhere();
        let durable = state.ledger.must | state.ledger.released;
        state.ledger.commit(committed, durable)
    }

    /// A manifest of this incarnation, with its promises.
    fn current_manifest(&self, state: &State) -> Manifest {
        let process = state.process();
        let old = &process.manifest;
        let mut shards = old.shards.clone();
        for (record, writer) in shards.iter_mut().zip(&process.writers) {
            let Some(writer) = writer else { continue };
            record.durable = writer.frontier;
            let keeps = self.rules.has(Rule::ManifestKeepsTheBarrier);
            record.barrier = if keeps { writer.barrier } else { 0 };
        }
        Manifest {
            generation: old.generation + 1,
            committed: process.committed,
            ghost: state.ledger.ghost(),
            shards,
            ..**old
        }
    }

    /// The batches of the current run, and of an ended one.
    fn batches(&self, state: &State, shard: u8, run: Option<&Run>) -> Vec<Arc<Batch>> {
        let look = self.look(&state.disk);
        if let Some(run) = run {
            return look.ended(shard, run).unwrap_or_default();
        }
        let manifest = &state.process().manifest;
        let Some(start) = manifest.shards[usize::from(shard)].current else { return Vec::new() };
        let mut place = Place { segment: start.segment, at: 0, expected: start.batch };
        let mut batches = Vec::new();
        while let Some(batch) = look.step(shard, &mut place, manifest.incarnation) {
            batches.push(batch);
        }
        batches
    }

    /// Where `shard` may be cut: behind which seq, and what that drops.
    pub(crate) fn cuts(&self, state: &State, shard: u8) -> Vec<(u8, u32)> {
        let process = state.process();
        let incarnation = process.manifest.incarnation;
        let given = (0_u8..)
            .zip(&state.ledger.given)
            .filter(|(id, given)| given.stamp.shard == shard && state.ledger.must & bit(*id) != 0);
        let kept: Vec<_> = given.collect();
        let spares = self.rules.has(Rule::TruncationSparesBarriers);
        let mut cuts = Vec::new();
        for index in 0..kept.len() {
            let after = if index == 0 { 0 } else { kept[index - 1].1.stamp.seq };
            let is_allowed = kept[index..].iter().all(|(_, given)| {
                let is_barrier = given.barrier && given.incarnation == incarnation;
                !spares || !is_barrier && given.stamp.epoch > process.committed
            });
            if is_allowed {
                cuts.push((after, kept[index..].iter().map(|(id, _)| bit(*id)).sum()));
            }
        }
        cuts
    }

    pub(crate) fn truncate(&self, state: &mut State, shard: u8, after: u8, dropped: u32) {
        state.spent.truncations += 1;
        if !self.rules.has(Rule::TruncationIsInTheManifest) {
            return self.truncate_in_header(state, shard, after, dropped);
        }
        let mut next = self.current_manifest(state);
        let writer = state.writer(shard);
        let old = state.process().manifest.shards[usize::from(shard)].clone();
        let start = old.current.expect("an active shard has a run");
        let mut runs: Vec<Run> = Vec::new();
        for run in &old.runs {
            runs.extend(lower(*run, &self.batches(state, shard, Some(run)), after));
        }
        let current = self.batches(state, shard, None);
        let run = end_run(&next, start, &current);
        runs.extend(run.and_then(|run| lower(run, &current, after)));
        let record = &mut next.shards[usize::from(shard)];
        let goes_on = self.rules.has(Rule::SeqsGoOnAboveAllGivenOut);
        let replaces = self.rules.has(Rule::TheCutReplacesTheFrontier);
        let last = runs.last().map_or(0, |run| run.last_batch);
        let listed = state.disk.shards[usize::from(shard)].last().map_or(0, |file| file.number);
        record.current = Some(Current {
            segment: writer.queue.first().copied().unwrap_or(listed + 1),
            batch: if replaces { writer.next_batch } else { last + 1 },
            seq: if goes_on { writer.next_seq } else { after + 1 },
        });
        if replaces {
            record.durable = 0;
        }
        record.next_batch = record.current.map_or(0, |current| current.batch);
        record.next_seq = record.current.map_or(0, |current| current.seq);
        record.runs = runs;
        let purpose = Purpose::Truncate { shard, dropped };
        state.process_mut().job = Some(Job { next: Arc::new(next), is_renamed: false, purpose });
    }

    /// Without the rule: the cut stands in the header of the next segment, and holds at once.
    fn truncate_in_header(&self, state: &mut State, shard: u8, after: u8, dropped: u32) {
        self.take_segment(state, shard);
        let kept = self.batches(state, shard, None);
        let kept = kept.iter().filter(|it| it.entries.first().is_none_or(|it| it.seq <= after));
        let last_batch = kept.map(|batch| batch.number).max().unwrap_or(0);
        let writer = state.writer(shard);
        let cut = Cut { last_batch, last_seq: after, next_batch: writer.next_batch };
        let segment = writer.segment;
        let file = state.disk.file_mut(shard, segment).expect("the segment is ready");
        if let Some(mut text) = file.header.text() {
            text.cut = Some(cut);
            file.header = Header::Durable(text);
        }
        state.ledger.void(dropped);
    }

    /// A checkpoint at the committed epoch: whole segments below it are released.
    pub(crate) fn release(&self, state: &State) -> Option<(Manifest, u32)> {
        let mut next = self.current_manifest(state);
        next.checkpoint = state.process().committed;
        let epoch = next.checkpoint;
        let mut released = 0;
        for (shard, writer) in state.process().live() {
            let record = &mut next.shards[usize::from(shard)];
            record.runs.retain(|run| {
                let batches = self.batches(state, shard, Some(run));
                let is_kept = batches.iter().any(|batch| batch.epoch > epoch);
                if !is_kept {
                    released |= ids(&batches);
                }
                is_kept
            });
            let batches = self.batches(state, shard, None);
            let Some(start) = &mut record.current else { continue };
            for segment in start.segment..writer.segment {
                let inside = batches.iter().filter(|batch| batch.segment == segment);
                let inside: Vec<_> = inside.cloned().collect();
                let Some(last) = inside.last() else { break };
                if last.epoch > epoch || last.number > writer.frontier {
                    break;
                }
                start.segment = segment + 1;
                start.batch = last.number + 1;
                released |= ids(&inside);
            }
        }
        (released != 0).then_some((next, released))
    }

    pub(crate) fn start_release(&self, state: &mut State) {
        let Some((next, released)) = self.release(state) else { return };
        state.spent.checkpoints += 1;
        let next = Arc::new(next);
        if !self.rules.has(Rule::ReleasedAfterTheManifest) {
            for (record, files) in next.shards.iter().zip(&mut state.disk.shards) {
                let first = record.current.map_or(0, |current| current.segment);
                let in_run = |number| record.runs.iter().any(|run| run.last_segment >= number);
                files.retain(|file| file.number >= first || in_run(file.number));
            }
        }
        let purpose = Purpose::Release { released };
        state.process_mut().job = Some(Job { next, is_renamed: false, purpose });
    }

    /// Ends every run in a manifest.
    pub(crate) fn close(&self, state: &mut State) {
        state.spent.clean_closes += 1;
        state.was_quiet = true;
        if !self.rules.has(Rule::CloseRecordsEveryEnd) {
            state.phase = Phase::Down;
            return;
        }
        let mut next = self.current_manifest(state);
        for (shard, writer) in state.process().live() {
            let batches = self.batches(state, shard, None);
            let record = next.shards[usize::from(shard)].clone();
            let run = record.current.and_then(|start| end_run(&next, start, &batches));
            let record = &mut next.shards[usize::from(shard)];
            record.runs.extend(run);
            record.current = None;
            record.durable = 0;
            record.next_segment =
                state.disk.shards[usize::from(shard)].last().map_or(0, |it| it.number) + 1;
            record.next_batch = writer.next_batch;
            record.next_seq = writer.next_seq;
        }
        let purpose = Purpose::Close;
        state.process_mut().job = Some(Job { next: Arc::new(next), is_renamed: false, purpose });
    }
}

impl State {
    pub(crate) fn job(&self) -> Option<&Job> {
        match &self.phase {
            Phase::Opening(job) => Some(job),
            Phase::Running(process) => process.job.as_ref(),
            Phase::Down | Phase::Over => None,
        }
    }

    fn job_mut(&mut self) -> Option<&mut Job> {
        match &mut self.phase {
            Phase::Opening(job) => Some(job),
            Phase::Running(process) => process.job.as_mut(),
            Phase::Down | Phase::Over => None,
        }
    }
}

/// A run that is cut behind the seq `after`; none if nothing of it is left.
fn lower(run: Run, batches: &[Arc<Batch>], after: u8) -> Option<Run> {
    let is_kept = |batch: &&Arc<Batch>| batch.entries.first().is_some_and(|it| it.seq <= after);
    let last = batches.iter().rfind(is_kept)?;
    let seqs = last.entries.iter().map(|entry| entry.seq).filter(|&seq| seq <= after);
    let last_kept_seq = seqs.max()?.min(run.last_kept_seq);
    Some(Run { last_segment: last.segment, last_batch: last.number, last_kept_seq, ..run })
}

fn ids(batches: &[Arc<Batch>]) -> u32 {
    batches.iter().flat_map(|batch| &batch.entries).fold(0, |all, entry| all | bit(entry.id))
}

/// A manifest of the creation: no incarnation yet, no run.
pub(crate) fn first_manifest(generation: u8, shards: usize) -> Manifest {
    let record = Record { next_segment: 1, next_batch: 1, next_seq: 1, ..Record::default() };
    Manifest {
        generation,
        incarnation: 0,
        committed: 0,
        first_epoch: 1,
        bound: 0,
        checkpoint: 0,
        shards: vec![record; shards],
        ghost: crate::disk::Ghost::default(),
    }
}
