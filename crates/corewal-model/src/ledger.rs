//! The ledger: what was appended, acknowledged and reported, kept outside the log, and the checks against it.
//!
//! It never asks the log. Every entry is a bit. What was acknowledged or delivered *must* come back; what a
//! recovery left out, or a request voided, must *not*; anything else may do either until a recovery decides.

use crate::disk::{Entry, Ghost};

/// The order of the merged stream is the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The epoch that was open.
    pub epoch: u8,
    /// The position in the shard.
    pub seq: u8,
    /// The shard.
    pub shard: u8,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Violation {
    AcknowledgedIsLost,
    GoneComesBack,
    OrderIsBroken,
    HalfAGroup,
    CommittedGoesBack,
    CommittedIsNotWhole,
    StampGivenOutTwice,
    EpochGivenOutTwice,
    EffectBeforeCause,
    PowerCutIsRefused,
    DamageIsSilent,
    WindowIsTooWide,
    WrongAnswer,
    FalseAlarm,
    StuckWithoutRoom,
}

impl Violation {
    /// Every kind, with the property that it breaks.
    pub(crate) const ALL: [(Self, &'static str); 15] = [
        (Self::AcknowledgedIsLost, "acknowledged or delivered once is recovered"),
        (Self::GoneComesBack, "what a recovery left out or a request voided never comes back"),
        (Self::OrderIsBroken, "recovered was appended, each once, in order"),
        (Self::HalfAGroup, "an atomic group is recovered whole or not at all"),
        (Self::CommittedGoesBack, "the committed epoch never goes back"),
        (
            Self::CommittedIsNotWhole,
            "a committed epoch was closed by every shard of its incarnation",
        ),
        (Self::StampGivenOutTwice, "no stamp is given out twice"),
        (Self::EpochGivenOutTwice, "no epoch is given out twice"),
        (Self::EffectBeforeCause, "an effect sorts after its cause"),
        (Self::PowerCutIsRefused, "an ordinary power cut is never refused"),
        (Self::DamageIsSilent, "damage beyond the stated limit is never silent"),
        (Self::WindowIsTooWide, "at most `depth` batches can be lost to damage silently"),
        (Self::WrongAnswer, "a stamp is answered by what became of it"),
        (Self::FalseAlarm, "a live reader reports only damage that is there"),
        (Self::StuckWithoutRoom, "a full disk leaves a way to commit"),
    ];
}

/// A stamp that was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Given {
    /// The stamp.
    pub stamp: Stamp,
    /// In which incarnation.
    pub incarnation: u8,
    /// It was given to a barrier.
    pub barrier: bool,
    /// The first entry of the atomic group, for the others of it.
    pub group: Option<u8>,
}

/// An epoch that was open, and who closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Incarnation {
    pub(crate) first_epoch: u8,
    pub(crate) active: u8,
}

/// Damage that was done on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Damaged {
    /// Nothing excuses silence: everything was vouched for, or a file is missing below an existing one.
    Accountable,
    /// Silence is excused for what no surviving witness speaks of: at most `depth` batches.
    Excusable,
    /// The highest file of a run is gone, and all promises in it: silence is excused for all of it.
    LastFile,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ledger {
    pub(crate) given: Vec<Given>,
    pub(crate) must: u32,
    pub(crate) must_not: u32,
    pub(crate) released: u32,
    pub(crate) reported: u8,
    pub(crate) incarnations: Vec<Incarnation>,
    /// The highest epoch that was ever open.
    pub(crate) top_epoch: u8,
    pub(crate) damaged: Option<Damaged>,
}

/// What a recovery delivered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Delivery {
    /// Entry by entry, shard by shard, in the order of the disk.
    pub(crate) shards: Vec<Vec<Entry>>,
    pub(crate) committed: u8,
    /// Stands for `committed_only`: entries above the committed epoch are left out.
    pub(crate) committed_only: bool,
    /// What surviving promises speak of, by what was true when they were made.
    pub(crate) witnessed: Ghost,
}

pub(crate) fn bit(id: u8) -> u32 {
    1 << id
}

impl Ledger {
    pub(crate) fn ghost(&self) -> Ghost {
        Ghost { acked: self.must, reported: self.reported }
    }

    /// A stamp is given out.
    pub(crate) fn give(&mut self, given: Given) -> Result<Entry, Violation> {
        if self.given.iter().any(|it| it.stamp == given.stamp) {
            return Err(Violation::StampGivenOutTwice);
        }
        let id = u8::try_from(self.given.len()).unwrap_or(u8::MAX);
        assert!(id < 32, "the bounds are small");
        self.given.push(given);
        self.top_epoch = self.top_epoch.max(given.stamp.epoch);
        Ok(Entry { id, epoch: given.stamp.epoch, seq: given.stamp.seq })
    }

    pub(crate) fn acknowledge(&mut self, entries: u32) {
        self.must |= entries & !self.must_not & !self.released;
    }

    /// Entries of `shard`, as bits.
    pub(crate) fn entries_of(&self, shard: u8) -> u32 {
        self.select(|given| given.stamp.shard == shard)
    }

    pub(crate) fn select(&self, wanted: impl Fn(&Given) -> bool) -> u32 {
        (0_u8..).zip(&self.given).filter(|(_, given)| wanted(given)).map(|(id, _)| bit(id)).sum()
    }

    /// `committed` is reported, or recovered: every shard of the incarnation that it was open in has closed it,
    /// with a barrier that survives.
    pub(crate) fn commit(&mut self, committed: u8, barriers: u32) -> Result<(), Violation> {
        if committed == 0 {
            return Ok(());
        }
        let own = self.incarnations.iter().rev().find(|it| it.first_epoch <= committed);
        let active = own.map_or(0, |it| it.active);
        let closed = (0_u8..).zip(&self.given).filter(|(id, given)| {
            given.barrier && given.stamp.epoch == committed && barriers & bit(*id) != 0
        });
        let closed = closed.fold(0_u8, |mask, (_, given)| mask | 1 << given.stamp.shard);
        if closed & active != active {
            return Err(Violation::CommittedIsNotWhole);
        }
        self.reported = self.reported.max(committed);
        Ok(())
    }

    /// A new incarnation opens its first epoch.
    pub(crate) fn open(&mut self, first_epoch: u8, active: u8) -> Result<(), Violation> {
        if first_epoch <= self.top_epoch {
            return Err(Violation::EpochGivenOutTwice);
        }
        self.top_epoch = first_epoch;
        self.incarnations.push(Incarnation { first_epoch, active });
        Ok(())
    }

    /// A recovery has delivered its stream.
    pub(crate) fn recovered(&mut self, delivery: &Delivery, depth: u8) -> Result<(), Violation> {
        let all = self.stream(delivery)?;
        let shown = match delivery.committed_only {
            true => all & self.select(|given| given.stamp.epoch <= delivery.committed),
            false => all,
        };
        if all & self.must_not != 0 {
            return Err(Violation::GoneComesBack);
        }
        self.groups(shown)?;
        let missing = self.must & !all;
        let goes_back = delivery.committed < self.reported;
        if let Some(damaged) = self.damaged {
            let silent = missing & delivery.witnessed.acked != 0
                || goes_back && delivery.witnessed.reported > delivery.committed;
            let accountable = damaged == Damaged::Accountable && (missing != 0 || goes_back);
            if silent || accountable {
                return Err(Violation::DamageIsSilent);
            }
            if damaged != Damaged::LastFile && missing.count_ones() > u32::from(depth) {
                return Err(Violation::WindowIsTooWide);
            }
            return Ok(());
        }
        if missing != 0 {
            return Err(Violation::AcknowledgedIsLost);
        }
        if goes_back {
            return Err(Violation::CommittedGoesBack);
        }
        self.commit(delivery.committed, all | self.released)?;
        let given = self.select(|_| true);
        self.must = all;
        self.must_not = given & !all & !self.released;
        Ok(())
    }

    /// The entries of a stream, as bits: each was appended, each is there once, in order.
    fn stream(&self, delivery: &Delivery) -> Result<u32, Violation> {
        let mut all = 0;
        for (shard, entries) in (0_u8..).zip(&delivery.shards) {
            let mut last: Option<Stamp> = None;
            for entry in entries {
                let stamp = Stamp { epoch: entry.epoch, seq: entry.seq, shard };
                let given = self.given.get(usize::from(entry.id));
                let was_appended = given.is_some_and(|given| given.stamp == stamp);
                let ascends = last.is_none_or(|last| last < stamp && last.seq < stamp.seq);
                if !was_appended || !ascends || all & bit(entry.id) != 0 {
                    return Err(Violation::OrderIsBroken);
                }
                all |= bit(entry.id);
                last = Some(stamp);
            }
        }
        Ok(all)
    }

    fn groups(&self, shown: u32) -> Result<(), Violation> {
        for (id, given) in (0_u8..).zip(&self.given) {
            let Some(first) = given.group else { continue };
            let pair = bit(first) | bit(id);
            if (self.must_not | self.released) & pair == 0 && ![0, pair].contains(&(shown & pair)) {
                return Err(Violation::HalfAGroup);
            }
        }
        Ok(())
    }

    /// A request, or `committed_only`, is about to take effect: from now on a recovery may find it or not.
    pub(crate) fn may_void(&mut self, entries: u32) {
        self.must &= !entries;
    }

    pub(crate) fn void(&mut self, entries: u32) {
        self.must &= !entries;
        self.must_not |= entries;
    }

    pub(crate) fn release(&mut self, entries: u32) {
        self.must &= !entries;
        self.released |= entries;
    }
}
