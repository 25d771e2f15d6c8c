//! Appends to an open log, alone and in groups, and the reasons for which they may be refused.

use corewal::{AppendError, Epoch, Kind, ShardWriter, Stamp, Turn};

use crate::Violation;
use crate::sim::Finding;
use crate::sim::session::{Before, Desk, PATIENCE, Session, Stop};

/// How an atomic group is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupWay {
    /// All at once.
    Batch,
    /// Entry by entry, apart from the log.
    Transaction,
}

impl Desk {
    /// What has been taken of the reserve.
    fn usage(&self) -> Option<(u64, Epoch)> {
        self.writer.as_ref().map(|writer| (writer.stats().vouches, self.epoch))
    }
}

impl Session<'_> {
    /// Appends an entry; false if there was no room for it.
    pub(crate) fn append(&mut self, shard: u16, payload: &[u8]) -> Result<bool, Stop> {
        let append = |writer: &mut ShardWriter| writer.append_bytes(Kind::PUT, payload);
        self.append_by(shard, Kind::PUT, payload, append)
    }

    /// Appends an entry in some way.
    pub(super) fn append_by(
        &mut self,
        shard: u16,
        kind: Kind,
        payload: &[u8],
        append: impl FnOnce(&mut ShardWriter) -> Result<Stamp, AppendError>,
    ) -> Result<bool, Stop> {
        let index = self.desk(shard);
        let before = self.before(index);
        let Some(writer) = &mut self.desks[index].writer else { return Ok(false) };
        *self.clock += 1;
        let result = append(writer);
        let has_failed = self.desks[index].has_failed;
        match result {
            Ok(stamp) => {
                if has_failed {
                    let what = format!("{stamp} was accepted");
                    return Err(Finding::AfterFailure(stamp.shard, what).into());
                }
                if let Some(cause) = self.desks[index].observed.filter(|cause| *cause >= stamp) {
                    return Err(Finding::from(Violation::StampsDescend(cause, stamp)).into());
                }
                self.ledger.appended(*self.clock, stamp, kind, payload);
                self.desks[index].given.push(stamp);
                self.note(index, &before)?;
                self.desks[index].reserved = self.desks[index].usage();
                Ok(true)
            }
            Err(error) => self.refused(index, &before, has_failed, &error),
        }
    }

    /// Appends entries as one atomic group; by a transaction, which is aborted once before, if it is said so.
    pub(crate) fn append_group(
        &mut self,
        shard: u16,
        payloads: &[Vec<u8>],
        way: GroupWay,
    ) -> Result<bool, Stop> {
        let index = self.desk(shard);
        let before = self.before(index);
        let Some(writer) = &mut self.desks[index].writer else { return Ok(false) };
        *self.clock += 1;
        let puts = payloads.iter().map(|payload| (Kind::PUT, &payload[..]));
        let result = match way {
            GroupWay::Batch => writer.append_batch_bytes(puts),
            GroupWay::Transaction => {
                let mut transaction = writer.begin();
                let mut add = |(kind, bytes)| transaction.append_bytes(kind, bytes);
                let added = add((Kind::PUT, b"aborted"));
                transaction.abort();
                let mut add = |(kind, bytes)| transaction.append_bytes(kind, bytes);
                let added = added.and_then(|()| puts.clone().try_for_each(&mut add));
                added.and_then(|()| writer.commit(&mut transaction))
            }
        };
        let has_failed = self.desks[index].has_failed;
        match result {
            Ok(group) => {
                if has_failed {
                    let what = format!("{} was accepted", group.first());
                    return Err(Finding::AfterFailure(group.first().shard, what).into());
                }
                let entries: Vec<_> = group
                    .stamps()
                    .zip(payloads)
                    .map(|(stamp, payload)| (stamp, Kind::PUT, &payload[..]))
                    .collect();
                self.ledger.appended_together(*self.clock, &entries);
                self.desks[index].given.extend(group.stamps());
                self.note(index, &before)?;
                self.desks[index].reserved = self.desks[index].usage();
                Ok(true)
            }
            Err(AppendError::GroupTooLarge { .. }) => self.note(index, &before).map(|()| false),
            Err(error) => self.refused(index, &before, has_failed, &error),
        }
    }

    /// An append was not accepted: is there a reason for it?
    fn refused(
        &mut self,
        index: usize,
        before: &Before,
        has_failed: bool,
        error: &AppendError,
    ) -> Result<bool, Stop> {
        match error {
            AppendError::Full => self.note(index, before).map(|()| false),
            AppendError::NoSpace(_) if self.excuses.full => {
                self.note(index, before)?;
                self.check_reserve(index)?;
                Ok(false)
            }
            AppendError::NoSpace(_) | AppendError::NoSegment(_) if self.excuses.faults => {
                self.note(index, before).map(|()| false)
            }
            AppendError::Failed(_) if has_failed => Ok(false),
            error => {
                let stop = self.trouble(error);
                if let (Stop::Failed, AppendError::Failed(_)) = (&stop, error) {
                    self.desks[index].has_failed = true;
                    return Ok(false);
                }
                Err(stop)
            }
        }
    }

    /// On a full disk there is room for a barrier, if nothing was taken of the reserve since the last entry.
    fn check_reserve(&mut self, index: usize) -> Result<(), Stop> {
        let shard = u16::try_from(index).unwrap_or(0);
        for _ in 0..PATIENCE {
            let desk = &self.desks[index];
            let is_free = desk.reserved.is_some() && desk.reserved == desk.usage();
            if !is_free || desk.has_failed || self.excuses.faults {
                return Ok(());
            }
            if self.close_epoch_or(index)? {
                return Ok(());
            }
            // A prepared segment is taken, and blocks come back, in a turn.
            let is_at_rest = matches!(self.turn(shard)?, Some(Turn::Idle(_)));
            self.sleep(shard)?;
            if is_at_rest && !self.close_epoch_or(index)? {
                break;
            }
        }
        Err(Finding::Stuck(format!("no room for a barrier of shard {shard}")).into())
    }

    /// Closes the epoch; whether it was closed, or may not be yet.
    fn close_epoch_or(&mut self, index: usize) -> Result<bool, Stop> {
        let before = self.before(index);
        let Some(writer) = &mut self.desks[index].writer else { return Ok(true) };
        let result = writer.close_epoch();
        self.note(index, &before)?;
        match result {
            Ok(_) | Err(AppendError::EpochsAhead { .. }) => Ok(true),
            Err(AppendError::Full | AppendError::NoSpace(_)) => Ok(false),
            Err(error) => Err(self.trouble(&error)),
        }
    }
}
