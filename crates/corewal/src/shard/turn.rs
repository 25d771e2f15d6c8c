//! The control flow of a core: reap, move the frontier, seal and submit. Everything that a writer does
//! besides filling batches happens in a turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use corewal_disk::{Block, Completion, Operation, Ring, Token};
use corewal_format::{BatchFlags, BatchNumber, Place, SegmentNumber, Seq};

use crate::epoch::SeatState;
use crate::error::{AppendError, Failure, FailureCause};
use crate::events;
use crate::frontier::{Batches, End};
use crate::keep::Piece;
use crate::method::Method;
use crate::options::Policy;
use crate::recovery::LastBatch;
use crate::shard::OpenBatch;
use crate::shard::batch::Promises;
use crate::shard::flight::{Flight, InFlight};
use crate::shard::intake::Intake;
use crate::shard::refill::Refill;
use crate::shard::watch::Watch;
use crate::shared::{ShardShared, Shared, Start};
use crate::wakeup::Exposure;

/// A vouch that has found no room is not tried again sooner, however soon it is due.
const LEAST_REST: Duration = Duration::from_millis(10);

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Take another one: there is more to do at once.
    Again,
    /// Nothing can be done before a completion: append more, or [`sleep`](super::ShardWriter::sleep).
    Sleep,
    /// Nothing is in flight: everything that was appended is durable (under another policy than every batch:
    /// written). With a duration: take a turn after it, for a vouch or a sync that is due then.
    Idle(Option<Duration>),
}

/// What the caller of a turn does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Something else.
    Return,
    /// Nothing before a completion: the turn waits for one, if anything is in flight.
    Await,
}

/// Whether an open batch goes to the ring as soon as the rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealing {
    Now,
    /// It is held back for what the program is about to append.
    Later,
}

/// What a load leaves to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    /// How long until a vouch is due.
    vouch_in: Option<Duration>,
    /// Nothing waits in the intake.
    is_empty: bool,
}

/// What drives batches to the disk: the ring, what is in flight on it, and what was promised.
///
/// A turn is three steps, so that a shared [`Intake`] need be locked for the second only: [`reap`](Self::reap),
/// [`load`](Self::load), [`launch`](Self::launch).
#[derive(Debug)]
pub(crate) struct Drive {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) ring: Box<dyn Ring>,
    pub(super) flight: Flight,
    /// Where the run begins.
    pub(super) start: Start,
    /// The only source of tokens for the ring.
    next_token: Token,
    /// What the tokens in flight stand for.
    jobs: VecDeque<(Token, Job)>,
    pub(super) completions: Vec<Completion>,
    /// Blocks whose writes were reaped, on their way back into the pool.
    freed: Vec<Block>,
    /// Segments that are full, for the subscribers of events.
    full: Vec<Piece>,
    /// Batches that were loaded, on their way to the ring.
    loaded: Vec<(BatchNumber, OpenBatch)>,
    /// What the last sealed batch promised.
    pub(super) promised: Promises,
    /// The latch: the first failure stays.
    pub(super) failure: Option<Failure>,
    /// The frontier moved beyond this batch, and nobody was woken yet.
    untold: Option<BatchNumber>,
    exposure: Exposure,
    idle_since: Option<Duration>,
    last_sync: Duration,
    pub(super) sync_wanted: bool,
    /// Entries of the batch that was handed over last.
    newest_count: u64,
    /// Syncs go on, file by file, until this batch is durable.
    sync_until: BatchNumber,
    watch: Watch,
    refill: Refill,
    /// The last turn held a batch back: nothing but another turn brings it to the disk.
    is_holding: bool,
    /// The segment of the last sealed batch, and how it is written: from its first batch to its last.
    segment: Option<(SegmentNumber, Method)>,
}

/// How a writer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Closed,
    Abandoned,
}

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Write(BatchNumber),
    Sync,
}

impl Drive {
    pub(super) fn new(shared: Arc<Shared>, index: usize, ring: Box<dyn Ring>) -> Self {
        let start = shared.shards[index].start;
        let depth = shared.options.depth;
        Self {
            index,
            ring,
            flight: Flight::default(),
            start,
            next_token: Token(1),
            jobs: VecDeque::with_capacity(depth + 2),
            completions: Vec::with_capacity(depth + 2),
            freed: Vec::with_capacity(depth + 2),
            full: Vec::with_capacity(depth),
            loaded: Vec::with_capacity(depth),
            promised: Promises {
                durable_batch: start.first_batch.before(),
                durable_seq: start.first_seq.before(),
                committed_epoch: shared.epochs.committed(),
            },
            failure: None,
            untold: None,
            exposure: Exposure::Private,
            idle_since: None,
            last_sync: Duration::ZERO,
            sync_wanted: false,
            newest_count: 0,
            sync_until: BatchNumber(0),
            watch: Watch::new(depth, shared.epochs.first()),
            refill: Refill::default(),
            is_holding: false,
            segment: None,
            shared,
        }
    }

    pub(super) fn this(&self) -> &ShardShared {
        &self.shared.shards[self.index]
    }

    pub(super) fn check_latch(&self) -> Result<(), Failure> {
        match &self.failure {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }

    /// Latches the first failure, and tells everybody.
    pub(super) fn fail(&mut self, cause: FailureCause) -> Failure {
        let is_first = self.failure.is_none();
        let failure = self.latch(cause);
        if is_first {
            events::failed(&failure);
        }
        failure
    }

    /// Latches the first failure, and tells everybody but a subscriber of events: it is the user's, and a lock
    /// may be held.
    fn latch(&mut self, cause: FailureCause) -> Failure {
        let shard = self.this().shard;
        let failure = self.failure.get_or_insert(Failure { shard, cause }).clone();
        self.shared.epochs.seat(self.index, SeatState::Failed(failure.clone()));
        self.this().frontier.end(End::Failed(failure.clone()));
        failure
    }

    /// The frontier, as a batch and its seq.
    pub(super) fn durable(&self) -> (BatchNumber, Seq) {
        match self.flight.durable() {
            Some(last) => (last.number, last.last_seq),
            None => (self.start.first_batch.before(), self.start.first_seq.before()),
        }
    }

    pub(super) fn is_drained(&self, intake: &Intake) -> bool {
        intake.is_empty() && self.flight.is_empty()
    }

    /// Shows others what the intake has counted.
    pub(super) fn post(&self, intake: &Intake) {
        let meter = &self.this().meter;
        meter.entries.set(intake.entries);
        meter.payload_bytes.set(intake.payload_bytes);
        meter.groups.set(intake.groups);
        meter.recopied_bytes.set(intake.recopied_bytes);
        meter.rotations.set(intake.space.rotations);
        meter.unfilled.set(intake.space.unfilled);
        let acknowledged = self.durable().0.min(intake.last_entry_batch);
        // A promise counts when it is durable itself.
        let promised = self.flight.promised().max(self.start.first_batch.before());
        meter.unvouched.set(acknowledged.0.saturating_sub(promised.0));
        meter.ring_calls.set(self.ring.calls());
    }

    /// One whole turn; see [`ShardWriter::turn`](super::ShardWriter::turn).
    pub(super) fn turn(&mut self, intake: &mut Intake, then: Then) -> Result<Turn, Failure> {
        self.begin()?;
        let released = self.reap()?;
        let sealing = self.sealing(intake, then, released);
        self.is_holding = sealing == Sealing::Later;
        let next = self.load(intake, sealing).inspect_err(events::failed)?;
        if self.flight.is_empty() && !self.loaded.is_empty() {
            self.refill.disk_busy(self.shared.options.disk.now());
        }
        if then == Then::Await {
            // What was durable before the wait is told before it.
            self.tell();
        }
        let turn = self.launch(next, then)?;
        self.tell();
        Ok(turn)
    }

    /// What was raised before a turn is served by it.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        self.check_latch()?;
        self.this().wakeup.begin_turn(self.exposure);
        Ok(())
    }

    /// Wakes those who wait for what became durable. At the end of a turn: what the disk can do meanwhile is
    /// under way.
    pub(super) fn tell(&mut self) {
        if let Some(before) = self.untold.take() {
            self.this().frontier.tell(Batches::between(before, self.durable().0));
        }
    }

    /// Whether the open batch is held back in a turn that has released so many entries.
    fn sealing(&mut self, intake: &Intake, then: Then, released: u64) -> Sealing {
        let is_idle = self.flight.is_empty() && !self.shared.options.has_lazy_syncs();
        if then == Then::Await || !is_idle {
            return Sealing::Now;
        }
        let waiting = intake.open.as_ref().map_or(0, |open| u64::from(open.entry_count()));
        let disk = &self.shared.options.disk;
        if released > 0 {
            self.refill.begin(released, waiting, disk.now());
        }
        let holds = waiting > 0 && self.refill.holds(waiting, || disk.now());
        if holds { Sealing::Later } else { Sealing::Now }
    }

    /// Takes completions in and moves the frontier; returns over how many entries.
    pub(super) fn reap(&mut self) -> Result<u64, Failure> {
        let mut completions = std::mem::take(&mut self.completions);
        if let Err(error) = self.ring.reap(&mut completions) {
            return Err(self.fail(FailureCause::Ring(Arc::new(error))));
        }
        let before = (self.flight.durable(), self.flight.barrier());
        let before_batch = self.durable().0;
        let entries_before = self.flight.entry_count();
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        self.check_latch()?;
        let after = (self.flight.durable(), self.flight.barrier());
        if after.0 != before.0
            && let Some(durable) = after.0
        {
            self.this().frontier.advance(durable.number, durable.last_seq);
            self.untold.get_or_insert(before_batch);
            let waiting = (self.flight.batch_count(), self.flight.entry_count());
            self.watch.durable(&self.shared.shards[self.index].meter, durable.number, waiting);
        }
        if let Some(written) = self.flight.written()
            && after.0 != Some(written)
        {
            self.this().meter.written_seq.raise(written.last_seq.0);
        }
        if after.1 != before.1
            && let Some(epoch) = after.1
            && self.shared.epochs.close(self.index, epoch)
        {
            // Idle shards have a committed epoch to vouch for.
            let others = self.shared.shards.iter().filter(|it| it.shard != self.this().shard);
            others.for_each(ShardShared::wake);
        }
        Ok(entries_before - self.flight.entry_count())
    }

    /// Gives freed blocks back, takes prepared segments, closes the epochs that are asked for, and loads the
    /// batches that may go to the ring. Everything that a turn does with the intake, perhaps under its lock; so no
    /// subscriber of events is called.
    pub(super) fn load(&mut self, intake: &mut Intake, sealing: Sealing) -> Result<Next, Failure> {
        let shared = Arc::clone(&self.shared);
        let this = &shared.shards[self.index];
        self.freed.drain(..).for_each(|block| intake.give_back(block));
        if let Some(durable) = self.flight.durable() {
            intake.space.release(self.ring.as_mut(), durable.number, |piece| {
                self.full.push(piece);
                shared.seal(this.shard, piece);
            });
        }
        if let Err(error) = intake.space.stock_up(self.ring.as_mut(), &shared, this) {
            return Err(self.latch(FailureCause::Ring(Arc::new(error))));
        }
        self.follow_epochs(intake)?;
        let vouch_in = self.vouch_if_due(intake);
        while let Some(loaded) = self.next_sealable(intake, sealing) {
            self.loaded.push(loaded);
        }
        let is_empty = intake.is_empty();
        if !self.loaded.is_empty() || is_empty {
            self.watch.epoch(&this.meter, intake.epoch);
            self.post(intake);
        }
        Ok(Next { vouch_in, is_empty })
    }

    /// Seals what was loaded and hands it to the kernel, with a sync if one is due.
    pub(super) fn launch(&mut self, next: Next, then: Then) -> Result<Turn, Failure> {
        let shard = self.this().shard;
        self.full.drain(..).for_each(|piece| events::rotated(shard, &piece));
        let mut loaded = std::mem::take(&mut self.loaded);
        let mut pushed = loaded.len();
        if pushed > 0 {
            self.watch.look(&self.shared.shards[self.index].meter);
        }
        loaded.drain(..).for_each(|(number, batch)| self.push_batch(number, batch));
        self.loaded = loaded;
        let sync_in = self.sync_due_in();
        if sync_in == Some(Duration::ZERO) {
            self.push_sync();
            pushed += 1;
        }
        let handed_over = match then {
            Then::Await => self.ring.submit_and_wait(),
            Then::Return if pushed > 0 => self.ring.submit(),
            Then::Return => Ok(()),
        };
        handed_over.map_err(|error| self.fail(FailureCause::Ring(Arc::new(error))))?;
        Ok(if self.ring.in_flight() > 0 {
            Turn::Sleep
        } else if next.is_empty {
            Turn::Idle(next.vouch_in.or(sync_in))
        } else {
            Turn::Again
        })
    }

    /// Sleeps until a completion waits to be reaped, or somebody wakes the writer; at most for `limit`.
    pub(super) fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Failure> {
        self.check_latch()?;
        if self.is_holding {
            return Ok(());
        }
        let wakeup = Arc::clone(&self.this().wakeup);
        let slept = match self.exposure {
            // The next turn clears it.
            Exposure::Exposed if self.ring.in_flight() == 0 => wakeup.wait(limit),
            Exposure::Exposed => self.ring.wait(limit),
            Exposure::Private if !wakeup.begin_sleep() => return Ok(()),
            Exposure::Private => {
                let slept = match self.ring.in_flight() {
                    0 => wakeup.wait(limit),
                    _ => self.ring.wait(limit),
                };
                wakeup.end_sleep();
                slept
            }
        };
        slept.map_err(|error| self.fail(FailureCause::Ring(Arc::new(error))))
    }

    /// From now on completions raise the alarm too.
    #[cfg(all(target_os = "linux", not(loom)))]
    pub(super) fn expose(&mut self) -> std::io::Result<()> {
        if self.exposure == Exposure::Private {
            self.ring.announce()?;
            // Until a turn begins exposed, whoever raises takes the writer for awake, and leaves the alarm alone.
            self.this().wakeup.alarm()?.raise();
            self.exposure = Exposure::Exposed;
        }
        Ok(())
    }

    /// The number of entries in the open batch from which on it can be sealed before a completion; the highest for
    /// not before it is full, `None` for never. By the rule of [`next_sealable`](Self::next_sealable), for whoever fills
    /// it meanwhile.
    pub(super) fn sealable_from(&self) -> Option<u64> {
        let (in_flight, entries) = self.load_of_the_disk();
        let depth = self.shared.options.depth;
        match in_flight {
            _ if in_flight < open_depth(depth) => Some(enough(entries)),
            _ if in_flight < depth => Some(u64::MAX),
            _ => None,
        }
    }

    /// Entries of the newest batch, if nothing is in flight: so many may come again.
    pub(super) fn herd(&self) -> Option<u64> {
        (self.flight.is_empty() && self.newest_count > 1).then_some(self.newest_count)
    }

    /// The end of a writer that has drained: lets go of the lock, and leaves the shard's exact end.
    pub(super) fn close(&mut self, intake: &Intake) -> Result<Seq, Failure> {
        assert!(self.is_drained(intake), "everything that was taken is durable");
        let mut completions = std::mem::take(&mut self.completions);
        self.ring
            .drain(&mut completions)
            .map_err(|error| self.fail(FailureCause::Ring(Arc::new(error))))?;
        self.leave_desk(intake, Ending::Closed);
        self.shared.epochs.seat(self.index, SeatState::Closed);
        self.this().frontier.end(End::Closed);
        Ok(self.this().frontier.get())
    }

    /// The end of a writer that was not closed: like a crash. What is in flight may land, nothing more is
    /// acknowledged. A failure that came before stays the cause.
    pub(super) fn abandon(&mut self, cause: FailureCause) -> Failure {
        match &self.failure {
            Some(failure) => failure.clone(),
            None => self.fail(cause),
        }
    }

    pub(super) fn leave_desk(&self, intake: &Intake, ending: Ending) {
        self.post(intake);
        let mut desk = self.this().desk();
        desk.ring = Some(self.ring.facts());
        desk.durable = self.flight.durable();
        desk.closed = ending == Ending::Closed;
    }

    /// Accounts for one completion. After a failure only blocks come back; nothing counts any more.
    fn complete(&mut self, completion: Completion) {
        let Completion { token, result, block } = completion;
        if let Some(block) = block {
            self.freed.push(block);
        }
        let index = self.jobs.iter().position(|(it, _)| *it == token);
        let (_, job) = index
            .and_then(|index| self.jobs.remove(index))
            .expect("completions are of operations in flight, each once");
        if self.failure.is_some() {
            return;
        }
        match job {
            Job::Write(number) => {
                let flying = *self.flight.get(number).expect("its write was in flight");
                let at = Place {
                    shard: self.this().shard,
                    segment: flying.batch.segment,
                    at: flying.batch.at,
                };
                match result {
                    Ok(written) if written == flying.len => self.flight.complete(number),
                    Ok(written) => {
                        self.fail(FailureCause::Short {
                            batch: number,
                            at,
                            written,
                            len: flying.len,
                        });
                    }
                    Err(error) => {
                        let cause = Arc::new(error);
                        self.fail(FailureCause::Write { batch: number, at, cause });
                    }
                }
            }
            Job::Sync => {
                let batch = self.flight.syncing().expect("a sync was in flight");
                match result {
                    Ok(_) => {
                        self.flight.complete_sync();
                        self.watch.sync_ended(&self.this().meter);
                    }
                    Err(error) => {
                        self.fail(FailureCause::Sync { batch, cause: Arc::new(error) });
                    }
                }
            }
        }
    }

    /// Closes the epochs that the log asks for.
    fn follow_epochs(&self, intake: &mut Intake) -> Result<(), Failure> {
        while intake.epoch <= self.shared.epochs.requested() {
            match intake.close_epoch() {
                Ok(_) => {}
                Err(AppendError::Failed(failure)) => return Err(failure),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// An idle shard with acknowledgements that no batch speaks of yet, or with a committed epoch that none
    /// of its batches has named, writes an empty batch. Returns how long until then.
    fn vouch_if_due(&mut self, intake: &mut Intake) -> Option<Duration> {
        let committed = self.shared.epochs.committed();
        let wanted = intake.last_entry_batch > self.promised.durable_batch
            || committed > self.promised.committed_epoch;
        if !wanted || !self.is_drained(intake) {
            self.idle_since = None;
            return None;
        }
        let now = self.shared.options.disk.now();
        let since = *self.idle_since.get_or_insert(now);
        let due_in = since.saturating_add(self.shared.options.vouch_after).saturating_sub(now);
        if due_in.is_zero() {
            self.seal_promises(intake);
            // Still drained: there was no segment for it, and it is tried again.
            let rest = self.shared.options.vouch_after.max(LEAST_REST);
            return self.is_drained(intake).then_some(rest);
        }
        Some(due_in)
    }

    /// Ends the open batch, or an empty one: it will carry what is known to be durable and committed.
    pub(super) fn seal_promises(&mut self, intake: &mut Intake) -> bool {
        let opened = intake.open.is_some() || intake.open_vouch();
        if opened {
            let is_vouch = intake.open.as_ref().is_some_and(OpenBatch::is_empty);
            self.this().meter.vouches.add(u64::from(is_vouch));
            intake.close_batch();
            self.idle_since = None;
            // Where nobody else asks for a sync, the promises would only be written, and could vanish.
            self.sync_until = self.sync_until.max(intake.next_batch.before());
        }
        opened
    }

    /// The batch that may go to the kernel now, by the sealing rule.
    ///
    /// Nothing in flight: at once, unless a [`Refill`] holds it back. Else an open batch waits until it has half as
    /// many entries as are in flight, so that batches grow with the load, and takes at most a part of the depth; a full
    /// one goes as soon as the depth allows.
    fn next_sealable(
        &self,
        intake: &mut Intake,
        sealing: Sealing,
    ) -> Option<(BatchNumber, OpenBatch)> {
        let (in_flight, entries) = self.load_of_the_disk();
        let depth = self.shared.options.depth;
        if in_flight >= depth {
            return None;
        }
        if intake.ready.is_empty() {
            let open = intake.open.as_ref().filter(|open| !open.is_empty())?;
            let is_enough = in_flight == 0
                || in_flight < open_depth(depth)
                    && u64::from(open.entry_count()) >= enough(entries);
            if sealing == Sealing::Later || !is_enough {
                return None;
            }
            intake.close_batch();
        }
        intake.ready.pop_front()
    }

    /// Batches and entries in flight, those that are on their way to the ring included.
    fn load_of_the_disk(&self) -> (usize, u64) {
        let (in_flight, entries) = if self.shared.options.has_lazy_syncs() {
            (self.flight.writing_count(), self.flight.writing_entry_count())
        } else {
            (self.flight.batch_count(), self.flight.entry_count())
        };
        let loaded = self.loaded.iter().map(|(_, batch)| u64::from(batch.entry_count()));
        (in_flight + self.loaded.len(), entries + loaded.sum::<u64>())
    }

    fn push_batch(&mut self, number: BatchNumber, batch: OpenBatch) {
        let (durable_batch, durable_seq) = self.durable();
        let committed_epoch = self.shared.epochs.committed();
        let promises = Promises { durable_batch, durable_seq, committed_epoch };
        let sealed = batch.seal(number, promises);
        self.promised = promises;
        let header = &sealed.header;
        let method = self.method_of(header.segment);
        self.newest_count = u64::from(header.entry_count);
        self.flight.start(InFlight {
            method,
            promised: promises.durable_batch,
            batch: LastBatch {
                number,
                segment: header.segment,
                at: header.at(),
                last_seq: header.last_seq(),
                epoch: header.epoch,
            },
            file: sealed.place.file,
            len: sealed.len,
            entry_count: header.entry_count,
            barrier: header.flags.contains(BatchFlags::BARRIER).then_some(header.epoch),
        });
        let meter = &self.shared.shards[self.index].meter;
        let batch = (number, sealed.len, header.entry_count);
        self.watch.sealed(meter, batch, self.flight.batch_count());
        let token = self.token(Job::Write(number));
        self.push_operation(Operation::Write {
            token,
            file: sealed.place.file,
            block: sealed.block,
            len: sealed.len,
            at: sealed.place.at,
            durability: method.durability(),
        });
    }

    /// How a segment is written that a batch goes to: as it was begun, or if it begins here, as is chosen then.
    fn method_of(&mut self, segment: SegmentNumber) -> Method {
        let before = match self.segment {
            Some((number, method)) if number == segment => return method,
            before => before.map(|(_, method)| method),
        };
        let method = self.shared.methods.chosen();
        self.segment = Some((segment, method));
        let this = &self.shared.shards[self.index];
        this.meter.method.set(method.code());
        if let Some(before) = before
            && before != method
        {
            this.meter.method_switches.add(1);
            events::method_switched(this.shard, segment, before, method);
        }
        method
    }

    /// How long until a sync should start; `None` when nothing waits for one.
    fn sync_due_in(&self) -> Option<Duration> {
        if !self.flight.wants_sync() {
            return None;
        }
        match self.shared.options.policy {
            _ if self.sync_wanted || self.durable().0 < self.sync_until => Some(Duration::ZERO),
            _ if self.this().frontier.is_wanted() => Some(Duration::ZERO),
            _ if self.flight.wants_sync_of_barrier()
                && self.shared.epochs.is_wanted(self.index) =>
            {
                Some(Duration::ZERO)
            }
            Policy::EveryBatch => Some(Duration::ZERO),
            Policy::OnDemand => None,
            Policy::Interval(interval) => {
                let now = self.shared.options.disk.now();
                Some(self.last_sync.saturating_add(interval).saturating_sub(now))
            }
        }
    }

    fn push_sync(&mut self) {
        if self.durable().0 >= self.sync_until {
            // One sync covers one file: those of the other files that wait now follow without another reason.
            self.sync_until = self.flight.last_written().unwrap_or_default();
            if matches!(self.shared.options.policy, Policy::Interval(_)) {
                self.last_sync = self.shared.options.disk.now();
            }
        }
        let Some(file) = self.flight.start_sync() else { return };
        self.sync_wanted = false;
        self.watch.sync_begins(&self.shared.shards[self.index].meter);
        let token = self.token(Job::Sync);
        self.push_operation(Operation::Sync { token, file });
    }

    /// The only place where tokens are made.
    fn token(&mut self, job: Job) -> Token {
        let token = self.next_token;
        self.next_token = Token(token.0 + 1);
        self.jobs.push_back((token, job));
        token
    }

    fn push_operation(&mut self, operation: Operation) {
        let refused = self.ring.push(operation).err();
        assert!(refused.is_none(), "the ring is as deep as the depth and a sync");
    }
}

/// How many batches may be in flight so that one that is not full joins them. Full ones keep the disk busy; others do
/// better to grow while a few are on their way.
fn open_depth(depth: usize) -> usize {
    (depth / 2).max(4).min(depth)
}

/// Entries that an open batch must have to be sealed beside so many in flight.
fn enough(entries_in_flight: u64) -> u64 {
    entries_in_flight.div_ceil(2).max(1)
}
