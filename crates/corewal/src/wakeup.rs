//! Waking: a shard's writer, whatever it sleeps on (the ring, or nothing but this), and all who wait for something.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use corewal_format::ShardId;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Alarm, OnceLock};

/// The writer is in a turn, or between two; it looks here before it sleeps.
const AWAKE: u64 = 0;
/// The writer sleeps, or may be asleep in an event loop of its own.
const ASLEEP: u64 = 1;
/// Somebody wants a turn.
const RAISED: u64 = 2;

/// Wakes each of them, also if the waker of another panics: a task that is not woken sleeps for ever. The first panic
/// goes on when all are woken.
pub(crate) fn wake_all<T>(sleepers: impl IntoIterator<Item = T>, wake: impl Fn(T)) {
    let mut panicked = None;
    for sleeper in sleepers {
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| wake(sleeper))) {
            panicked.get_or_insert(panic);
        }
    }
    if let Some(panic) = panicked {
        panic::resume_unwind(panic);
    }
}

/// Wakes the writer of one shard. A system call is made only if the writer sleeps.
#[derive(Debug, Default)]
pub(crate) struct Wakeup {
    state: AtomicU64,
    /// Raised once for each change from asleep to raised, and in an exposed wakeup by completions too.
    alarm: OnceLock<Arc<Alarm>>,
    /// Raises that are known to come, less those that were cleared: who raises changes the state first. Used by
    /// the writer's thread alone.
    owed: AtomicU64,
}

impl Wakeup {
    /// The alarm, made when the writer sits down.
    pub(crate) fn alarm(&self) -> io::Result<&Arc<Alarm>> {
        if self.alarm.get().is_none() {
            // Nobody else makes one: a shard has one seat.
            let _ = self.alarm.set(Arc::new(Alarm::new()?));
        }
        Ok(self.alarm.get().expect("just made"))
    }

    /// The writer takes another turn: at once, or instead of its next sleep.
    pub(crate) fn raise(&self) {
        if self.state.swap(RAISED, Ordering::AcqRel) == ASLEEP
            && let Some(alarm) = self.alarm.get()
        {
            alarm.raise();
        }
    }

    /// A turn begins: what was raised before is served by it.
    pub(crate) fn begin_turn(&self, exposure: Exposure) {
        match exposure {
            Exposure::Private => {
                if self.state.load(Ordering::Relaxed) == RAISED {
                    self.state.swap(AWAKE, Ordering::AcqRel);
                }
                self.settle();
            }
            Exposure::Exposed => {
                // The state first: a raise that comes in between is then seen at the next turn.
                self.state.swap(ASLEEP, Ordering::AcqRel);
                self.clear();
            }
        }
    }

    /// Whether the writer may go to sleep: nobody has raised it since its turn began.
    pub(crate) fn begin_sleep(&self) -> bool {
        let slept = self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        slept.is_ok()
    }

    /// Sleeps until it is raised, at most for `limit`.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        self.alarm()?.wait(limit)
    }

    /// The writer is awake again.
    pub(crate) fn end_sleep(&self) {
        let was_raised = self.state.swap(AWAKE, Ordering::AcqRel) == RAISED;
        if was_raised {
            self.owed.fetch_add(1, Ordering::Relaxed);
        }
        self.settle();
    }

    /// Clears what is owed, as far as it has come: a ring that waits would find the alarm raised for ever.
    fn settle(&self) {
        let owed = self.owed.load(Ordering::Relaxed);
        if owed > 0 {
            self.owed.store(owed.saturating_sub(self.clear()), Ordering::Relaxed);
        }
    }

    fn clear(&self) -> u64 {
        self.alarm.get().map_or(0, |alarm| alarm.clear())
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

/// Whether the writer's owner sleeps on the alarm in an event loop, where the state cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposure {
    Private,
    #[cfg_attr(
        any(not(target_os = "linux"), loom),
        expect(
            dead_code,
            reason = "an alarm without a descriptor cannot be given to an event loop"
        )
    )]
    Exposed,
}

/// Wakes the writer of one shard from any thread; see [`ShardWriter::waker`](crate::ShardWriter::waker).
///
/// As a [`std::task::Waker`], by `Waker::from`, it lets a future wake the writer.
#[derive(Clone, Debug)]
pub struct ShardWaker {
    pub(crate) shard: ShardId,
    pub(crate) wakeup: Arc<Wakeup>,
}

impl ShardWaker {
    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Ends the writer's sleep, or keeps it from its next one. Makes a system call only if it sleeps; does
    /// nothing if the writer is gone.
    pub fn wake(&self) {
        self.wakeup.raise();
    }
}

impl From<ShardWaker> for std::task::Waker {
    fn from(waker: ShardWaker) -> Self {
        Self::from(waker.wakeup)
    }
}
