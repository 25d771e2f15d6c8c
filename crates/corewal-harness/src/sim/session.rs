//! One open log with its writers, and what it shows after every call.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use corewal::{
    AppendError, Epoch, EpochError, Incarnation, Log, Pin, PinFrom, SegmentNumber, Seq, ShardId,
    ShardWriter, Stamp, StateMark, Tail, Turn,
};
use corewal_disk::sim::SimDisk;
use corewal_format::{HEADER_BLOCKS, ShardRecord};

use crate::sim::Finding;
use crate::sim::anatomy::{Anatomy, Seal, Seals};
use crate::sim::history::VOUCH_AFTER;
use crate::sim::payload::BatchSpot;
use crate::{Ledger, Violation};

/// More turns than anything takes.
pub(super) const PATIENCE: usize = 2_000;

/// Why a life ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The power was cut.
    Cut,
    /// Something failed, as was to be expected of its faults.
    Failed,
    /// Something is wrong.
    Found(Box<Finding>),
}

impl From<Finding> for Stop {
    fn from(finding: Finding) -> Self {
        Self::Found(Box::new(finding))
    }
}

/// What may go wrong in a life without anybody's fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excuses {
    /// Operations fail.
    pub(crate) faults: bool,
    /// The disk may be full.
    pub(crate) full: bool,
}

/// An open log.
pub(crate) struct Session<'a> {
    pub(crate) log: Log,
    pub(crate) desks: Vec<Desk>,
    pub(super) disk: Arc<SimDisk>,
    pub(super) ledger: &'a mut Ledger,
    pub(super) clock: &'a mut u64,
    pub(super) excuses: Excuses,
    committed: Epoch,
    /// Up to which epoch the log has asked its shards to close.
    requested: Epoch,
    /// What was known when each batch was sealed.
    pub(crate) seals: Seals,
    pub(super) pins: VecDeque<(Pin, PinFrom)>,
}

/// The writer of a shard, and what it has shown.
pub(crate) struct Desk {
    pub(crate) shard: ShardId,
    pub(super) writer: Option<ShardWriter>,
    /// The first epoch that it has not closed.
    pub(super) epoch: Epoch,
    /// The frontier before anything was appended.
    pub(super) began: Seq,
    pub(super) acknowledged: Seq,
    pub(super) has_failed: bool,
    pub(super) given: Vec<Stamp>,
    pub(super) state: Option<StateMark>,
    rotations: u64,
    /// The last seq that was given out before a truncation.
    pub(super) cut: Seq,
    /// The last stamp that was observed.
    pub(super) observed: Option<Stamp>,
    /// Vouches and the open epoch when the last entry was accepted: the reserve was free then.
    pub(super) reserved: Option<(u64, Epoch)>,
    seals: Vec<Seal>,
    /// Follow the shard, from inside and from outside, since the log was first read beside its writers.
    pub(super) tails: Option<[Tail; 2]>,
    /// Where they begin: behind what was released.
    pub(super) tails_from: Seq,
}

/// What a call was made of.
pub(super) struct Before {
    seq: Seq,
    committed: Epoch,
}

impl<'a> Session<'a> {
    /// Takes all seats.
    pub(crate) fn start(
        mut log: Log,
        disk: Arc<SimDisk>,
        ledger: &'a mut Ledger,
        clock: &'a mut u64,
        excuses: Excuses,
    ) -> Result<Self, Stop> {
        let seats = log.take_seats();
        let (committed, incarnation) = (log.committed_epoch(), log.incarnation());
        let mut session = Self {
            log,
            desks: Vec::with_capacity(seats.len()),
            disk,
            ledger,
            clock,
            excuses,
            committed,
            requested: Epoch(0),
            seals: Seals { incarnation, firsts: Vec::new(), shards: Vec::new() },
            pins: VecDeque::new(),
        };
        if let Some(manifest) = Anatomy::of(&session.disk).manifest() {
            let first = |record: &ShardRecord| Some((record.shard, record.current?.first_batch));
            session.seals.firsts = manifest.shards.iter().filter_map(first).collect();
        }
        for seat in seats {
            let shard = seat.shard();
            let writer = seat.sit().map_err(|error| session.trouble(&error))?;
            session.desks.push(Desk {
                shard,
                epoch: writer.epoch(),
                began: writer.frontier(),
                acknowledged: writer.frontier(),
                has_failed: false,
                given: Vec::new(),
                state: None,
                rotations: 0,
                cut: Seq(0),
                observed: None,
                reserved: None,
                seals: Vec::new(),
                tails: None,
                tails_from: Seq(1),
                writer: Some(writer),
            });
        }
        Ok(session)
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.log.incarnation()
    }

    /// Something failed: is there a reason for it?
    pub(super) fn trouble(&self, error: &dyn std::fmt::Display) -> Stop {
        if self.disk.is_stopped() {
            Stop::Cut
        } else if self.excuses.faults {
            Stop::Failed
        } else {
            Finding::Stuck(error.to_string()).into()
        }
    }

    pub(super) fn desk(&mut self, shard: u16) -> usize {
        usize::from(shard) % self.desks.len()
    }

    pub(super) fn before(&self, index: usize) -> Before {
        Before { seq: self.desks[index].acknowledged, committed: self.log.committed_epoch() }
    }

    /// Writes down what a shard shows after a call.
    pub(super) fn note(&mut self, index: usize, before: &Before) -> Result<(), Stop> {
        *self.clock += 1;
        let desk = &mut self.desks[index];
        let shard = desk.shard;
        let Some(writer) = &desk.writer else { return Ok(()) };
        while desk.epoch < writer.epoch() {
            self.ledger.closed_epoch(*self.clock, shard, desk.epoch);
            desk.epoch = desk.epoch.next();
        }
        let frontier = writer.frontier();
        let stats = writer.stats();
        desk.rotations = stats.rotations;
        self.saw(index, frontier, stats.batches, before)
    }

    fn saw(
        &mut self,
        index: usize,
        frontier: Seq,
        batches: u64,
        before: &Before,
    ) -> Result<(), Stop> {
        let committed = self.log.committed_epoch();
        let desk = &mut self.desks[index];
        if frontier > desk.acknowledged {
            if desk.has_failed {
                let what = format!("seq {frontier} was acknowledged");
                return Err(Finding::AfterFailure(desk.shard, what).into());
            }
            desk.acknowledged = frontier;
            self.ledger.acknowledged(*self.clock, desk.shard, frontier);
        }
        while (desk.seals.len() as u64) < batches {
            desk.seals
                .push(Seal { least: (before.seq, before.committed), most: (frontier, committed) });
        }
        if committed > self.committed {
            self.committed = committed;
            self.ledger.committed(*self.clock, committed);
        }
        Ok(())
    }

    /// A call on a writer that may fail; the shard is noted before and after.
    fn call<T, E: std::fmt::Display>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut ShardWriter) -> Result<T, E>,
    ) -> Result<Option<T>, Stop> {
        let before = self.before(index);
        let Some(writer) = &mut self.desks[index].writer else { return Ok(None) };
        let result = call(writer);
        self.note(index, &before)?;
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let stop = self.trouble(&error);
                if let Stop::Failed = stop {
                    self.desks[index].has_failed = true;
                    return Ok(None);
                }
                Err(stop)
            }
        }
    }

    /// A turn. Whether something is in flight.
    pub(crate) fn turn(&mut self, shard: u16) -> Result<Option<Turn>, Stop> {
        let index = self.desk(shard);
        let had_failed = self.desks[index].has_failed;
        let turn = self.call(index, ShardWriter::turn)?;
        if had_failed && turn.is_some() {
            let shard = self.desks[index].shard;
            return Err(Finding::AfterFailure(shard, "a turn went well".into()).into());
        }
        Ok(turn)
    }

    /// A turn, and waiting for a completion if something is in flight.
    pub(crate) fn sleep(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        if self.turn(shard)? == Some(Turn::Sleep) {
            self.call(index, |writer| writer.sleep(None))?;
            self.turn(shard)?;
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        self.call(index, ShardWriter::sync).map(|_| ())
    }

    pub(crate) fn wait(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        let desk = &self.desks[index];
        let Some(&last) = desk.given.last().filter(|last| last.seq > desk.cut) else {
            return Ok(());
        };
        self.call(index, |writer| writer.wait(last)).map(|_| ())
    }

    pub(crate) fn close_epoch(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        let has_failed = self.desks[index].has_failed;
        let before = self.before(index);
        let Some(writer) = &mut self.desks[index].writer else { return Ok(()) };
        let result = writer.close_epoch();
        self.note(index, &before)?;
        match result {
            Ok(epoch) if has_failed => {
                let what = format!("epoch {epoch} was closed");
                Err(Finding::AfterFailure(self.desks[index].shard, what).into())
            }
            Ok(_) | Err(AppendError::Full | AppendError::EpochsAhead { .. }) => Ok(()),
            Err(AppendError::NoSpace(_)) if self.excuses.full => Ok(()),
            Err(AppendError::NoSpace(_) | AppendError::NoSegment(_)) if self.excuses.faults => {
                Ok(())
            }
            Err(AppendError::Failed(_)) if has_failed => Ok(()),
            Err(error) => match self.trouble(&error) {
                Stop::Failed => {
                    self.desks[index].has_failed = true;
                    Ok(())
                }
                stop => Err(stop),
            },
        }
    }

    pub(crate) fn request_epoch(&mut self) -> Result<(), Stop> {
        match self.log.close_epoch() {
            Ok(epoch) => {
                self.requested = self.requested.max(epoch);
                Ok(())
            }
            Err(EpochError::Ahead { .. }) => Ok(()),
            Err(error) => Err(self.trouble(&error)),
        }
    }

    pub(crate) fn vouch(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        self.call(index, |writer| {
            writer.seal_promises();
            Ok::<_, corewal::Failure>(())
        })
        .map(|_| ())
    }

    /// Lets all shards rest until they have nothing to do, and returns whether they all came to rest.
    pub(crate) fn idle(&mut self) -> Result<bool, Stop> {
        let mut rested = true;
        for _ in 0..3 {
            rested = true;
            for shard in 0..self.desks.len() {
                let shard = u16::try_from(shard).unwrap_or(0);
                rested &= self.rest(shard)?;
            }
        }
        Ok(rested && self.desks.iter().all(|desk| desk.writer.is_some() && !desk.has_failed))
    }

    fn rest(&mut self, shard: u16) -> Result<bool, Stop> {
        for _ in 0..PATIENCE {
            match self.turn(shard)? {
                None | Some(Turn::Idle(None)) => return Ok(true),
                Some(Turn::Again) => {
                    // What waits for room waits for a segment.
                    self.log.prepare();
                    self.check_stopped()?;
                }
                Some(Turn::Sleep) => {
                    let index = self.desk(shard);
                    self.call(index, |writer| writer.sleep(None))?;
                }
                Some(Turn::Idle(Some(time))) => {
                    self.disk.advance(time.max(VOUCH_AFTER));
                    self.log.prepare();
                    self.check_stopped()?;
                }
            }
        }
        if self.excuses.full || self.excuses.faults {
            return Ok(false);
        }
        Err(Finding::Stuck(format!("shard {shard} does not come to rest")).into())
    }

    pub(super) fn check_stopped(&self) -> Result<(), Stop> {
        if self.disk.is_stopped() { Err(Stop::Cut) } else { Ok(()) }
    }

    /// Appends until a segment is full and the next begun.
    pub(crate) fn rotate(&mut self, shard: u16, payload: &[u8]) -> Result<(), Stop> {
        let index = self.desk(shard);
        let start = self.desks[index].rotations;
        for _ in 0..24 {
            if self.desks[index].rotations != start || self.desks[index].has_failed {
                return Ok(());
            }
            self.log.prepare();
            self.check_stopped()?;
            if !self.append(shard, payload)? {
                self.sleep(shard)?;
            }
            self.turn(shard)?;
        }
        Ok(())
    }

    pub(crate) fn prepare(&mut self) -> Result<(), Stop> {
        self.log.prepare();
        self.check_stopped()
    }

    pub(crate) fn drop_writer(&mut self, shard: u16) {
        let index = self.desk(shard);
        let desk = &mut self.desks[index];
        desk.writer = None;
    }

    /// Closes the epochs that the log has asked for, so that no barrier is written unseen while a writer is
    /// closed.
    fn catch_up(&mut self, index: usize) -> Result<bool, Stop> {
        let shard = u16::try_from(index).unwrap_or(0);
        for _ in 0..PATIENCE {
            let desk = &self.desks[index];
            if desk.writer.is_none() || desk.has_failed {
                return Ok(false);
            }
            if desk.epoch > self.requested {
                return Ok(true);
            }
            self.log.prepare();
            self.check_stopped()?;
            self.sleep(shard)?;
            if self.desks[index].epoch <= self.requested {
                // Too many epochs are open: only the other shards can help.
                return Ok(false);
            }
        }
        Ok(false)
    }

    pub(crate) fn close_writer(&mut self, shard: u16) -> Result<(), Stop> {
        let index = self.desk(shard);
        if !self.catch_up(index)? {
            self.desks[index].writer = None;
            return self.check_stopped();
        }
        let before = self.before(index);
        let Some(writer) = self.desks[index].writer.take() else { return Ok(()) };
        let sealed = self.desks[index].seals.len() as u64;
        let result = writer.close();
        *self.clock += 1;
        match result {
            // How many batches the close has sealed is not known; there are not more than these.
            Ok(end) => self.saw(index, end, sealed + 32, &before),
            Err(error) => {
                // Whatever it has sealed knew no more than what is published.
                let frontier = self.log.frontier(self.desks[index].shard).unwrap_or_default();
                self.saw(index, frontier, sealed + 32, &before)?;
                match self.trouble(&error) {
                    Stop::Failed => Ok(()),
                    stop => Err(stop),
                }
            }
        }
    }

    /// What was known when each batch was sealed.
    pub(crate) fn into_seals(mut self) -> Seals {
        let shards =
            self.desks.iter_mut().map(|desk| (desk.shard, std::mem::take(&mut desk.seals)));
        Seals { shards: shards.collect(), ..self.seals }
    }

    /// Closes everything.
    pub(crate) fn close(mut self) -> (Seals, Result<(), Stop>) {
        for index in 0..self.desks.len() {
            // One after the other, so that none waits for the epochs of a shard that is closed.
            for shard in 0..self.desks.len() {
                if let Err(stop) = self.catch_up(shard) {
                    return (self.into_seals(), Err(stop));
                }
            }
            let shard = u16::try_from(index).unwrap_or(0);
            if let Err(stop) = self.close_writer(shard) {
                return (self.into_seals(), Err(stop));
            }
        }
        let shards =
            self.desks.iter_mut().map(|desk| (desk.shard, std::mem::take(&mut desk.seals)));
        let seals = Seals { shards: shards.collect(), ..self.seals };
        let committed = self.log.committed_epoch();
        if committed > self.committed {
            self.ledger.committed(*self.clock, committed);
        }
        let result = self.log.close();
        let stopped = self.disk.is_stopped();
        let result = match result {
            Ok(_) => Ok(()),
            Err(_) if stopped => Err(Stop::Cut),
            Err(_) if self.excuses.faults => Err(Stop::Failed),
            Err(error) => Err(Finding::Stuck(error.to_string()).into()),
        };
        (seals, result)
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, time: Duration) {
        self.disk.advance(time);
    }

    /// A number of its own for every moment.
    pub(crate) fn number(&self) -> u64 {
        *self.clock
    }

    /// Everything that was given out in this life; seqs that a recovery delivered are not given out again.
    pub(crate) fn given(&self, kept: &BTreeMap<ShardId, Seq>) -> Result<Vec<Stamp>, Finding> {
        let stamps: Vec<Stamp> = self.desks.iter().flat_map(|desk| desk.given.clone()).collect();
        for stamp in &stamps {
            if let Some(&seq) = kept.get(&stamp.shard).filter(|seq| **seq >= stamp.seq) {
                let before = Stamp { seq, ..*stamp };
                return Err(Violation::StampsDescend(before, *stamp).into());
            }
        }
        Ok(stamps)
    }

    /// Where the next batch of a shard will probably stand: where the last one on the disk ends.
    pub(crate) fn next_place(&self, shard: u16) -> (ShardId, BatchSpot) {
        let shard = ShardId(shard % u16::try_from(self.desks.len()).unwrap_or(1));
        let anatomy = Anatomy::of(&self.disk);
        let spot = anatomy.manifest().and_then(|manifest| {
            let current = manifest.shard(shard)?.current?;
            let first = (current.first_segment, current.first_batch);
            let chain = anatomy.chain(manifest.log, shard, manifest.incarnation, first, None);
            Some(chain.last().map_or((first.0, HEADER_BLOCKS), |last| {
                let blocks = u32::try_from(last.header.block_count()).unwrap_or(1);
                (last.segment, last.header.block + blocks)
            }))
        });
        (shard, spot.unwrap_or((SegmentNumber(1), HEADER_BLOCKS)))
    }

    /// An idle log has vouched for everything.
    pub(crate) fn check_vouched(&self) -> Result<(), Finding> {
        let anatomy = Anatomy::of(&self.disk);
        for desk in &self.desks {
            anatomy.check_vouched(desk.shard, desk.acknowledged, self.committed)?;
        }
        Ok(())
    }

    /// The disk has so many KiB more than are taken.
    pub(crate) fn set_room(&self, room: Option<u16>) {
        self.disk.set_capacity(room.map(|room| self.disk.used() + (u64::from(room) << 10)));
    }
}
