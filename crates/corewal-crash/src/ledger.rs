//! What a log was asked to keep and what it claimed to have kept, written down outside of it, and the rules that
//! a recovery must obey.
//!
//! Knows no disk, no file and no batch: only what the log's user saw. Positions are numbers that grow with time;
//! a recorded run takes those of its trace, a simulation its own clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use corewal::{Epoch, Incarnation, Kind, PinFrom, Seq, ShardId, Stamp};

use crate::retention::{Goes, Mark, Retention};
use crate::voids::{Pending, Void};

/// One entry, as it was appended or as it was recovered.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Its stamp.
    pub stamp: Stamp,
    /// Its kind.
    pub kind: Kind,
    /// Its payload.
    pub payload: Arc<[u8]>,
    /// Whether the next entry of the shard belongs to the same atomic group.
    pub continues: bool,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kind {} with {} bytes", self.stamp, self.kind.0, self.payload.len())
    }
}

/// What a recovery gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The merged stream.
    pub items: Vec<Item>,
    /// How many of them, from the first one on, were said to be in a committed epoch.
    pub committed_count: usize,
    /// The committed epoch.
    pub committed: Epoch,
    /// The last checkpoint.
    pub checkpoint: Option<Mark>,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged entry is gone.
    Lost {
        /// The first one that is missing.
        stamp: Stamp,
        /// The seq that was acknowledged.
        acknowledged: Seq,
        /// When.
        at: u64,
    },
    /// An entry that an earlier recovery had delivered is gone.
    Forgotten(Stamp),
    /// Here stands something else than what was appended, or something that was given up before came back.
    Foreign {
        /// What was recovered.
        found: Item,
        /// What was appended in its place, if anything was.
        expected: Option<String>,
    },
    /// The stream is not in the order of its stamps.
    Order(Stamp, Stamp),
    /// Only a part of an atomic group was recovered.
    HalfGroup(Stamp),
    /// The committed epoch went back.
    CommittedBack {
        /// What was recovered.
        found: Epoch,
        /// What had been reported.
        reported: Epoch,
    },
    /// An epoch counts as committed, and a shard has not recovered it to its end.
    CommittedInPart {
        /// The epoch.
        epoch: Epoch,
        /// The shard.
        shard: ShardId,
    },
    /// An entry was given up, and its epoch was committed.
    CommittedVoid(Stamp),
    /// Entries are said to be committed that are not, or the other way round.
    CommittedMark(Epoch),
    /// An epoch of an earlier incarnation was given out again.
    EpochAgain {
        /// The stamp that has it.
        stamp: Stamp,
        /// The last epoch that was given out before.
        before: Epoch,
    },
    /// An entry of which the log had said that it was let go of.
    ReleasedIsBack(Stamp),
    /// Another checkpoint than the last one was found.
    Checkpoint {
        /// The epoch of what was found.
        found: Epoch,
        /// The epoch of the last one; it may have other bytes.
        last: Epoch,
    },
    /// A number of an incarnation was given out again.
    IncarnationAgain(Incarnation),
    /// Stamps of a shard do not ascend when they are given out.
    StampsDescend(Stamp, Stamp),
    /// An ordinary power cut was refused.
    Refused(String),
    /// The log could not be opened, written to or closed after a recovery.
    Stuck(String),
    /// Recovering twice gave two streams.
    Differs(String),
    /// The log panicked.
    Panicked(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { stamp, acknowledged, at } => {
                write!(f, "{stamp} is lost; seq {acknowledged} was acknowledged at {at}")
            }
            Self::Forgotten(stamp) => write!(f, "{stamp} is lost; a recovery had delivered it"),
            Self::Foreign { found, expected: Some(expected) } => {
                write!(f, "recovered {found:?} where {expected} was appended")
            }
            Self::Foreign { found, expected: None } => {
                write!(f, "recovered {found:?} where nothing was appended")
            }
            Self::Order(first, second) => write!(f, "{second} comes after {first}"),
            Self::HalfGroup(stamp) => write!(f, "the atomic group ends with {stamp}, too early"),
            Self::CommittedBack { found, reported } => {
                write!(f, "committed epoch {found}; {reported} was reported")
            }
            Self::CommittedInPart { epoch, shard } => {
                write!(f, "epoch {epoch} is committed, and shard {shard} has lost its end")
            }
            Self::CommittedVoid(stamp) => {
                write!(f, "{stamp} was given up, and its epoch was committed")
            }
            Self::CommittedMark(epoch) => {
                write!(f, "entries are marked as committed otherwise than up to epoch {epoch}")
            }
            Self::EpochAgain { stamp, before } => {
                write!(f, "{stamp} was given out after epoch {before} of an earlier incarnation")
            }
            Self::ReleasedIsBack(stamp) => write!(f, "{stamp} was released, and is back"),
            Self::Checkpoint { found, last } => {
                write!(
                    f,
                    "the checkpoint found, of epoch {found}, is not the last, of epoch {last}"
                )
            }
            Self::IncarnationAgain(number) => write!(f, "incarnation {number} began twice"),
            Self::StampsDescend(first, second) => {
                write!(f, "{second} was given out after {first}")
            }
            Self::Refused(error) => write!(f, "recovery refused: {error}"),
            Self::Stuck(error) => write!(f, "after the recovery: {error}"),
            Self::Differs(what) => write!(f, "recovering twice differs: {what}"),
            Self::Panicked(message) => write!(f, "panic: {message}"),
        }
    }
}

impl std::error::Error for Violation {}

/// What was given out on a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Entry(Item),
    /// The log writes barriers itself; their seq is not known.
    /// Surely by this position: a call that writes one may take long.
    Barrier {
        epoch: Epoch,
        by: u64,
    },
}

impl Given {
    fn epoch(&self) -> Epoch {
        match self {
            Self::Entry(item) => item.stamp.epoch,
            Self::Barrier { epoch, .. } => *epoch,
        }
    }

    pub(crate) fn is(&self, found: &Item) -> bool {
        match self {
            Self::Entry(item) => item == found,
            Self::Barrier { epoch, .. } => {
                found.kind == Kind::BARRIER
                    && found.stamp.epoch == *epoch
                    && found.payload.is_empty()
                    && !found.continues
            }
        }
    }

    pub(crate) fn seq(&self) -> Option<Seq> {
        match self {
            Self::Entry(item) => Some(item.stamp.seq),
            Self::Barrier { .. } => None,
        }
    }
}

/// From one recovery to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// When the recovery had delivered everything; what it delivered stays.
    pub(crate) from: u64,
    /// What it delivered, by shard.
    pub(crate) kept: BTreeMap<ShardId, Arc<[Item]>>,
    pub(crate) kept_committed: Epoch,
    /// Every stamp of this life has a later epoch.
    pub(crate) floor: Epoch,
    pub(crate) opened: Option<(u64, Incarnation, u16)>,
    pub(crate) given: BTreeMap<ShardId, Vec<(u64, Given)>>,
    pub(crate) acknowledged: Vec<(u64, ShardId, Seq)>,
    pub(crate) committed: Vec<(u64, Epoch)>,
    pub(crate) voids: Vec<Void>,
    pub(crate) retention: Retention,
}

/// What was appended, what was acknowledged, what was reported, and when.
///
/// Write an append down with a position from *before* it, an acknowledgement or a report with one from *after*
/// it was seen. Then [`check`](Self::check) says whether what a power cut at some position left is right.
///
/// ```
/// use corewal::{Epoch, Incarnation, Kind, Seq, ShardId, Stamp};
/// use corewal_crash::{Item, Ledger, Recovered, Violation};
///
/// let mut ledger = Ledger::new();
/// ledger.opened(0, Incarnation(1), 1);
/// let stamp = Stamp { epoch: Epoch(1), seq: Seq(1), shard: ShardId(0) };
/// ledger.appended(1, stamp, Kind::PUT, b"first");
/// ledger.acknowledged(5, ShardId(0), Seq(1));
///
/// let nothing = Recovered::default();
/// assert_eq!(ledger.check(&nothing, 5), Ok(())); // before the acknowledgement
/// assert!(matches!(ledger.check(&nothing, 6), Err(Violation::Lost { .. })));
/// let item = Item { stamp, kind: Kind::PUT, payload: (*b"first").into(), continues: false };
/// let first = Recovered { items: vec![item], ..Recovered::default() };
/// assert_eq!(ledger.check(&first, 6), Ok(()));
/// assert!(matches!(ledger.check(&first, 1), Err(Violation::Foreign { .. }))); // before the append
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    pub(crate) lives: Vec<Life>,
    /// The last incarnation before the first life.
    pub(crate) incarnation_floor: Incarnation,
    /// What was wrong before any recovery.
    pub(crate) fault: Option<Violation>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// Of a log that does not exist yet.
    #[must_use]
    pub fn new() -> Self {
        Self { lives: vec![Life::default()], incarnation_floor: Incarnation(0), fault: None }
    }

    /// Goes on after the power was cut at `cut` and `recovered` was found: a ledger of its own, that knows
    /// what was given out before.
    #[must_use]
    pub fn after(&self, recovered: &Recovered, cut: u64) -> Self {
        let mut life = Life::of(recovered, cut);
        life.floor = self.highest_epoch(cut);
        let incarnation_floor = self.highest_incarnation(cut);
        Self { lives: vec![life], incarnation_floor, fault: self.fault.clone() }
    }

    pub(crate) fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("there is always a life")
    }

    pub(crate) fn blame(&mut self, violation: Violation) {
        self.fault.get_or_insert(violation);
    }

    /// The log was opened with so many active shards.
    pub fn opened(&mut self, at: u64, incarnation: Incarnation, shards: u16) {
        if incarnation <= self.highest_incarnation(u64::MAX) {
            self.blame(Violation::IncarnationAgain(incarnation));
        }
        self.life().opened = Some((at, incarnation, shards));
    }

    /// An entry was appended, not before `at`.
    pub fn appended(&mut self, at: u64, stamp: Stamp, kind: Kind, payload: &[u8]) {
        let item = Item { stamp, kind, payload: payload.into(), continues: false };
        self.give(at, stamp, Given::Entry(item));
    }

    /// Entries of one shard were appended, not before `at`, that are recovered together or not at all.
    pub fn appended_together(&mut self, at: u64, entries: &[(Stamp, Kind, &[u8])]) {
        for (index, &(stamp, kind, payload)) in entries.iter().enumerate() {
            let continues = index + 1 < entries.len();
            let item = Item { stamp, kind, payload: payload.into(), continues };
            self.give(at, stamp, Given::Entry(item));
        }
    }

    /// A shard closed an epoch, not before `at` and after everything that was appended to it so far.
    pub fn closed_epoch(&mut self, at: u64, shard: ShardId, epoch: Epoch) {
        self.closed_epoch_within(at, at, shard, epoch);
    }

    /// The same, in a call that took some time: surely by `by`.
    pub fn closed_epoch_within(&mut self, at: u64, by: u64, shard: ShardId, epoch: Epoch) {
        self.give(at, Stamp { epoch, seq: Seq(0), shard }, Given::Barrier { epoch, by });
    }

    fn give(&mut self, at: u64, stamp: Stamp, given: Given) {
        let life = self.life();
        let floor = life.floor;
        let list = life.given.entry(stamp.shard).or_default();
        let before = list.iter().rev().find_map(|(_, it)| match it {
            Given::Entry(item) => Some(item.stamp),
            Given::Barrier { .. } => None,
        });
        list.push((at, given));
        if stamp.epoch <= floor {
            self.blame(Violation::EpochAgain { stamp, before: floor });
        }
        let descends = |before: &Stamp| *before >= stamp || before.seq >= stamp.seq;
        if let Some(before) = before.filter(|before| stamp.seq > Seq(0) && descends(before)) {
            self.blame(Violation::StampsDescend(before, stamp));
        }
    }

    /// Everything of this incarnation up to `seq` was said to be durable on `shard`, not after `at`.
    pub fn acknowledged(&mut self, at: u64, shard: ShardId, seq: Seq) {
        self.life().acknowledged.push((at, shard, seq));
    }

    /// `epoch` was said to be committed, not after `at`.
    pub fn committed(&mut self, at: u64, epoch: Epoch) {
        self.life().committed.push((at, epoch));
    }

    /// What the last recovery delivered, in order.
    #[must_use]
    pub fn kept(&self) -> Vec<&Item> {
        let kept = self.lives.last().into_iter().flat_map(|life| life.kept.values());
        let mut items: Vec<&Item> = kept.flat_map(|items| items.iter()).collect();
        items.sort_unstable_by_key(|item| item.stamp);
        items
    }

    /// The seq of the entry that is `back` entries from the last one that was given out or recovered.
    #[must_use]
    pub fn seq_back(&self, shard: ShardId, back: usize) -> Seq {
        let Some(life) = self.lives.last() else { return Seq(0) };
        let kept = life.kept.get(&shard).into_iter().flat_map(|kept| kept.iter());
        let given = life.given.get(&shard).into_iter().flatten();
        let seqs = kept.map(|item| item.stamp.seq).chain(given.filter_map(|(_, it)| it.seq()));
        let seqs: Vec<Seq> = seqs.collect();
        let index = seqs.len().checked_sub(back + 1);
        index.and_then(|index| seqs.get(index)).copied().unwrap_or_default()
    }

    /// The log was asked, not before `at`, to let go of something; with what was committed and pinned then.
    pub fn letting_go(&mut self, at: u64, goes: Goes, committed: Epoch, pins: Vec<PinFrom>) {
        self.life().retention.tried(at, goes, committed, pins);
    }

    /// Everything of a shard up to `seq` was said to be gone, not after `at`.
    pub fn let_go(&mut self, at: u64, shard: ShardId, seq: Seq) {
        self.life().retention.gone(at, shard, seq);
    }

    /// A checkpoint was asked for, not before `at`.
    pub fn checkpointing(&mut self, at: u64, epoch: Epoch, bytes: &[u8]) {
        self.life().retention.tried_mark(at, (epoch, bytes.into()));
    }

    /// The last checkpoint that was asked for was said to be durable, not after `at`.
    pub fn checkpointed(&mut self, at: u64) {
        self.life().retention.made_mark(at);
    }

    /// The log was recovered, without a power cut, and had delivered everything at `at`: from then on no power
    /// cut may take back anything of it, nor bring back what it left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn recovered(&mut self, at: u64, recovered: &Recovered) -> Result<(), Violation> {
        self.check(recovered, at)?;
        let mut life = Life::of(recovered, at);
        life.floor = self.highest_epoch(u64::MAX);
        self.lives.push(life);
        Ok(())
    }

    fn highest_epoch(&self, cut: u64) -> Epoch {
        let given = self.lives.iter().flat_map(|life| {
            let given = life.given.values().flatten();
            // Given out for certain: a barrier may have been written at the end of its call only.
            let given = given.filter(|(at, given)| match given {
                Given::Entry(_) => *at < cut,
                Given::Barrier { by, .. } => *by < cut,
            });
            given.map(|(_, given)| given.epoch())
        });
        given.max().unwrap_or_default().max(self.lives[0].floor)
    }

    fn highest_incarnation(&self, cut: u64) -> Incarnation {
        let opened = self.lives.iter().filter_map(|life| life.opened);
        let known = opened.filter(|(at, ..)| *at < cut).map(|(_, incarnation, _)| incarnation);
        known.max().unwrap_or_default().max(self.incarnation_floor)
    }

    /// Whether `recovered` is right after the power was cut at `cut`: everything that is written down for a
    /// position below it had happened.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(&self, recovered: &Recovered, cut: u64) -> Result<(), Violation> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        recovered.check_order()?;
        let life = self.lives.iter().rev().find(|life| life.from < cut).unwrap_or(&self.lives[0]);
        let without = Self::check_life(&life.without_voids(cut, Pending::Nothing), recovered, cut);
        if !life.voids.iter().any(|void| void.is_pending(cut)) {
            return without;
        }
        without.or_else(|violation| {
            let life = life.without_voids(cut, Pending::Everything);
            Self::check_life(&life, recovered, cut).map_err(|_| violation)
        })
    }

    fn check_life(life: &Life, recovered: &Recovered, cut: u64) -> Result<(), Violation> {
        let mut found: BTreeMap<ShardId, Vec<&Item>> = BTreeMap::new();
        for item in &recovered.items {
            found.entry(item.stamp.shard).or_default().push(item);
        }
        let shards: BTreeSet<ShardId> =
            life.kept.keys().chain(life.given.keys()).copied().collect();
        for shard in shards {
            let found = found.remove(&shard).unwrap_or_default();
            life.check_shard(shard, &found, recovered.committed, cut)?;
        }
        life.retention.check_gone(&recovered.items, cut)?;
        life.retention.check_mark(recovered.checkpoint.as_ref(), cut)?;
        if let Some(found) = found.into_values().flatten().next() {
            return Err(Violation::Foreign { found: found.clone(), expected: None });
        }
        let reported = life.committed.iter().filter(|(at, _)| *at < cut).map(|(_, epoch)| *epoch);
        let reported = reported.max().unwrap_or_default().max(life.kept_committed);
        if recovered.committed < reported {
            return Err(Violation::CommittedBack { found: recovered.committed, reported });
        }
        Ok(())
    }
}

impl Recovered {
    fn check_order(&self) -> Result<(), Violation> {
        for (first, second) in self.items.iter().zip(self.items.iter().skip(1)) {
            if first.stamp >= second.stamp {
                return Err(Violation::Order(first.stamp, second.stamp));
            }
        }
        let committed = self.items.iter().take_while(|it| it.stamp.epoch <= self.committed);
        if committed.count() != self.committed_count {
            return Err(Violation::CommittedMark(self.committed));
        }
        Ok(())
    }
}

impl Life {
    fn of(recovered: &Recovered, from: u64) -> Self {
        let mut kept: BTreeMap<ShardId, Vec<Item>> = BTreeMap::new();
        for item in &recovered.items {
            kept.entry(item.stamp.shard).or_default().push(item.clone());
        }
        let kept = kept.into_iter().map(|(shard, items)| (shard, items.into())).collect();
        let retention = Retention::of(recovered.checkpoint.clone());
        Self { from, kept, kept_committed: recovered.committed, retention, ..Self::default() }
    }

    /// First all that an earlier recovery delivered; then a beginning of what was appended since, at least as
    /// long as what was acknowledged. At the front that may be missing which was let go of.
    fn check_shard(
        &self,
        shard: ShardId,
        found: &[&Item],
        committed: Epoch,
        cut: u64,
    ) -> Result<(), Violation> {
        let kept = self.kept.get(&shard).map(|kept| &**kept).unwrap_or_default();
        let given = self.given.get(&shard).map(|given| &**given).unwrap_or_default();
        let given = &given[..given.partition_point(|(at, _)| *at < cut)];
        let delivered: Vec<Given> = kept.iter().cloned().map(Given::Entry).collect();
        let expected: Vec<&Given> =
            delivered.iter().chain(given.iter().map(|(_, it)| it)).collect();
        let missing = self.retention.missing(shard, &expected, found, cut);
        let kept = &kept[missing.min(kept.len())..];
        let missing = missing - missing.min(delivered.len());
        for (index, item) in kept.iter().enumerate() {
            match found.get(index) {
                Some(&found) if found == item => {}
                Some(&found) if found.stamp < item.stamp => {
                    let (found, expected) = (found.clone(), Some(format!("{item:?}")));
                    return Err(Violation::Foreign { found, expected });
                }
                _ => return Err(Violation::Forgotten(item.stamp)),
            }
        }
        let new = &found[kept.len()..];
        for (index, &item) in (missing..).zip(new) {
            let expected = given.get(index).map(|(_, given)| given);
            if !expected.is_some_and(|given| given.is(item)) {
                return Err(match self.first_lost(shard, given, index, cut) {
                    // What is there is a later one: the one in between is what is wrong.
                    Some(lost) if given.iter().any(|(_, it)| it.is(item)) => lost,
                    _ => Violation::Foreign {
                        found: item.clone(),
                        expected: expected.map(|given| format!("{given:?}")),
                    },
                });
            }
        }
        if let Some(lost) = self.first_lost(shard, given, missing + new.len(), cut) {
            return Err(lost);
        }
        if let Some(last) = new.last().filter(|last| last.continues) {
            return Err(Violation::HalfGroup(last.stamp));
        }
        let is_active = self.opened.is_some_and(|(.., shards)| shard.0 < shards);
        let recovered = &given[..missing + new.len()];
        if is_active
            && committed > self.kept_committed
            && !recovered
                .iter()
                .any(|(_, it)| matches!(it, Given::Barrier { epoch, .. } if *epoch >= committed))
        {
            return Err(Violation::CommittedInPart { epoch: committed, shard });
        }
        Ok(())
    }

    /// The first acknowledged entry behind the first `count`.
    fn first_lost(
        &self,
        shard: ShardId,
        given: &[(u64, Given)],
        count: usize,
        cut: u64,
    ) -> Option<Violation> {
        let claims = self.acknowledged.iter().filter(|(at, of, _)| *at < cut && *of == shard);
        let &(at, _, acknowledged) = claims.max_by_key(|(_, _, seq)| *seq)?;
        let missing = given.get(count..)?.iter().find_map(|(_, it)| match it {
            Given::Entry(item) if it.seq() <= Some(acknowledged) => Some(item.stamp),
            _ => None,
        })?;
        Some(Violation::Lost { stamp: missing, acknowledged, at })
    }
}
