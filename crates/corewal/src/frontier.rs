//! The frontier of a shard, and those who wait for it.
//!
//! The number is published first; whoever waits is woken afterwards, threads by one call for all that a batch
//! covers. What nobody waits for costs a fence and two loads a batch.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use corewal_format::{BatchNumber, Seq, ShardId};

use crate::error::{Failure, WaitError};
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Futex, Mutex, MutexGuard};
use crate::wakeup::wake_all;

/// What leaves the hot path, on a cache line of its own: the frontier.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Published {
    seq: AtomicU64,
    batch: AtomicU64,
}

impl Published {
    pub(crate) fn new(batch: BatchNumber, seq: Seq) -> Self {
        Self { seq: AtomicU64::new(seq.0), batch: AtomicU64::new(batch.0) }
    }

    /// Never goes back.
    pub(crate) fn advance(&self, batch: BatchNumber, seq: Seq) {
        let before = self.batch.load(Ordering::Relaxed);
        self.batch.store(batch.0.max(before), Ordering::Release);
        let before = self.seq.load(Ordering::Relaxed);
        self.seq.store(seq.0.max(before), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Seq {
        Seq(self.seq.load(Ordering::Acquire))
    }

    /// The last durable batch, and a seq that it or an earlier one ends with.
    pub(crate) fn last(&self) -> (BatchNumber, Seq) {
        // The seq first: the batch, which is stored before, has then reached it.
        let seq = self.get();
        (BatchNumber(self.batch.load(Ordering::Acquire)), seq)
    }
}

/// Which batches a wake-up is about: a bit for each batch number, modulo 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batches(u32);

impl Batches {
    /// A batch that is not known.
    pub(crate) const ANY: Self = Self(u32::MAX);

    pub(crate) fn one(batch: BatchNumber) -> Self {
        Self(1 << (batch.0 % 32))
    }

    /// All after `before` up to `last`.
    pub(crate) fn between(before: BatchNumber, last: BatchNumber) -> Self {
        match last.0.saturating_sub(before.0) {
            count @ 0..32 => {
                Self(((1_u32 << count) - 1).rotate_left((before.0.wrapping_add(1) % 32) as u32))
            }
            _ => Self::ANY,
        }
    }
}

/// Why the frontier of a shard moves no more.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Closed,
    Failed(Failure),
}

/// The published frontier of one shard.
#[derive(Debug)]
pub(crate) struct Frontier {
    shard: ShardId,
    published: Published,
    /// Threads that sleep on the futex, or are about to.
    sleepers: AtomicU64,
    futex: Futex,
    /// Tasks in the register.
    task_count: AtomicU64,
    register: Mutex<Register>,
    /// 1 once the register has an end.
    ended: AtomicU64,
    /// The highest seq that somebody waits for. Where syncs are apart from batches, it asks for one.
    wanted: AtomicU64,
}

#[derive(Debug, Default)]
struct Register {
    /// Tasks that wait, by seq; equal ones by their ids.
    tasks: VecDeque<Task>,
    next_id: u64,
    /// Those that are to be woken; empty between two calls, so that it is allocated once.
    due: Vec<Waker>,
    end: Option<End>,
}

#[derive(Debug)]
struct Task {
    place: TaskPlace,
    waker: Waker,
}

/// A task's place in the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskPlace {
    seq: Seq,
    id: u64,
}

impl Frontier {
    pub(crate) fn new(shard: ShardId, batch: BatchNumber, seq: Seq) -> Self {
        Self {
            shard,
            published: Published::new(batch, seq),
            sleepers: AtomicU64::new(0),
            futex: Futex::default(),
            task_count: AtomicU64::new(0),
            register: Mutex::new(Register::default()),
            ended: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
        }
    }

    /// Everything up to this seq is durable.
    pub(crate) fn get(&self) -> Seq {
        self.published.get()
    }

    /// The last durable batch, and a seq that it or an earlier one ends with.
    pub(crate) fn last(&self) -> (BatchNumber, Seq) {
        self.published.last()
    }

    /// Publishes the frontier. Those who wait are told by [`tell`](Self::tell).
    pub(crate) fn advance(&self, batch: BatchNumber, seq: Seq) {
        self.published.advance(batch, seq);
    }

    /// Wakes those who wait for what these batches have made durable.
    pub(crate) fn tell(&self, batches: Batches) {
        // Whoever missed the published number has its own fence before this one, and is seen here.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            self.futex.wake(batches.0);
        }
        if self.task_count.load(Ordering::Relaxed) > 0 {
            self.wake_tasks(self.get());
        }
    }

    /// Latches the end and wakes everybody. What the frontier has reached before stays durable.
    pub(crate) fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.ended.store(1, Ordering::Release);
        self.futex.wake(Batches::ANY.0);
        self.wake_tasks(Seq(u64::MAX));
    }

    fn wake_tasks(&self, upto: Seq) {
        let mut register = self.lock();
        let mut due = std::mem::take(&mut register.due);
        let count = register.tasks.partition_point(|task| task.place.seq <= upto);
        due.extend(register.tasks.drain(..count).map(|task| task.waker));
        self.task_count.store(register.tasks.len() as u64, Ordering::Relaxed);
        drop(register);
        // Without the lock: a waker may run anything.
        wake_all(due.drain(..), Waker::wake);
        self.lock().due = due;
    }

    /// Whether `seq` is durable, or never will be.
    pub(crate) fn standing(&self, seq: Seq) -> Option<Result<(), WaitError>> {
        // In this order: what was durable before the end is durable.
        let has_ended = self.ended.load(Ordering::Acquire) == 1;
        if self.get() >= seq {
            return Some(Ok(()));
        }
        has_ended.then(|| match &self.lock().end {
            Some(End::Failed(failure)) => Err(failure.clone().into()),
            Some(End::Closed) | None => Err(WaitError::Closed { shard: self.shard }),
        })
    }

    /// Sleeps until `seq` is durable. `batches` has the batch that holds it.
    pub(crate) fn wait(&self, seq: Seq, batches: Batches) -> Result<(), WaitError> {
        if let Some(standing) = self.standing(seq) {
            return standing;
        }
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let standing = loop {
            let count = self.futex.count();
            if let Some(standing) = self.standing(seq) {
                break standing;
            }
            self.futex.wait(count, batches.0);
        };
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        standing
    }

    /// Polls for `seq` to be durable; until then the task stands in the register, at `place`.
    pub(crate) fn poll(
        &self,
        seq: Seq,
        place: &mut Option<TaskPlace>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WaitError>> {
        if let Some(standing) = self.standing(seq) {
            self.forget(place);
            return Poll::Ready(standing);
        }
        self.remember(seq, place, context.waker());
        // Whoever moves the frontier from here on sees the task; what moved before is seen here.
        fence(Ordering::SeqCst);
        match self.standing(seq) {
            Some(standing) => {
                self.forget(place);
                Poll::Ready(standing)
            }
            None => Poll::Pending,
        }
    }

    fn remember(&self, seq: Seq, place: &mut Option<TaskPlace>, waker: &Waker) {
        let mut register = self.lock();
        if let Some(index) = place.and_then(|place| register.position(place)) {
            register.tasks[index].waker.clone_from(waker);
            return;
        }
        let id = register.next_id;
        register.next_id += 1;
        let task = Task { place: TaskPlace { seq, id }, waker: waker.clone() };
        *place = Some(task.place);
        let index = register.tasks.partition_point(|it| it.place < task.place);
        register.tasks.insert(index, task);
        self.task_count.store(register.tasks.len() as u64, Ordering::Relaxed);
    }

    /// Takes a task out of the register; its place is free for another.
    pub(crate) fn forget(&self, place: &mut Option<TaskPlace>) {
        let Some(place) = place.take() else { return };
        let mut register = self.lock();
        if let Some(index) = register.position(place) {
            register.tasks.remove(index);
            self.task_count.store(register.tasks.len() as u64, Ordering::Relaxed);
        }
    }

    /// Asks for a sync up to `seq`; true if nobody had asked for that yet.
    pub(crate) fn want(&self, seq: Seq) -> bool {
        self.wanted.fetch_max(seq.0, Ordering::AcqRel) < seq.0
    }

    /// Whether somebody waits for what is not durable.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > self.get().0
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        // Wakers run without it, so nothing is left half done by a panic.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Register {
    fn position(&self, place: TaskPlace) -> Option<usize> {
        self.tasks.binary_search_by_key(&place, |task| task.place).ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_names_exactly_its_batches() {
        for before in 0..100 {
            for count in 0..40 {
                let told = Batches::between(BatchNumber(before), BatchNumber(before + count));
                let each = (before + 1..=before + count).map(|it| Batches::one(BatchNumber(it)).0);
                assert_eq!(told.0, each.fold(0, |all, one| all | one), "{count} after {before}");
            }
        }
    }
}
