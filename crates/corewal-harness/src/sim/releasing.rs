//! Checkpoints, releases and pins of an open log, written down as they happen.

use corewal::{
    CheckpointError, Epoch, Kind, PinError, PinFrom, Released, Seq, ShardId, Stamp, Standing,
};

use crate::Goes;
use crate::sim::Finding;
use crate::sim::session::{Session, Stop};

impl Session<'_> {
    fn pinned(&self) -> Vec<PinFrom> {
        self.pins.iter().map(|(_, from)| *from).collect()
    }

    /// The committed epoch, or one so many before it, is held elsewhere.
    pub(crate) fn checkpoint(&mut self, back: u64) -> Result<(), Stop> {
        let committed = self.log.committed_epoch();
        let epoch = Epoch(committed.0.saturating_sub(back));
        if epoch.0 == 0 {
            return Ok(());
        }
        let last = self.log.last_checkpoint().map_or(Epoch(0), |it| it.epoch);
        let bytes = self.clock.to_le_bytes();
        let at = self.begin();
        let result = self.log.checkpoint(epoch, &bytes);
        if let Err(CheckpointError::Behind { .. }) = result
            && epoch < last
        {
            return Ok(());
        }
        self.ledger.letting_go(at, Goes::UpTo(epoch), committed, self.pinned());
        self.ledger.checkpointing(at, epoch, &bytes);
        if result.is_ok() {
            if epoch < last {
                return Err(Finding::Release(format!("checkpoint {epoch} after {last}")).into());
            }
            *self.clock += 1;
            self.ledger.checkpointed(*self.clock);
        }
        self.let_go(result)
    }

    /// An epoch that is not committed cannot be held elsewhere.
    pub(crate) fn checkpoint_ahead(&mut self) -> Result<(), Stop> {
        let epoch = self.log.committed_epoch().next();
        match self.log.checkpoint(epoch, b"too early") {
            Err(CheckpointError::NotCommitted { .. }) => Ok(()),
            other => {
                let what = format!("a checkpoint of the open epoch {epoch}: {other:?}");
                Err(Finding::Release(what).into())
            }
        }
    }

    /// A shard lets go of a part of what it has given out, in sixteenths.
    pub(crate) fn release_before(&mut self, shard: u16, part: u64) -> Result<(), Stop> {
        let index = self.desk(shard);
        let (shard, given) = (self.desks[index].shard, &self.desks[index].given);
        let (Some(first), Some(last)) = (given.first(), given.last()) else { return Ok(()) };
        let seq = Seq(first.seq.0 + (last.seq.0 - first.seq.0) * part / 16);
        let committed = self.log.committed_epoch();
        let at = self.begin();
        self.ledger.letting_go(at, Goes::Below(shard, seq), committed, self.pinned());
        let result = self.log.release_before(shard, seq);
        self.let_go(result)
    }

    pub(crate) fn append_state(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        let state = self.clock.to_le_bytes();
        let mut mark = None;
        let accepted = self.append_by(shard, Kind::CHECKPOINT, &state, |writer| {
            let given = writer.append_state(&state)?;
            mark = Some(given);
            Ok(given.stamp())
        })?;
        if accepted {
            self.desks[index].state = mark;
        }
        Ok(())
    }

    /// A shard lets go of what is before its last state.
    pub(crate) fn release_to(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        let Some(state) = self.desks[index].state else { return Ok(()) };
        let stamp = state.stamp();
        let committed = self.log.committed_epoch();
        let at = self.begin();
        let result = self.log.release_to(state);
        if let Err(CheckpointError::NotCommitted { .. }) = result
            && stamp.epoch > committed
        {
            return Ok(());
        }
        let goes = Goes::Below(stamp.shard, stamp.seq);
        self.ledger.letting_go(at, goes, committed, self.pinned());
        if result.is_ok() && stamp.epoch > committed {
            let what = format!("released to {stamp}, whose epoch is not committed");
            return Err(Finding::Release(what).into());
        }
        self.let_go(result)
    }

    pub(crate) fn pin(&mut self, shard: u16, what: u64) -> Result<(), Stop> {
        let index = self.desk(shard);
        let shard = self.desks[index].shard;
        let from = match what {
            0 => PinFrom::Oldest,
            1 => PinFrom::Epoch(self.log.committed_epoch()),
            _ => PinFrom::Seq(shard, self.log.frontier(shard).unwrap_or_default()),
        };
        match (self.log.pin("reader", from), from) {
            (Ok(pin), _) => self.pins.push_back((pin, from)),
            (Err(PinError::Released { released, .. }), PinFrom::Seq(_, seq)) if seq <= released => {
            }
            (Err(error), _) => return Err(Finding::Release(error.to_string()).into()),
        }
        Ok(())
    }

    pub(crate) fn unpin(&mut self) {
        self.pins.pop_front();
    }

    fn begin(&mut self) -> u64 {
        *self.clock += 1;
        *self.clock
    }

    /// Writes down what is gone.
    fn let_go(&mut self, result: Result<Released, CheckpointError>) -> Result<(), Stop> {
        *self.clock += 1;
        match result {
            Ok(released) => {
                for &(shard, seq) in &released.shards {
                    self.ledger.let_go(*self.clock, shard, seq);
                    self.check_standing(shard, seq)?;
                }
                // A removal fails when the power is cut in it.
                self.check_stopped()
            }
            Err(CheckpointError::Unwritten(_)) if self.excuses.full => self.check_stopped(),
            Err(error) => match self.trouble(&error) {
                // The log goes on without manifests.
                Stop::Failed => Ok(()),
                stop => Err(stop),
            },
        }
    }

    fn check_standing(&self, shard: ShardId, seq: Seq) -> Result<(), Finding> {
        let desk = self.desks.iter().find(|desk| desk.shard == shard);
        let given = desk.into_iter().flat_map(|desk| &desk.given);
        let gone: Option<&Stamp> = given.rev().find(|stamp| stamp.seq <= seq);
        match gone.map(|&stamp| (stamp, self.log.standing(stamp))) {
            Some((stamp, standing)) if standing != Standing::Released => {
                Err(Finding::Standing(stamp, format!("{standing:?}, and it was released")))
            }
            _ => Ok(()),
        }
    }
}
