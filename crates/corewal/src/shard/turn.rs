//! The control flow of a core: reap, move the frontier, seal and submit. Everything that a writer does
//! besides filling batches happens in a turn.

use std::sync::Arc;
use std::time::Duration;

use corewal_disk::{Completion, Durability, Operation, Token};
use corewal_format::{BatchFlags, BatchNumber, Place};

use crate::epoch::SeatState;
use crate::error::{AppendError, Failure, FailureCause};
use crate::options::{Policy, SyncMethod};
use crate::recovery::LastBatch;
use crate::shard::OpenBatch;
use crate::shard::batch::Promises;
use crate::shard::flight::InFlight;
use crate::shard::writer::{Job, ShardWriter};
use crate::sync;

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Take another one: there is more to do at once.
    Again,
    /// Nothing can be done before a completion: append more, or [`sleep`](ShardWriter::sleep).
    Sleep,
    /// Nothing is in flight: everything that was appended is durable (under another policy than every batch:
    /// written). With a duration: take a turn after it, for a vouch or a sync that is due then.
    Idle(Option<Duration>),
}

impl ShardWriter {
    /// Reaps completions, moves the frontier, seals batches and submits them. Never blocks; makes at most one
    /// system call for submitting, and none when there is nothing to submit and no completion waits for one.
    ///
    /// # Errors
    /// The failure of the shard. It is final.
    pub fn turn(&mut self) -> Result<Turn, Failure> {
        self.check_latch()?;
        self.reap()?;
        let shared = Arc::clone(&self.shared);
        let this = &shared.shards[self.index];
        if let Err(error) = self.space.stock_up(self.ring.as_mut(), &shared, this) {
            return Err(self.fail(FailureCause::Ring(Arc::new(error))));
        }
        self.follow_epochs()?;
        let vouch_in = self.vouch_if_due();
        let mut pushed = 0;
        while let Some((number, batch)) = self.next_sealable() {
            self.push_batch(number, batch);
            pushed += 1;
        }
        let sync_in = self.sync_due_in();
        if sync_in == Some(Duration::ZERO) {
            self.push_sync();
            pushed += 1;
        }
        if pushed > 0
            && let Err(error) = self.ring.submit()
        {
            return Err(self.fail(FailureCause::Ring(Arc::new(error))));
        }
        Ok(if self.ring.in_flight() > 0 {
            Turn::Sleep
        } else if self.ready.is_empty() && self.open.as_ref().is_none_or(OpenBatch::is_empty) {
            Turn::Idle(vouch_in.or(sync_in))
        } else {
            Turn::Again
        })
    }

    /// Sleeps until a completion arrives, or, when nothing is in flight, until somebody wakes the shard;
    /// at most for `limit`. May return early.
    ///
    /// # Errors
    /// The failure of the shard.
    pub fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Failure> {
        self.check_latch()?;
        if self.ring.in_flight() > 0 {
            return match self.ring.wait(limit) {
                Ok(()) => Ok(()),
                Err(error) => Err(self.fail(FailureCause::Ring(Arc::new(error)))),
            };
        }
        {
            let (stats, ring) = (self.stats(), self.ring.facts());
            let mut desk = self.this().desk();
            desk.stats = stats;
            desk.ring = Some(ring);
        }
        match limit {
            Some(limit) => sync::park_timeout(limit),
            None => sync::park_timeout(Duration::from_millis(10)),
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(), Failure> {
        let mut completions = std::mem::take(&mut self.completions);
        if let Err(error) = self.ring.reap(&mut completions) {
            return Err(self.fail(FailureCause::Ring(Arc::new(error))));
        }
        let before = (self.flight.durable(), self.flight.barrier());
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        self.check_latch()?;
        let after = (self.flight.durable(), self.flight.barrier());
        if after.0 != before.0
            && let Some(durable) = after.0
        {
            self.this().frontier.advance(durable.last_seq);
            self.space.release(self.ring.as_mut(), durable.number);
        }
        if after.1 != before.1
            && let Some(epoch) = after.1
        {
            self.shared.epochs.close(self.index, epoch);
        }
        Ok(())
    }

    /// Accounts for one completion. After a failure only blocks come back; nothing counts any more.
    fn complete(&mut self, completion: Completion) {
        let Completion { token, result, block } = completion;
        if let Some(block) = block {
            self.give_back(block);
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
                    shard: self.shard(),
                    segment: flying.batch.segment,
                    at: flying.batch.at,
                };
                match result {
                    Ok(written) if written == flying.len => self.complete_write(number),
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
                    Ok(_) => self.flight.complete_sync(),
                    Err(error) => {
                        self.fail(FailureCause::Sync { batch, cause: Arc::new(error) });
                    }
                }
            }
        }
    }

    fn complete_write(&mut self, number: BatchNumber) {
        match self.shared.options.effective_sync_method() {
            SyncMethod::Dsync | SyncMethod::Linked => self.flight.complete_durable(number),
            SyncMethod::AfterWrite => self.flight.complete_written(number),
        }
    }

    /// Latches the first failure, and tells everybody.
    pub(super) fn fail(&mut self, cause: FailureCause) -> Failure {
        let shard = self.shard();
        let failure = self.failure.get_or_insert(Failure { shard, cause }).clone();
        self.shared.epochs.seat(self.index, SeatState::Failed(failure.clone()));
        failure
    }

    /// Closes the epochs that the log asks for.
    fn follow_epochs(&mut self) -> Result<(), Failure> {
        while self.epoch <= self.shared.epochs.requested() {
            match self.close_epoch() {
                Ok(_) => {}
                Err(AppendError::Failed(failure)) => return Err(failure),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// An idle shard with acknowledgements that no batch speaks of yet, or with a committed epoch that none
    /// of its batches has named, writes an empty batch. Returns how long until then.
    fn vouch_if_due(&mut self) -> Option<Duration> {
        let committed = self.shared.epochs.committed();
        let wanted = self.last_entry_batch > self.promised.durable_batch
            || committed > self.promised.committed_epoch;
        if !wanted || !self.is_drained() {
            self.idle_since = None;
            return None;
        }
        let now = self.shared.options.disk.now();
        let since = *self.idle_since.get_or_insert(now);
        let due_in = (since + self.shared.options.vouch_after).saturating_sub(now);
        if due_in.is_zero() {
            self.seal_promises();
            // Still drained: there was no segment for it, and it is tried again.
            return self.is_drained().then_some(self.shared.options.vouch_after);
        }
        Some(due_in)
    }

    /// Writes what is known to be durable and committed into the next batch, which may be empty: from then
    /// on, loss of an earlier one is certain to be noticed. Goes to the kernel in the next turn.
    pub fn seal_promises(&mut self) {
        let opened = self.open.is_some() || self.open_vouch();
        if opened {
            let is_vouch = self.open.as_ref().is_some_and(OpenBatch::is_empty);
            self.stats.vouches += u64::from(is_vouch);
            self.close_batch();
            self.idle_since = None;
        }
    }

    /// The batch that may go to the kernel now, by the sealing rule.
    ///
    /// Nothing in flight: at once. Else an open batch waits until it has half as many entries as are in
    /// flight, so that batches grow with the load; a full one goes as soon as the depth allows.
    fn next_sealable(&mut self) -> Option<(BatchNumber, OpenBatch)> {
        let every_batch = self.shared.options.policy == Policy::EveryBatch;
        let (in_flight, entries) = if every_batch {
            (self.flight.batch_count(), self.flight.entry_count())
        } else {
            (self.flight.writing_count(), self.flight.writing_entry_count())
        };
        if in_flight >= self.shared.options.depth {
            return None;
        }
        if self.ready.is_empty() {
            let open = self.open.as_ref().filter(|open| !open.is_empty())?;
            if in_flight > 0 && u64::from(open.entry_count()) * 2 < entries {
                return None;
            }
            self.close_batch();
        }
        self.ready.pop_front()
    }

    fn push_batch(&mut self, number: BatchNumber, batch: OpenBatch) {
        let (durable_batch, durable_seq) = self.durable();
        let committed_epoch = self.shared.epochs.committed();
        let promises = Promises { durable_batch, durable_seq, committed_epoch };
        let sealed = batch.seal(number, promises);
        self.promised = promises;
        let header = &sealed.header;
        self.flight.start(InFlight {
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
        self.stats.batches += 1;
        self.stats.batch_bytes += sealed.len as u64;
        self.stats.max_in_flight = self.stats.max_in_flight.max(self.flight.batch_count() as u64);
        let token = self.token(Job::Write(number));
        self.push_operation(Operation::Write {
            token,
            file: sealed.place.file,
            block: sealed.block,
            len: sealed.len,
            at: sealed.place.at,
            durability: match self.shared.options.effective_sync_method() {
                SyncMethod::Dsync => Durability::Dsync,
                SyncMethod::AfterWrite => Durability::Written,
                SyncMethod::Linked => Durability::LinkedSync,
            },
        });
    }

    /// How long until a sync should start; `None` when nothing waits for one.
    fn sync_due_in(&self) -> Option<Duration> {
        if !self.flight.wants_sync() {
            return None;
        }
        match self.shared.options.policy {
            _ if self.sync_wanted || self.durable().0 < self.sync_until => Some(Duration::ZERO),
            Policy::EveryBatch => Some(Duration::ZERO),
            Policy::OnDemand => None,
            Policy::Interval(interval) => {
                let now = self.shared.options.disk.now();
                Some((self.last_sync + interval).saturating_sub(now))
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
        self.stats.syncs += 1;
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
