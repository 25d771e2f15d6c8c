//! Acknowledgements as futures, for any runtime.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use corewal_format::{Epoch, Seq, Stamp};

use crate::error::{EpochError, WaitError};
use crate::frontier::{Batches, TaskPlace};
use crate::shared::{ShardShared, Shared};

/// Becomes ready when an entry survives a power cut; made by [`Log::durable`](crate::Log::durable) and
/// [`Producer::durable`](crate::Producer::durable).
///
/// Await it, [`wait`](Self::wait) on it, or ask it. It is woken by whoever moves the shard's frontier, on that
/// thread, once. Waiting allocates nothing: the shard keeps one list of those who wait, which grows to the most
/// that ever waited at once. Dropping it ends the wait, not the entry.
#[must_use = "a future does nothing unless it is awaited or waited for"]
pub struct Durable {
    shared: Arc<Shared>,
    stamp: Stamp,
    place: Option<TaskPlace>,
}

impl Durable {
    pub(crate) fn new(shared: Arc<Shared>, stamp: Stamp) -> Self {
        Self { shared, stamp, place: None }
    }

    /// The entry.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether the entry survives a power cut. Never waits.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        let shard = self.shared.shard_of(self.stamp);
        shard.is_ok_and(|shard| {
            shard.frontier.get() >= self.stamp.seq && shard.check_void(self.stamp).is_ok()
        })
    }

    /// Blocks the calling thread until the entry is durable. Not on the thread that drives its shard: nobody
    /// would turn.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait(self) -> Result<(), WaitError> {
        self.shared.wait_durable(self.stamp, Batches::ANY)
    }
}

impl Future for Durable {
    type Output = Result<(), WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let shard = this.shared.shard_of(this.stamp)?;
        let polled = shard.frontier.poll(this.stamp.seq, &mut this.place, context);
        if polled.is_pending() {
            this.shared.want(shard, this.stamp);
        }
        polled.map(|told| told.and_then(|()| shard.check_void(this.stamp)))
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Ok(shard) = self.shared.shard_of(self.stamp) {
            shard.frontier.forget(&mut self.place);
        }
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

impl Shared {
    /// The shard that gave out a stamp in this incarnation.
    pub(crate) fn shard_of(&self, stamp: Stamp) -> Result<&ShardShared, WaitError> {
        self.shards
            .get(usize::from(stamp.shard.0))
            .filter(|it| stamp.epoch >= self.epochs.first() && stamp.seq >= it.start.first_seq)
            .ok_or(WaitError::NotGiven { stamp })
    }

    /// Where syncs do not follow every batch, asks for one that covers the stamp.
    fn want(&self, shard: &ShardShared, stamp: Stamp) {
        if self.options.has_lazy_syncs() && shard.frontier.want(stamp.seq) {
            shard.wake();
        }
    }

    /// Where syncs do not follow every batch, asks every shard for one that covers its barrier of the epoch.
    pub(crate) fn want_epoch(&self, epoch: Epoch) {
        let is_due = self.options.has_lazy_syncs() && self.epochs.committed() < epoch;
        if is_due && self.epochs.want(epoch) {
            self.shards.iter().for_each(ShardShared::wake);
        }
    }

    pub(crate) fn wait_epoch(&self, epoch: Epoch) -> Result<(), EpochError> {
        self.want_epoch(epoch);
        self.epochs.wait(epoch)
    }

    /// Waits for everything up to `seq`, which the shard has given out.
    pub(crate) fn wait_seq(&self, shard: &ShardShared, seq: Seq) -> Result<(), WaitError> {
        if self.options.has_lazy_syncs() && shard.frontier.want(seq) {
            shard.wake();
        }
        shard.frontier.wait(seq, Batches::ANY)
    }

    pub(crate) fn wait_durable(&self, stamp: Stamp, batches: Batches) -> Result<(), WaitError> {
        let shard = self.shard_of(stamp)?;
        self.want(shard, stamp);
        shard.frontier.wait(stamp.seq, batches)?;
        shard.check_void(stamp)
    }
}

/// Becomes ready when an epoch is committed, or cannot be any more; made by
/// [`Log::committed`](crate::Log::committed).
#[must_use = "a future does nothing unless it is awaited"]
pub struct Committed {
    shared: Arc<Shared>,
    epoch: Epoch,
}

impl Committed {
    pub(crate) fn new(shared: Arc<Shared>, epoch: Epoch) -> Self {
        Self { shared, epoch }
    }
}

impl Future for Committed {
    type Output = Result<(), EpochError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.want_epoch(self.epoch);
        self.shared.epochs.poll(self.epoch, context.waker())
    }
}

impl fmt::Debug for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committed").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
