//! What was given up on purpose: by truncations, and by recoveries of committed epochs alone.

use std::borrow::Cow;
use std::collections::BTreeMap;

use corewal::{Seq, ShardId, Stamp};

use crate::ledger::{Given, Item, Ledger, Life, Violation};

/// What was given up on purpose: everything above these seqs that was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Void {
    /// From here on a recovery may find it or not.
    pub(crate) begun: u64,
    /// From here on it must not come back.
    pub(crate) done: Option<u64>,
    /// By shard, the last seq that stays.
    pub(crate) above: BTreeMap<ShardId, Seq>,
}

impl Void {
    /// Whether it may have taken place at `cut`, or not.
    pub(crate) fn is_pending(&self, cut: u64) -> bool {
        self.begun < cut && self.done.is_none_or(|at| at >= cut)
    }

    fn takes(&self, shard: ShardId, seq: Seq) -> bool {
        self.above.get(&shard).is_some_and(|last| seq > *last)
    }
}

/// What is taken to have happened of what may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Nothing,
    Everything,
}

impl Ledger {
    /// Everything above these seqs is about to be given up, not before `at`: from now on a recovery may find
    /// all of it or nothing.
    pub fn may_void(&mut self, at: u64, above: BTreeMap<ShardId, Seq>) {
        self.life().voids.push(Void { begun: at, done: None, above });
    }

    /// What was about to be given up last is void, not after `at`, and must never come back.
    ///
    /// # Panics
    /// If nothing was about to be given up.
    pub fn voided(&mut self, at: u64) {
        let life = self.life();
        let committed = life.committed.iter().map(|(_, epoch)| *epoch).max().unwrap_or_default();
        let committed = committed.max(life.kept_committed);
        let kept = life.kept.values().flat_map(|items| items.iter().map(|item| item.stamp));
        let given = life.given.values().flatten().filter_map(|(_, given)| match given {
            Given::Entry(item) => Some(item.stamp),
            Given::Barrier { .. } => None,
        });
        let void = life.voids.last().expect("something was about to be given up");
        let is_wrong =
            |stamp: &Stamp| stamp.epoch <= committed && void.takes(stamp.shard, stamp.seq);
        let wrong = kept.chain(given).find(is_wrong);
        if let Some(last) = life.voids.last_mut() {
            last.done = Some(at);
        }
        if let Some(stamp) = wrong {
            self.blame(Violation::CommittedVoid(stamp));
        }
    }

    /// What was about to be given up last was refused: nothing is void.
    pub fn not_voided(&mut self) {
        self.life().voids.pop();
    }

    /// Whether it is unknown if something was given up.
    #[must_use]
    pub fn may_have_voided(&self) -> bool {
        self.lives.last().is_some_and(|life| life.voids.iter().any(|void| void.done.is_none()))
    }
}

impl Life {
    /// The life as if what was given up had never been given out. Barriers of this life are never given up.
    pub(crate) fn without_voids(&self, cut: u64, pending: Pending) -> Cow<'_, Self> {
        let took_place = |void: &&Void| match void.done {
            Some(done) if done < cut => true,
            _ => void.begun < cut && pending == Pending::Everything,
        };
        let voids: Vec<&Void> = self.voids.iter().filter(took_place).collect();
        if voids.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut life = self.clone();
        for (&shard, kept) in &mut life.kept {
            let stays = |item: &&Item| !voids.iter().any(|it| it.takes(shard, item.stamp.seq));
            *kept = kept.iter().filter(stays).cloned().collect();
        }
        for (&shard, given) in &mut life.given {
            given.retain(|(at, given)| {
                let seq = given.seq();
                let takes =
                    |it: &&Void| *at < it.begun && seq.is_some_and(|seq| it.takes(shard, seq));
                !voids.iter().any(takes)
            });
        }
        Cow::Owned(life)
    }
}
