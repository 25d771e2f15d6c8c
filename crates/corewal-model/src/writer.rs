//! What a process does: appending, submitting, completing, epochs, segments.

use std::sync::Arc;

use crate::disk::{Batch, Block, Content, Current, Entry, File, Header, HeaderText};
use crate::ledger::{Given, Stamp, Violation, bit};
use crate::model::Protocol;
use crate::rules::Rule;
use crate::state::{Flying, Phase, Process, Progress, State, Writer};

/// What a shard's next batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Entries,
    Barrier,
    Vouch,
}

impl State {
    pub(crate) fn process(&self) -> &Process {
        match &self.phase {
            Phase::Running(process) => process,
            _ => unreachable!("only a running process does this"),
        }
    }

    pub(crate) fn process_mut(&mut self) -> &mut Process {
        match &mut self.phase {
            Phase::Running(process) => process,
            _ => unreachable!("only a running process does this"),
        }
    }

    pub(crate) fn writer(&self, shard: u8) -> &Writer {
        self.process().writer(shard).expect("the shard is active")
    }

    pub(crate) fn writer_mut(&mut self, shard: u8) -> &mut Writer {
        self.process_mut().writers[usize::from(shard)].as_mut().expect("the shard is active")
    }
}

impl Writer {
    pub(crate) fn new(start: Current, epoch: u8, barrier: u8) -> Self {
        Self {
            next_seq: start.seq,
            next_batch: start.batch,
            epoch,
            open: Vec::new(),
            flight: Vec::new(),
            sync: None,
            failed: false,
            frontier: 0,
            unvouched: 0,
            promised: 0,
            promised_epoch: 0,
            barrier,
            segment: 0,
            at: 0,
            queue: Vec::new(),
            preparing: None,
            skipped: 0,
        }
    }
}

impl Protocol {
    /// A stamp is given out, and its entry stands in the open batch.
    pub(crate) fn append(
        &self,
        state: &mut State,
        shard: u8,
        barrier: bool,
        group: Option<u8>,
    ) -> Result<Entry, Violation> {
        let incarnation = state.process().manifest.incarnation;
        let writer = state.writer_mut(shard);
        let stamp = Stamp { epoch: writer.epoch, seq: writer.next_seq, shard };
        writer.next_seq += 1;
        let entry = state.ledger.give(Given { stamp, incarnation, barrier, group })?;
        state.writer_mut(shard).open.push(entry);
        state.spent.entries += u8::from(!barrier);
        Ok(entry)
    }

    /// Appends an entry that was caused by the entry `cause` of another shard.
    pub(crate) fn observe(&self, state: &mut State, shard: u8, cause: u8) -> Result<(), Violation> {
        let seen = state.ledger.given[usize::from(cause)].stamp;
        let writer = state.writer_mut(shard);
        if self.rules.has(Rule::ObservingMovesTheSeq) {
            writer.next_seq = writer.next_seq.max(seen.seq + 1);
        }
        let effect = self.append(state, shard, false, None)?;
        if state.ledger.given[usize::from(effect.id)].stamp < seen {
            return Err(Violation::EffectBeforeCause);
        }
        Ok(())
    }

    /// Seals the open batch, with the promises that hold now, and submits it.
    pub(crate) fn submit(&self, state: &mut State, shard: u8, kind: Kind) {
        let ghost = state.ledger.ghost();
        let own = state.ledger.entries_of(shard);
        let ghost = crate::disk::Ghost { acked: ghost.acked & own, ..ghost };
        let (incarnation, committed) = {
            let process = state.process();
            (process.manifest.incarnation, process.committed)
        };
        if state.writer(shard).at >= self.bounds.blocks || state.writer(shard).segment == 0 {
            self.take_segment(state, shard);
        }
        let writer = state.writer_mut(shard);
        let entries = std::mem::take(&mut writer.open);
        let batch = Batch {
            number: writer.next_batch,
            segment: writer.segment,
            incarnation,
            epoch: entries.first().map_or(writer.epoch, |entry| entry.epoch),
            barrier: kind == Kind::Barrier,
            durable: writer.frontier,
            committed,
            ghost,
            entries,
        };
        writer.flight.push(Flying {
            number: batch.number,
            segment: batch.segment,
            at: writer.at,
            entries: batch.entries.iter().map(|entry| bit(entry.id)).sum(),
            barrier: if batch.barrier { batch.epoch } else { 0 },
            promise: batch.durable,
            promised_epoch: batch.committed,
            progress: Progress::Submitted,
        });
        let at = usize::from(writer.at);
        writer.next_batch += 1;
        writer.at += 1;
        let file = state.disk.file_mut(shard, batch.segment).expect("the segment is there");
        file.blocks[at].write(Content::Whole(Arc::new(batch)));
    }

    /// The barrier of the open epoch, in a batch of its own; then the next epoch is open.
    pub(crate) fn close_epoch(&self, state: &mut State, shard: u8) -> Result<(), Violation> {
        self.append(state, shard, true, None)?;
        self.submit(state, shard, Kind::Barrier);
        let writer = state.writer_mut(shard);
        writer.epoch += 1;
        let open = writer.epoch;
        state.ledger.top_epoch = state.ledger.top_epoch.max(open);
        state.spent.closes += 1;
        Ok(())
    }

    /// A write completes: durable at once, or to be synced.
    pub(crate) fn complete(&self, state: &mut State, shard: u8, number: u8) {
        let syncs = self.bounds.syncs;
        let writer = state.writer_mut(shard);
        let flying = writer.flight.iter_mut().find(|it| it.number == number);
        let flying = flying.expect("it is in flight");
        flying.progress = if syncs { Progress::Written } else { Progress::Durable };
        let flying = *flying;
        if !syncs {
            self.land(state, shard, &flying);
            self.advance(state, shard, number);
        }
    }

    fn land(&self, state: &mut State, shard: u8, flying: &Flying) {
        if let Some(file) = state.disk.file_mut(shard, flying.segment) {
            file.blocks[usize::from(flying.at)].sync();
        }
    }

    pub(crate) fn start_sync(&self, state: &mut State, shard: u8) {
        let writer = state.writer_mut(shard);
        let written = writer.flight.iter().filter(|it| it.progress == Progress::Written);
        let written = written.map(|it| it.number).collect();
        let last = writer.flight.last().map_or(0, |it| it.number);
        writer.sync = Some((written, last));
    }

    pub(crate) fn end_sync(&self, state: &mut State, shard: u8) {
        let Some((written, last)) = state.writer_mut(shard).sync.take() else { return };
        let exact = self.rules.has(Rule::ASyncCoversWhatHadCompleted);
        for flying in state.writer(shard).flight.clone() {
            let had_completed = written.contains(&flying.number);
            if had_completed {
                self.land(state, shard, &flying);
            }
            if had_completed || !exact && flying.number <= last {
                let writer = state.writer_mut(shard);
                for it in writer.flight.iter_mut().filter(|it| it.number == flying.number) {
                    it.progress = Progress::Durable;
                }
            }
        }
        self.advance(state, shard, last);
    }

    /// A sync fails: what it was to make durable is dropped, and only the page cache still shows it.
    pub(crate) fn fail_sync(&self, state: &mut State, shard: u8) {
        let Some((written, _)) = state.writer_mut(shard).sync.take() else { return };
        for flying in state.writer(shard).flight.clone() {
            if written.contains(&flying.number)
                && let Some(file) = state.disk.file_mut(shard, flying.segment)
            {
                file.blocks[usize::from(flying.at)].is_cache_only = true;
            }
        }
        state.writer_mut(shard).failed = self.rules.has(Rule::FailureIsFinal);
        state.spent.failures += 1;
    }

    /// Moves the frontier over the contiguous durable prefix, and acknowledges what it passes.
    fn advance(&self, state: &mut State, shard: u8, completed: u8) {
        let contiguous = self.rules.has(Rule::FrontierIsTheContiguousPrefix);
        let writer = state.writer_mut(shard);
        let prefix = writer.flight.iter().take_while(|it| it.progress == Progress::Durable).count();
        let passed: Vec<Flying> = match contiguous {
            true => writer.flight.drain(..prefix).collect(),
            false => {
                let passed = writer.flight.iter().filter(|it| it.number <= completed);
                let passed = passed.copied().collect();
                writer.flight.retain(|it| it.number > completed);
                passed
            }
        };
        for flying in passed {
            let writer = state.writer_mut(shard);
            writer.frontier = writer.frontier.max(flying.number);
            writer.barrier = writer.barrier.max(flying.barrier);
            writer.promised = writer.promised.max(flying.promise);
            writer.promised_epoch = writer.promised_epoch.max(flying.promised_epoch);
            if flying.entries != 0 {
                writer.unvouched = flying.number;
            }
            state.ledger.acknowledge(flying.entries);
        }
    }

    /// How many batches count as in flight.
    pub(crate) fn in_flight(&self, writer: &Writer) -> u8 {
        let whole = self.rules.has(Rule::InFlightCountsFromTheFrontier);
        let counted = writer.flight.iter().filter(|it| whole || it.progress != Progress::Durable);
        u8::try_from(counted.count()).unwrap_or(u8::MAX)
    }

    /// Blocks that batches can still be written to.
    pub(crate) fn room(&self, state: &State, shard: u8) -> u8 {
        let writer = state.writer(shard);
        let here = if writer.segment == 0 { 0 } else { self.bounds.blocks - writer.at };
        let files = u8::try_from(state.disk.shards[usize::from(shard)].len()).unwrap_or(u8::MAX);
        let queued = u8::try_from(writer.queue.len()).unwrap_or(u8::MAX);
        let free = u8::try_from(self.leftovers(state, shard).len()).unwrap_or(u8::MAX);
        let more = self.bounds.files.saturating_sub(files) + free;
        (queued + more).saturating_mul(self.bounds.blocks).saturating_add(here)
    }

    /// The segment that is taken next is ready, or can be.
    pub(crate) fn has_place(&self, state: &State, shard: u8) -> bool {
        let writer = state.writer(shard);
        let fits = writer.segment != 0 && writer.at < self.bounds.blocks;
        let preparing = writer.preparing.and_then(|number| state.disk.file(shard, number));
        let unready = !self.rules.has(Rule::HeaderIsDurableFirst)
            && preparing.is_some_and(|file| !file.is_filling);
        fits || !writer.queue.is_empty()
            || unready
            || !self.bounds.steps && self.room(state, shard) > 0
    }

    /// Goes on in the next segment.
    pub(crate) fn take_segment(&self, state: &mut State, shard: u8) {
        if state.writer(shard).queue.is_empty() && !self.bounds.steps {
            self.prepare_at_once(state, shard);
        }
        let blocks = self.bounds.blocks;
        let writer = state.writer_mut(shard);
        writer.segment = match writer.queue.first() {
            Some(_) => writer.queue.remove(0),
            None => writer.preparing.take().expect("a segment that is not ready is taken"),
        };
        writer.at = 0;
        debug_assert!(blocks > 0);
        if !self.bounds.steps {
            self.prepare_ahead(state, shard);
        }
    }

    pub(crate) fn prepare_ahead(&self, state: &mut State, shard: u8) {
        let is_behind =
            |state: &State| state.writer(shard).queue.len() < usize::from(self.bounds.ahead);
        while is_behind(state) && self.can_prepare(state, shard) {
            self.prepare_at_once(state, shard);
        }
    }

    /// The disk has room for a file, or one to recycle.
    pub(crate) fn can_prepare(&self, state: &State, shard: u8) -> bool {
        let files = state.disk.shards[usize::from(shard)].len();
        files < usize::from(self.bounds.files) || !self.leftovers(state, shard).is_empty()
    }

    fn prepare_at_once(&self, state: &mut State, shard: u8) {
        self.start_preparing(state, shard);
        if let Some(number) = state.writer(shard).preparing
            && let Some(file) = state.disk.file_mut(shard, number)
        {
            file.fill_if_new();
        }
        self.finish_preparing(state, shard);
    }

    /// Creates a file for the next number, or gives a leftover that number; its name is not durable yet.
    pub(crate) fn start_preparing(&self, state: &mut State, shard: u8) {
        let writer = state.writer(shard);
        let start = state.process().manifest.shards[usize::from(shard)].current;
        let first = start.map_or(1, |current| current.segment);
        let last = writer.queue.last().copied().unwrap_or(writer.segment).max(first - 1);
        let number = last + 1 + writer.skipped;
        let incarnation = state.process().manifest.incarnation;
        let text = HeaderText { incarnation, cut: None };
        let leftover = self.leftovers(state, shard).first().copied();
        if state.disk.file(shard, number).is_some() {
            // Only without the rule that leftovers get new numbers: used under its old one.
        } else if let Some(old) = leftover {
            let file = state.disk.file_mut(shard, old).expect("a leftover is there");
            file.number = number;
            file.was = Some(old);
            file.header = Header::Zero;
            state.disk.shards[usize::from(shard)].sort_by_key(|file| file.number);
        } else {
            let file = File {
                number,
                is_named: false,
                was: None,
                header: Header::Volatile(text),
                is_filling: true,
                blocks: vec![Block::zero(); usize::from(self.bounds.blocks)],
                late: Vec::new(),
            };
            state.disk.put(shard, file);
        }
        let writer = state.writer_mut(shard);
        writer.preparing = Some(number);
        writer.skipped = 0;
    }

    /// The header, the name and the fill are durable: the segment is ready.
    pub(crate) fn finish_preparing(&self, state: &mut State, shard: u8) {
        let incarnation = state.process().manifest.incarnation;
        let Some(number) = state.writer_mut(shard).preparing.take() else { return };
        let file = state.disk.file_mut(shard, number).expect("it is being prepared");
        file.sync_header();
        if file.header.text().is_none_or(|text| text.incarnation != incarnation) {
            file.header = Header::Durable(HeaderText { incarnation, cut: None });
        }
        state.writer_mut(shard).queue.push(number);
    }

    /// Files that belong to no run any more.
    pub(crate) fn leftovers(&self, state: &State, shard: u8) -> Vec<u8> {
        if !self.bounds.recycles {
            return Vec::new();
        }
        let record = &state.process().manifest.shards[usize::from(shard)];
        let first = record.current.map_or(0, |current| current.segment);
        let in_run = |number: u8| {
            record.runs.iter().any(|run| (run.first_segment..=run.last_segment).contains(&number))
        };
        let files = state.disk.shards[usize::from(shard)].iter().map(|file| file.number);
        files.filter(|&number| number < first && !in_run(number)).collect()
    }
}

impl File {
    /// Preparing at once: the fill completes with it.
    fn fill_if_new(&mut self) {
        if self.is_filling {
            self.fill();
        }
    }
}
