//! Truncations of an open log, and stamps that one shard observes of another, written down as they happen.

use std::collections::BTreeMap;

use corewal::{
    AppendError, FailureCause, ObserveError, Seq, Stamp, Standing, TruncateError, Truncation,
};

use crate::sim::Finding;
use crate::sim::session::{Session, Stop};

impl Session<'_> {
    /// Cuts off everything behind the entry that is `back` entries before the last one.
    pub(crate) fn truncate(&mut self, shard: u16, back: usize) -> Result<(), Stop> {
        let index = self.desk(shard);
        let shard = self.desks[index].shard;
        let seq = self.ledger.seq_back(shard, back);
        let had_failed = self.desks[index].has_failed;
        let is_unknown = self.ledger.may_have_voided();
        let before = self.before(index);
        let Some(writer) = &mut self.desks[index].writer else { return Ok(()) };
        *self.clock += 1;
        self.ledger.may_void(*self.clock, BTreeMap::from([(shard, seq)]));
        let result = writer.truncate_after(seq);
        self.note(index, &before)?;
        match result {
            // Where there is nothing to cut, nothing is written.
            Ok(cut) if had_failed || (is_unknown && cut.seqs.is_some()) => {
                Err(Finding::AfterFailure(shard, format!("it was cut off after {seq}")).into())
            }
            Ok(truncation) => self.was_cut(index, seq, &truncation),
            Err(error) => self.was_not_cut(index, error, had_failed || is_unknown),
        }
    }

    fn was_cut(&mut self, index: usize, seq: Seq, truncation: &Truncation) -> Result<(), Stop> {
        if truncation.seqs.is_none() {
            self.ledger.not_voided();
            return Ok(());
        }
        self.ledger.voided(*self.clock);
        let desk = &mut self.desks[index];
        desk.state = desk.state.filter(|state| state.stamp().seq <= seq);
        desk.began = desk.acknowledged;
        desk.cut = desk.given.last().map_or(Seq(0), |last| last.seq);
        for &stamp in desk.given.iter().rev().take(12).filter(|stamp| stamp.seq > seq) {
            let standing = self.log.standing(stamp);
            if standing != Standing::Voided {
                let what = format!("{standing:?}, and it was cut off");
                return Err(Finding::Standing(stamp, what).into());
            }
        }
        Ok(())
    }

    fn was_not_cut(
        &mut self,
        index: usize,
        error: TruncateError,
        was_over: bool,
    ) -> Result<(), Stop> {
        // Only a manifest whose write failed may be there, and none is written on top of it.
        let is_manifest = matches!(&error, TruncateError::Failed(failure)
            if matches!(failure.cause, FailureCause::Manifest(_)));
        if was_over || !is_manifest {
            self.ledger.not_voided();
        }
        let is_running = !self.disk.is_stopped();
        let excuses = self.excuses;
        match error {
            TruncateError::Committed { .. }
            | TruncateError::Barrier { .. }
            | TruncateError::Released { .. }
            | TruncateError::InsideGroup { .. }
            | TruncateError::NoRoom(AppendError::Full) => return Ok(()),
            TruncateError::NoRoom(_) | TruncateError::Unwritten(_)
                if is_running && (excuses.full || excuses.faults) =>
            {
                return Ok(());
            }
            TruncateError::Read(_) if excuses.faults && is_running => return Ok(()),
            TruncateError::Failed(_) if was_over => {}
            // A manifest needs room, too.
            TruncateError::Failed(_) if is_manifest && excuses.full && is_running => {}
            error => match self.trouble(&error) {
                Stop::Failed => {}
                stop => return Err(stop),
            },
        }
        self.desks[index].has_failed = true;
        Ok(())
    }

    /// The shard observes the last stamp of another one, or one further on.
    pub(crate) fn observe(&mut self, shard: u16, other: u16, jump: u8) -> Result<(), Stop> {
        let (index, other) = (self.desk(shard), self.desk(other));
        let Some(&cause) = self.desks[other].given.last() else { return Ok(()) };
        let stamp = match jump {
            0 => cause,
            _ => Stamp { seq: Seq(cause.seq.0 + (1 << jump)), ..cause },
        };
        let before = self.before(index);
        let desk = &mut self.desks[index];
        let Some(writer) = &mut desk.writer else { return Ok(()) };
        let open = writer.epoch();
        let result = writer.observe(stamp);
        match result {
            Ok(()) if !desk.has_failed => {
                desk.observed = desk.observed.max(Some(stamp));
                self.note(index, &before)
            }
            Err(ObserveError::EpochBehind { .. }) if stamp.epoch > open => Ok(()),
            Err(ObserveError::Failed(_)) if desk.has_failed => Ok(()),
            Ok(()) => {
                let what = format!("{stamp} was observed");
                Err(Finding::AfterFailure(desk.shard, what).into())
            }
            Err(error) => Err(self.trouble(&error)),
        }
    }
}
