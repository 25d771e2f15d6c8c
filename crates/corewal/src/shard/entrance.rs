//! The way in for many threads: an intake behind a lock, and a line of those who wait for room in it.
//!
//! While nobody waits, whoever comes appends. Once somebody has found the intake full, everybody stands in line
//! and is admitted in turn, each with the same credit in bytes; only who has credit passes the line. So the shares
//! are equal, and a block that comes back lets in a few producers for many appends each, not all of them for
//! one.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::task::Waker;

use corewal_format::{BatchNumber, ENTRY_HEADER_LEN, Stamp};

use crate::error::{AppendError, Failure, FailureCause, ObserveError};
use crate::frontier::Batches;
use crate::shard::intake::Intake;
use crate::shard::payload::{Guarded, Panic, Payload};
use crate::shard::transaction::Group;
use crate::shared::{ShardShared, Shared};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, Thread, current, park};
use crate::wakeup::wake_all;

/// A producer is let in for this part of a block.
const SHARES_OF_A_BLOCK: usize = 8;

/// What the producers of one shard share with its writer's thread.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    inside: Mutex<Inside>,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) intake: Intake,
    /// Those who wait for room, by ticket. A ticket that was given out and is not in line is admitted.
    line: VecDeque<(Ticket, Party)>,
    next_ticket: Ticket,
    /// The writer is to be woken when the open batch has so many entries.
    wake_from: Option<u64>,
    /// Nothing is appended any more, for this reason.
    end: Option<AppendError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

/// Who stands in line.
#[derive(Debug)]
pub(super) enum Party {
    Thread(Thread),
    Task(Waker),
}

impl Party {
    pub(super) fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// What a full intake does to the one who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It waits in line.
    Wait,
    /// It is refused.
    Refuse,
}

/// Bytes that a producer may append past the line.
#[derive(Debug, Default)]
pub(crate) struct Credit(AtomicU64);

impl Credit {
    fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn spend(&self, bytes: u64) {
        self.set(self.0.load(Ordering::Relaxed).saturating_sub(bytes));
    }
}

/// What was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<S> {
    /// Its stamp, or those of a group.
    pub(crate) stamp: S,
    /// The batch that holds it.
    batch: BatchNumber,
}

impl<S> Given<S> {
    pub(crate) fn batches(&self) -> Batches {
        Batches::one(self.batch)
    }
}

/// How one try went.
enum Tried<S> {
    Given(Given<S>),
    Refused(AppendError),
    /// No room: it stands in line with this ticket.
    InLine(Ticket),
}

impl Entrance {
    pub(super) fn new(intake: Intake) -> Self {
        let (shared, index) = (Arc::clone(&intake.shared), intake.index);
        let inside = Inside {
            intake,
            line: VecDeque::new(),
            next_ticket: Ticket(0),
            wake_from: Some(1),
            end: None,
        };
        Self { shared, index, inside: Mutex::new(inside) }
    }

    pub(crate) fn this(&self) -> &ShardShared {
        &self.shared.shards[self.index]
    }

    /// Encodes a record into the open batch, under the lock: the only copy.
    pub(crate) fn append(
        &self,
        patience: Patience,
        credit: &Credit,
        mut payload: impl Payload,
    ) -> Result<Given<Stamp>, AppendError> {
        self.take_in(patience, credit, |intake, panic| {
            intake.append_in_place(Guarded { inner: &mut payload, panic })
        })
    }

    /// The same with an atomic group.
    pub(crate) fn append_group(
        &self,
        patience: Patience,
        credit: &Credit,
        payloads: &mut [impl Payload],
    ) -> Result<Given<Group>, AppendError> {
        self.take_in(patience, credit, |intake, panic| {
            intake.append_group(payloads.iter_mut().map(|inner| Guarded { inner, panic }))
        })
    }

    /// Lets `append` have the intake when its turn comes.
    fn take_in<S>(
        &self,
        patience: Patience,
        credit: &Credit,
        mut append: impl FnMut(&mut Intake, &Panic) -> Result<S, AppendError>,
    ) -> Result<Given<S>, AppendError> {
        let mut ticket = None;
        loop {
            match self.try_take_in(patience, credit, ticket, &mut append) {
                Tried::Given(given) => return Ok(given),
                Tried::Refused(error) => return Err(error),
                Tried::InLine(mine) => {
                    ticket = Some(mine);
                    park();
                }
            }
        }
    }

    fn try_take_in<S>(
        &self,
        patience: Patience,
        credit: &Credit,
        ticket: Option<Ticket>,
        append: &mut impl FnMut(&mut Intake, &Panic) -> Result<S, AppendError>,
    ) -> Tried<S> {
        let mut inside = match self.enter() {
            Ok(inside) => inside,
            Err(error) => return Tried::Refused(error),
        };
        if !inside.lets_in(ticket, credit) {
            return inside.refuse(patience, ticket, self);
        }
        if ticket.is_some() {
            credit.set(self.share());
        }
        // A record whose serializer panics leaves no trace; the panic goes on without the lock.
        let panic = Panic::default();
        let before = (inside.intake.payload_bytes, inside.intake.entries);
        let appended = append(&mut inside.intake, &panic);
        if let Some(payload) = panic.into_inner() {
            drop(inside);
            resume_unwind(payload);
        }
        match appended {
            Ok(stamp) => {
                let given = Given { stamp, batch: inside.intake.newest_batch() };
                if inside.line.is_empty() {
                    credit.set(0);
                } else {
                    let len = inside.intake.payload_bytes - before.0;
                    let count = inside.intake.entries - before.1;
                    credit.spend(len + count * ENTRY_HEADER_LEN as u64);
                }
                let wakes = inside.wakes_the_writer();
                drop(inside);
                if wakes {
                    self.this().wake();
                }
                Tried::Given(given)
            }
            Err(AppendError::Full) => {
                credit.set(0);
                inside.refuse(patience, ticket, self)
            }
            Err(error) => {
                // The next one may be let in instead.
                let wakes = !inside.line.is_empty();
                drop(inside);
                if wakes {
                    self.this().wake();
                }
                Tried::Refused(error)
            }
        }
    }

    /// Somebody found no room: if that was for want of a segment, and one is prepared, the writer takes it.
    fn look_for_segments(&self) {
        if self.this().segments.ready_len() > 0 {
            self.this().wake();
        }
    }

    /// Credit of one admission, in bytes.
    fn share(&self) -> u64 {
        (self.shared.options.write_len / SHARES_OF_A_BLOCK).max(1) as u64
    }

    /// The lock, unless nothing is appended any more.
    fn enter(&self) -> Result<MutexGuard<'_, Inside>, AppendError> {
        let Ok(inside) = self.inside.lock() else {
            // The writer fails the shard when it meets the lock.
            self.this().wake();
            return Err(self.panicked().into());
        };
        match &inside.end {
            Some(end) => Err(end.clone()),
            None => Ok(inside),
        }
    }

    /// The lock, for the writer's thread.
    ///
    /// # Errors
    /// A producer panicked inside the engine: what it left is not to be trusted.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, Inside>, Failure> {
        self.inside.lock().map_err(|_| self.panicked())
    }

    fn panicked(&self) -> Failure {
        Failure { shard: self.this().shard, cause: FailureCause::Panicked }
    }

    /// Nothing is appended from here on; whoever waits is told why.
    pub(crate) fn end(&self, end: AppendError) {
        // The line is whole also behind a panic.
        let mut inside = self.inside.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inside.end.get_or_insert(end);
        let line = std::mem::take(&mut inside.line);
        drop(inside);
        self.this().wake();
        wake_all(line, |(_, party)| party.wake());
    }

    /// Nothing is appended from here on; what was appended becomes durable.
    pub(crate) fn close(&self) {
        self.end(AppendError::Closed { shard: self.this().shard });
    }

    /// The last entry that was taken, or what is before the first.
    pub(crate) fn last_taken(&self) -> Option<corewal_format::Seq> {
        let inside = self.inside.lock().ok()?;
        Some(inside.intake.last_given)
    }

    /// Moves the next seq past a stamp; see [`Intake::observe`].
    pub(crate) fn observe(&self, stamp: Stamp) -> Result<(), ObserveError> {
        let mut inside = self.enter().map_err(|error| match error {
            AppendError::Failed(failure) => ObserveError::Failed(failure),
            _ => ObserveError::Closed { shard: self.this().shard },
        })?;
        inside.intake.observe(stamp)?;
        // It may have closed the open batch.
        let wakes = inside.wakes_the_writer();
        drop(inside);
        if wakes {
            self.this().wake();
        }
        Ok(())
    }

    /// Closes the open epoch of this shard; see [`Intake::close_epoch`].
    pub(crate) fn close_epoch(&self) -> Result<corewal_format::Epoch, AppendError> {
        let mut inside = self.enter()?;
        let closed = inside.intake.close_epoch();
        drop(inside);
        self.this().wake();
        closed
    }
}

impl Inside {
    fn lets_in(&self, ticket: Option<Ticket>, credit: &Credit) -> bool {
        match ticket {
            Some(ticket) => !self.is_in_line(ticket),
            None => self.line.is_empty() || credit.is_left(),
        }
    }

    fn is_in_line(&self, ticket: Ticket) -> bool {
        self.line.binary_search_by_key(&ticket, |(it, _)| *it).is_ok()
    }

    /// Stands in line, where its ticket belongs, or gives up.
    fn refuse<S>(
        &mut self,
        patience: Patience,
        ticket: Option<Ticket>,
        entrance: &Entrance,
    ) -> Tried<S> {
        if patience == Patience::Wait {
            let ticket = self.stand(ticket, || Party::Thread(current()), entrance);
            return Tried::InLine(ticket);
        }
        entrance.look_for_segments();
        Tried::Refused(AppendError::Full)
    }

    fn stand(
        &mut self,
        ticket: Option<Ticket>,
        party: impl FnOnce() -> Party,
        entrance: &Entrance,
    ) -> Ticket {
        let mine = ticket.unwrap_or(self.next_ticket);
        if let Err(index) = self.line.binary_search_by_key(&mine, |(it, _)| *it) {
            self.line.insert(index, (mine, party()));
        }
        if ticket.is_none() {
            self.next_ticket = Ticket(mine.0 + 1);
        }
        // The writer lets in when blocks come back. What is new to it is that there is a line.
        if self.line.len() == 1 && ticket.is_none() {
            entrance.this().wake();
        }
        entrance.look_for_segments();
        mine
    }

    /// Whether the writer could seal what stands in the intake before its next completion.
    fn wakes_the_writer(&mut self) -> bool {
        let wakes = self.wake_from.is_some_and(|count| {
            let open = self.intake.open.as_ref().map_or(0, |open| u64::from(open.entry_count()));
            open >= count || !self.intake.ready.is_empty()
        });
        if wakes {
            self.wake_from = None;
        }
        wakes
    }

    /// At the end of a load: when to wake the writer again, and who is let in.
    pub(super) fn admit(&mut self, wake_from: Option<u64>, let_in: &mut Vec<Party>) {
        self.wake_from = wake_from;
        let count = self.intake.pool.len() * SHARES_OF_A_BLOCK;
        let count = count.min(self.line.len());
        let_in.extend(self.line.drain(..count).map(|(_, party)| party));
    }

    pub(super) fn is_ended(&self) -> bool {
        self.end.is_some()
    }
}

/// A place in line for a task.
#[derive(Debug)]
pub(crate) struct Room {
    entrance: Arc<Entrance>,
    ticket: Option<Ticket>,
}

impl Room {
    pub(crate) fn new(entrance: Arc<Entrance>) -> Self {
        Self { entrance, ticket: None }
    }

    /// Whether an append may be tried; else `task` is woken when it may.
    pub(crate) fn poll(&mut self, credit: &Credit, task: &Waker) -> bool {
        let Ok(mut inside) = self.entrance.enter() else { return true };
        match self.ticket {
            Some(ticket) => {
                let position = inside.line.binary_search_by_key(&ticket, |(it, _)| *it);
                let Ok(index) = position else {
                    self.ticket = None;
                    credit.set(self.entrance.share());
                    return true;
                };
                inside.line[index].1 = Party::Task(task.clone());
            }
            None if inside.lets_in(None, credit) && inside.intake.has_blocks() => return true,
            None => {
                let party = || Party::Task(task.clone());
                self.ticket = Some(inside.stand(None, party, &self.entrance));
            }
        }
        false
    }
}

impl Drop for Room {
    /// Leaves the line; if it had been let in meanwhile, the next one is, at the writer's next turn.
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if let Ok(mut inside) = self.entrance.inside.lock() {
            match inside.line.binary_search_by_key(&ticket, |(it, _)| *it) {
                Ok(index) => drop(inside.line.remove(index)),
                Err(_) => self.entrance.this().wake(),
            }
        }
    }
}
