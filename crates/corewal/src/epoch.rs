//! Epochs over all shards: who has closed what, and what is committed.

use std::sync::PoisonError;
use std::task::{Poll, Waker};

use corewal_format::{Epoch, ShardId};

use crate::error::{EpochError, Failure};
use crate::recovery::committed;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::wakeup::wake_all;

/// What the shards publish of their epochs.
///
/// `committed` is published before anybody is told: a batch that is sealed afterwards promises it.
#[derive(Debug)]
pub(crate) struct EpochBoard {
    /// The committed epoch of the manifest that this incarnation started with.
    base: Epoch,
    /// The first epoch of this incarnation.
    first: Epoch,
    bound: u32,
    shards: Box<[Column]>,
    committed: AtomicU64,
    /// Every shard is asked to close its epochs up to this one.
    requested: AtomicU64,
    /// The highest epoch that somebody waits for. Where syncs are apart from batches, it asks for those of barriers.
    wanted: AtomicU64,
    seats: Mutex<Seats>,
    changed: Condvar,
}

/// Who sits where, and the tasks that are woken when that or the committed epoch changes.
#[derive(Debug)]
struct Seats {
    states: Box<[SeatState]>,
    tasks: Vec<Waker>,
}

impl Seats {
    fn watch(&mut self, task: &Waker) {
        // A task that polls again without a change in between is there already.
        if !self.tasks.iter().any(|it| it.will_wake(task)) {
            self.tasks.push(task.clone());
        }
    }
}

/// One active shard.
#[derive(Debug)]
#[repr(align(128))]
struct Column {
    shard: ShardId,
    /// The last epoch that a durable barrier of this incarnation closed; 0 for none.
    barrier: AtomicU64,
    /// The epoch that is open.
    open: AtomicU64,
}

/// Who sits on a shard.
#[derive(Debug, Clone)]
pub(crate) enum SeatState {
    Untaken,
    Live,
    Closed,
    Failed(Failure),
}

impl EpochBoard {
    pub(crate) fn new(base: Epoch, first: Epoch, bound: u32, shards: &[ShardId]) -> Self {
        let column =
            |&shard| Column { shard, barrier: AtomicU64::new(0), open: AtomicU64::new(first.0) };
        Self {
            base,
            first,
            bound,
            shards: shards.iter().map(column).collect(),
            committed: AtomicU64::new(base.0),
            requested: AtomicU64::new(first.before().0),
            wanted: AtomicU64::new(0),
            seats: Mutex::new(Seats {
                states: shards.iter().map(|_| SeatState::Untaken).collect(),
                tasks: Vec::new(),
            }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn first(&self) -> Epoch {
        self.first
    }

    /// The committed epoch.
    pub(crate) fn committed(&self) -> Epoch {
        Epoch(self.committed.load(Ordering::Acquire))
    }

    /// Every shard is asked to close its epochs up to this one.
    pub(crate) fn requested(&self) -> Epoch {
        Epoch(self.requested.load(Ordering::Acquire))
    }

    /// The shard's last durable barrier of this incarnation.
    pub(crate) fn barrier(&self, index: usize) -> Epoch {
        Epoch(self.shards[index].barrier.load(Ordering::Acquire))
    }

    /// Asks for barriers up to that of `epoch` to become durable; true if nobody had asked for that yet.
    pub(crate) fn want(&self, epoch: Epoch) -> bool {
        self.wanted.fetch_max(epoch.0, Ordering::AcqRel) < epoch.0
    }

    /// Whether somebody waits for an epoch that no durable barrier of the shard has closed.
    pub(crate) fn is_wanted(&self, index: usize) -> bool {
        Epoch(self.wanted.load(Ordering::Acquire)) > self.barrier(index)
    }

    /// Whether the bound allows to close the epoch `epoch`.
    ///
    /// # Errors
    /// How many epochs before it are closed and not committed, and which shard holds them back.
    pub(crate) fn check_bound(&self, epoch: Epoch) -> Result<(), (u32, ShardId)> {
        let floor = self.committed().max(self.first.before());
        let closed = epoch.0.saturating_sub(floor.0 + 1);
        let closed = u32::try_from(closed).unwrap_or(u32::MAX);
        if closed < self.bound { Ok(()) } else { Err((closed, self.slowest())) }
    }

    /// The shard whose durable barriers are the furthest behind; of several, the one that has closed the fewest epochs.
    fn slowest(&self) -> ShardId {
        let progress = |column: &&Column| {
            (column.barrier.load(Ordering::Acquire), column.open.load(Ordering::Acquire))
        };
        self.shards.iter().min_by_key(progress).expect("a log has a shard").shard
    }

    /// A shard has opened its next epoch.
    pub(crate) fn open(&self, index: usize, epoch: Epoch) {
        self.shards[index].open.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// A shard's barrier is durable. Returns whether that has committed an epoch.
    pub(crate) fn close(&self, index: usize, epoch: Epoch) -> bool {
        self.shards[index].barrier.fetch_max(epoch.0, Ordering::AcqRel);
        // Of the shards that close at once, the one whose fence is last sees the barriers of all others.
        fence(Ordering::SeqCst);
        let barriers =
            self.shards.iter().map(|column| Epoch(column.barrier.load(Ordering::Acquire)));
        let committed = committed(self.base, barriers);
        let has_committed = self.committed.fetch_max(committed.0, Ordering::AcqRel) < committed.0;
        if has_committed {
            self.tell(self.seats());
        }
        has_committed
    }

    /// Wakes whoever waits, threads and tasks. Whoever has looked before the change holds the lock before this.
    fn tell(&self, mut seats: MutexGuard<'_, Seats>) {
        let tasks = std::mem::take(&mut seats.tasks);
        drop(seats);
        self.changed.notify_all();
        wake_all(tasks, Waker::wake);
    }

    /// Asks every shard to close the epoch that is open, and returns its number.
    pub(crate) fn request(&self) -> Result<Epoch, EpochError> {
        let seats = self.seats();
        let open = self.shards.iter().map(|it| it.open.load(Ordering::Acquire)).max();
        let target = self.requested().next().max(Epoch(open.unwrap_or_default()));
        self.check_bound(target).map_err(|(open, slowest)| EpochError::Ahead { open, slowest })?;
        self.requested.fetch_max(target.0, Ordering::AcqRel);
        drop(seats);
        Ok(target)
    }

    pub(crate) fn seat(&self, index: usize, state: SeatState) {
        let mut seats = self.seats();
        seats.states[index] = state;
        self.tell(seats);
    }

    /// Takes an untaken seat; false if it is none, or the log was closed.
    pub(crate) fn sit(&self, index: usize) -> bool {
        let mut seats = self.seats();
        let is_free = matches!(seats.states[index], SeatState::Untaken);
        if is_free {
            seats.states[index] = SeatState::Live;
            self.tell(seats);
        }
        is_free
    }

    /// Closes the untaken seats, for ever, and returns which they are.
    ///
    /// # Errors
    /// The first shard that is being written to; then nothing has changed.
    pub(crate) fn close_untaken(&self) -> Result<Vec<bool>, ShardId> {
        let mut seats = self.seats();
        let live = seats.states.iter().position(|seat| matches!(seat, SeatState::Live));
        if let Some(index) = live {
            return Err(self.shards[index].shard);
        }
        let close = |seat: &mut SeatState| {
            let is_untaken = matches!(seat, SeatState::Untaken);
            if is_untaken {
                *seat = SeatState::Closed;
            }
            is_untaken
        };
        let untaken = seats.states.iter_mut().map(close).collect();
        self.tell(seats);
        Ok(untaken)
    }

    pub(crate) fn seat_state(&self, index: usize) -> SeatState {
        self.seats().states[index].clone()
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        // Nothing in here can be left half done by a panic.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `epoch` is committed, or cannot be any more.
    pub(crate) fn wait(&self, epoch: Epoch) -> Result<(), EpochError> {
        let mut seats = self.seats();
        loop {
            if let Some(outcome) = self.outcome(epoch, &seats) {
                return outcome;
            }
            seats = self.changed.wait(seats).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same for a task, which is woken at every change.
    pub(crate) fn poll(&self, epoch: Epoch, task: &Waker) -> Poll<Result<(), EpochError>> {
        let mut seats = self.seats();
        if let Some(outcome) = self.outcome(epoch, &seats) {
            return Poll::Ready(outcome);
        }
        seats.watch(task);
        Poll::Pending
    }

    /// Wakes `task` at the next change, whatever it is.
    pub(crate) fn watch(&self, task: &Waker) {
        self.seats().watch(task);
    }

    /// Whether `epoch` is committed, or cannot be any more, as the seats stand.
    fn outcome(&self, epoch: Epoch, seats: &Seats) -> Option<Result<(), EpochError>> {
        if self.committed() >= epoch {
            return Some(Ok(()));
        }
        if epoch < self.first {
            return Some(Err(EpochError::Earlier { epoch }));
        }
        for (column, seat) in self.shards.iter().zip(seats.states.iter()) {
            let shard = column.shard;
            let closed = Epoch(column.barrier.load(Ordering::Acquire)) >= epoch;
            match seat {
                SeatState::Untaken => return Some(Err(EpochError::Untaken { shard })),
                SeatState::Closed if !closed => return Some(Err(EpochError::Closed { shard })),
                SeatState::Failed(failure) if !closed => return Some(Err(failure.clone().into())),
                _ => {}
            }
        }
        None
    }
}
