//! What the user let go of: which entries may be missing, which must be, and which checkpoint must be found.

use std::sync::Arc;

use corewal::{Epoch, PinFrom, Seq, ShardId, Stamp};

use crate::ledger::Given;
use crate::{Item, Violation};

/// A checkpoint as it was made or found: its epoch and the user's bytes.
pub type Mark = (Epoch, Arc<[u8]>);

/// What was asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// Everything of this epoch and earlier ones.
    UpTo(Epoch),
    /// What is below this seq of a shard.
    Below(ShardId, Seq),
}

/// An attempt to let go of something, under the pins of that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempt {
    at: u64,
    goes: Goes,
    committed: Epoch,
    pins: Vec<PinFrom>,
}

impl Attempt {
    /// Whether an entry may go; of a barrier only the seq before it is known.
    fn covers(&self, stamp: Stamp) -> bool {
        let is_covered = match self.goes {
            Goes::UpTo(epoch) => stamp.epoch <= epoch,
            Goes::Below(shard, seq) => stamp.shard == shard && stamp.seq < seq,
        };
        let is_pinned = |pin: &PinFrom| match *pin {
            PinFrom::Epoch(epoch) => stamp.epoch >= epoch,
            PinFrom::Seq(shard, seq) => stamp.shard == shard && stamp.seq >= seq,
            _ => true,
        };
        is_covered && stamp.epoch <= self.committed && !self.pins.iter().any(is_pinned)
    }
}

/// What was let go of in one life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    attempts: Vec<Attempt>,
    /// What was said to be gone, and when.
    gone: Vec<(u64, ShardId, Seq)>,
    /// The checkpoint that the life began with.
    first: Option<Mark>,
    tried: Vec<(u64, Mark)>,
    /// When the last one was said to be durable, and how many were tried until then.
    made: Vec<(u64, usize)>,
}

impl Retention {
    pub(crate) fn of(found: Option<Mark>) -> Self {
        Self { first: found, ..Self::default() }
    }

    pub(crate) fn tried(&mut self, at: u64, goes: Goes, committed: Epoch, pins: Vec<PinFrom>) {
        self.attempts.push(Attempt { at, goes, committed, pins });
    }

    pub(crate) fn tried_mark(&mut self, at: u64, mark: Mark) {
        self.tried.push((at, mark));
    }

    pub(crate) fn made_mark(&mut self, at: u64) {
        self.made.push((at, self.tried.len()));
    }

    pub(crate) fn gone(&mut self, at: u64, shard: ShardId, seq: Seq) {
        self.gone.push((at, shard, seq));
    }

    /// How many entries at the beginning of what was delivered and given out are missing, and may be.
    pub(crate) fn missing(
        &self,
        shard: ShardId,
        expected: &[&Given],
        found: &[&Item],
        cut: u64,
    ) -> usize {
        let attempts = || self.attempts.iter().filter(|attempt| attempt.at < cut);
        if attempts().next().is_none() {
            return 0;
        }
        let mut before = Seq(0);
        let may_go = expected.iter().take_while(|given| {
            let stamp = match given {
                Given::Entry(item) => item.stamp,
                Given::Barrier { epoch, .. } => Stamp { epoch: *epoch, seq: before, shard },
            };
            before = stamp.seq;
            attempts().any(|attempt| attempt.covers(stamp))
        });
        let most = may_go.count();
        let Some(first) = found.first() else { return most };
        expected[..most].iter().position(|given| given.is(first)).unwrap_or_else(|| {
            let is_next = expected.get(most).is_some_and(|given| given.is(first));
            if is_next { most } else { 0 }
        })
    }

    /// What was let go of does not come back.
    pub(crate) fn check_gone(&self, found: &[Item], cut: u64) -> Result<(), Violation> {
        for &(_, shard, seq) in self.gone.iter().filter(|(at, ..)| *at < cut) {
            let back = found.iter().find(|it| it.stamp.shard == shard && it.stamp.seq <= seq);
            if let Some(back) = back {
                return Err(Violation::ReleasedIsBack(back.stamp));
            }
        }
        Ok(())
    }

    /// The checkpoint is the last one that was said to be durable, or one that was tried since.
    pub(crate) fn check_mark(&self, found: Option<&Mark>, cut: u64) -> Result<(), Violation> {
        let made = self.made.iter().filter(|(at, _)| *at < cut);
        let made = made.map(|(_, count)| *count).max().unwrap_or(0);
        let base = match made.checked_sub(1) {
            None => self.first.as_ref(),
            Some(index) => Some(&self.tried[index].1),
        };
        let since = self.tried[made..].iter().filter(|(at, _)| *at < cut);
        if found == base || since.into_iter().any(|(_, mark)| Some(mark) == found) {
            return Ok(());
        }
        let epoch = |mark: Option<&Mark>| mark.map_or(Epoch(0), |(epoch, _)| *epoch);
        Err(Violation::Checkpoint { found: epoch(found), last: epoch(base) })
    }
}
