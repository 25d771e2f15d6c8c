//! Going through a history: lives of the engine on one disk, with the ledger beside it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use corewal::{Log, OpenError, Policy, Reason, RecoverError, Recovery, Seq, ShardId, Stamp};
use corewal_disk::Disk;
use corewal_disk::sim::{Cut, SimDisk};

use crate::sim::anatomy::{Anatomy, Seals};
use crate::sim::appending::GroupWay;
use crate::sim::damage::{self, Damage};
use crate::sim::history::{CutPlan, End, Geometry, History, Keep, Lie, LifePlan, Op};
use crate::sim::payload::{image, payload};
use crate::sim::reading::{Unread, read};
use crate::sim::session::{Excuses, Session, Stop};
use crate::sim::{DIR, Finding};
use crate::{Ledger, Recovered, Rng, Violation};

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ways of events up to a power cut, a kill or a damage, each recovered and checked.
    pub histories: u64,
    /// Of these, damaged ones.
    pub damages: u64,
    /// Of these, those that had to be refused.
    pub refusals: u64,
    /// Lives.
    pub lives: u64,
    /// Of these, those in which recovery or opening was interrupted.
    pub interrupted: u64,
    /// Entries that were appended.
    pub entries: u64,
    /// Batches that were compared with what was known when they were sealed.
    pub anatomies: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.damages += other.damages;
        self.refusals += other.refusals;
        self.lives += other.lives;
        self.interrupted += other.interrupted;
        self.entries += other.entries;
        self.anatomies += other.anatomies;
    }
}

/// A disk with a log on it, and what must be on it.
#[derive(Debug)]
pub struct World {
    disk: Arc<SimDisk>,
    lie: Option<Lie>,
    ledger: Ledger,
    clock: u64,
    /// The last seq of each shard that a recovery has delivered.
    kept: BTreeMap<ShardId, Seq>,
    /// Stamps that were given out in the last life.
    given: Vec<Stamp>,
    payloads: u64,
    /// The disk may be full.
    is_limited: bool,
    tally: Tally,
}

impl World {
    /// A new disk.
    #[must_use]
    pub fn new(disk: SimDisk, lie: Option<Lie>) -> Self {
        Self {
            disk: Arc::new(disk),
            lie,
            ledger: Ledger::new(),
            clock: 0,
            kept: BTreeMap::new(),
            given: Vec::new(),
            payloads: 0,
            is_limited: false,
            tally: Tally::default(),
        }
    }

    /// A copy that goes its own way. Nobody has the log open in it.
    #[must_use]
    pub(crate) fn fork(&self, cut: &Cut) -> Self {
        Self {
            disk: Arc::new(self.disk.fork().power_cut(cut)),
            lie: self.lie,
            ledger: self.ledger.clone(),
            clock: self.clock,
            kept: self.kept.clone(),
            given: self.given.clone(),
            payloads: self.payloads,
            is_limited: self.is_limited,
            tally: Tally::default(),
        }
    }

    /// Goes through a whole history. A panic of the engine is a finding.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run(history: &History, lie: Option<Lie>) -> Result<Tally, Finding> {
        Self::run_traced(history, lie, 0).0
    }

    /// The same, and the last operations of the disk.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run_traced(
        history: &History,
        lie: Option<Lie>,
        trace_count: usize,
    ) -> (Result<Tally, Finding>, Vec<String>) {
        let mut world = Self::new(history.disk.disk(history.seed, lie, trace_count), lie);
        let result = catch_unwind(AssertUnwindSafe(|| world.go_through(history)));
        let result = result.unwrap_or_else(|panic| Err(Finding::Panicked(message(&*panic))));
        let trace = world.disk.trace().iter().map(ToString::to_string).collect();
        (result.map(|()| world.tally), trace)
    }

    fn go_through(&mut self, history: &History) -> Result<(), Finding> {
        for life in &history.lives {
            self.live(life)?;
        }
        let geometry = history.lives.last().map(|life| life.geometry.clone());
        self.finish(&geometry.unwrap_or_else(|| Geometry::small(1, corewal::SyncMethod::Dsync)))
    }

    /// What was gone through so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn disk(&self) -> &Arc<SimDisk> {
        &self.disk
    }

    /// Goes through lives until the power is cut, and leaves it at that. Whether all were gone through.
    pub(crate) fn go(&mut self, lives: &[LifePlan]) -> Result<bool, Finding> {
        for life in lives {
            match self.work(life, &mut None) {
                Ok(()) => {}
                Err(Stop::Found(finding)) => return Err(*finding),
                Err(Stop::Failed | Stop::Cut) => return Ok(false),
            }
            if self.disk.is_stopped() {
                return Ok(false);
            }
        }
        self.clock += 1;
        Ok(true)
    }

    fn inject(&self, life: &LifePlan) {
        self.disk.clear_faults();
        for fault in &life.faults {
            self.disk.inject(fault.fault());
        }
        if let Some(fault) = self.lie.and_then(Lie::fault) {
            self.disk.inject(fault);
        }
        if let Some(count) = life.crash_after {
            self.disk.crash_after(self.disk.operations() + count);
        }
    }

    /// One life: recover, open, do what is planned, end.
    fn live(&mut self, life: &LifePlan) -> Result<(), Finding> {
        self.tally.lives += 1;
        self.inject(life);
        let mut ending = life.end;
        let mut seals = None;
        match self.work(life, &mut seals) {
            Ok(()) => {}
            Err(Stop::Found(finding)) => return Err(*finding),
            // What failed is dropped, and the rest happens as planned.
            Err(Stop::Failed | Stop::Cut) => {}
        }
        self.clock += 1;
        if self.disk.is_stopped() && matches!(ending, End::Drop | End::Close) {
            ending = End::Cut(CutPlan::Drawn(self.clock));
        }
        for cut in &life.cuts {
            let mut other = self.fork(&cut.cut());
            other.disk.clear_faults();
            other.recover_only(&life.geometry)?;
            self.tally.histories += 1;
        }
        self.end(ending);
        self.disk.clear_faults();
        if let Some(seals) = &seals {
            self.tally.anatomies += 1;
            if self.lie.is_none() {
                Anatomy::of(&self.disk).check_seals(seals)?;
            }
        }
        if !life.damages.is_empty() && ending.cut().is_some() {
            self.damage(life)?;
        }
        Ok(())
    }

    fn end(&mut self, end: End) {
        self.disk = match end {
            End::Cut(cut) | End::CloseAndCut(cut) => Arc::new(self.disk.power_cut(&cut.cut())),
            End::Kill => Arc::new(self.disk.kill()),
            End::Drop | End::Close => Arc::clone(&self.disk),
        };
    }

    fn excuses(&mut self, life: &LifePlan) -> Excuses {
        self.is_limited |= life.ops.iter().any(|op| matches!(op, Op::Room(Some(_))));
        Excuses { faults: !life.faults.is_empty(), full: self.is_limited }
    }

    /// A killed process's lock is free when its last write has landed; waits for that on the disk's clock.
    fn await_lock(&self) {
        let path = format!("{DIR}/LOCK");
        if self.disk.visible(&path).is_none() {
            return;
        }
        for _ in 0..10_000 {
            match self.disk.lock(path.as_ref(), "harness") {
                Ok(Err(_)) => {}
                Ok(Ok(_)) | Err(_) => return,
            }
        }
    }

    /// Recovers, compares with the ledger, and goes on from there.
    fn recover(&mut self, geometry: &Geometry, excuses: Excuses) -> Result<Recovery, Stop> {
        self.await_lock();
        let mut recovery = match Log::recover(geometry.options(&self.disk)) {
            Ok(recovery) => recovery,
            Err(error) => return Err(self.refused(&error, excuses)),
        };
        let found = match read(&mut recovery) {
            Ok(found) => found,
            Err(Unread::Refused(error)) => return Err(self.refused(&error, excuses)),
            Err(Unread::Broken(violation)) => return Err(Finding::from(violation).into()),
        };
        self.clock += 1;
        self.tally.histories += 1;
        self.ledger.check(&found, self.clock).map_err(Finding::from)?;
        self.ledger = self.ledger.after(&found, self.clock);
        for item in &found.items {
            let last = self.kept.entry(item.stamp.shard).or_default();
            *last = item.stamp.seq.max(*last);
        }
        self.check_again(geometry, &found, &recovery)?;
        self.found(found);
        Ok(recovery)
    }

    /// The recovery leaves out what is above the committed epoch, and nothing else.
    fn leave_out(&mut self, recovery: Recovery, excuses: Excuses) -> Result<Recovery, Stop> {
        let mut recovery = recovery.committed_only();
        let left = match read(&mut recovery) {
            Ok(left) => left,
            Err(Unread::Refused(error)) => return Err(self.refused(&error, excuses)),
            Err(Unread::Broken(violation)) => return Err(Finding::from(violation).into()),
        };
        let kept = self.ledger.kept();
        let expected = kept.iter().filter(|item| item.stamp.epoch <= left.committed);
        if !left.items.iter().eq(expected.copied()) {
            let what = format!("{} committed entries", left.items.len());
            return Err(Finding::Broken(Violation::Differs(what)).into());
        }
        let mut above: BTreeMap<ShardId, Seq> =
            kept.iter().map(|item| (item.stamp.shard, Seq(0))).collect();
        for item in &left.items {
            above.insert(item.stamp.shard, item.stamp.seq);
        }
        self.given
            .extend(kept.iter().map(|item| item.stamp).filter(|it| it.epoch > left.committed));
        self.clock += 1;
        self.ledger.may_void(self.clock, above);
        Ok(recovery)
    }

    fn found(&mut self, found: Recovered) {
        self.given.retain(|stamp| !found.items.iter().any(|item| item.stamp == *stamp));
    }

    /// A reader beside the recovery sees the same.
    fn check_again(
        &self,
        geometry: &Geometry,
        found: &Recovered,
        recovery: &Recovery,
    ) -> Result<(), Stop> {
        if recovery.report().log.is_none() || !self.clock.is_multiple_of(4) {
            return Ok(());
        }
        if let Ok(again) = self.read_beside(geometry)
            && again != *found
        {
            let what = format!("{} and {} entries", found.items.len(), again.items.len());
            return Err(Finding::Broken(Violation::Differs(what)).into());
        }
        Ok(())
    }

    fn read_beside(&self, geometry: &Geometry) -> Result<Recovered, Unread> {
        let mut reader = Log::read(geometry.options(&self.disk)).map_err(Unread::Refused)?;
        read(&mut reader)
    }

    fn refused(&self, error: &RecoverError, excuses: Excuses) -> Stop {
        if self.disk.is_stopped() {
            return Stop::Cut;
        }
        let is_excused = match error {
            RecoverError::Io(_) => true,
            RecoverError::Damaged(damage) => matches!(damage.reason, Reason::Unreadable(_)),
            _ => false,
        };
        // A log that is not there yet needs room; one that is there opens without.
        let needs_room = excuses.full && Anatomy::of(&self.disk).manifest().is_none();
        if is_excused && (excuses.faults || needs_room) {
            return Stop::Failed;
        }
        Finding::Refused(error.to_string()).into()
    }

    /// What happens in a life before its end.
    fn work(&mut self, life: &LifePlan, seals: &mut Option<Seals>) -> Result<(), Stop> {
        let excuses = self.excuses(life);
        let opened = self.open(&life.geometry, life.keep, excuses);
        if opened.is_err() {
            self.tally.interrupted += 1;
        }
        let log = opened?;
        let disk = Arc::clone(&self.disk);
        let lost = std::mem::take(&mut self.given);
        let (kept, lie) = (self.kept.clone(), self.lie);
        let mut payloads = self.payloads;
        let mut entries = 0;
        let mut session = Session::start(log, disk, &mut self.ledger, &mut self.clock, excuses)?;
        if lie.is_none() {
            check_standing(&session.log, &lost, &kept)?;
        }
        let mut result = Ok(());
        for &op in &life.ops {
            result = act(&mut session, op, life, &mut payloads, &mut entries);
            if result.is_err() {
                break;
            }
        }
        let given = session.given(&kept);
        let (noted, ended) = if result.is_ok() && life.end.closes() {
            session.close()
        } else {
            (session.into_seals(), result)
        };
        *seals = Some(noted);
        self.payloads = payloads;
        self.tally.entries += entries;
        self.given = given.map_err(|finding| Stop::Found(Box::new(finding)))?;
        ended
    }

    fn open(&mut self, geometry: &Geometry, keep: Keep, excuses: Excuses) -> Result<Log, Stop> {
        let mut recovery = self.recover(geometry, excuses)?;
        if keep == Keep::Committed {
            recovery = self.leave_out(recovery, excuses)?;
        }
        let log = match recovery.open() {
            Ok(log) => log,
            Err(OpenError::Recover(error)) => return Err(self.refused(&error, excuses)),
            Err(error) => return Err(Finding::Stuck(error.to_string()).into()),
        };
        self.clock += 1;
        if keep == Keep::Committed {
            self.ledger.voided(self.clock);
        }
        self.ledger.opened(self.clock, log.incarnation(), geometry.shards);
        Ok(log)
    }

    /// Recovers, compares, and leaves it at that; of a copy.
    pub(crate) fn recover_only(&mut self, geometry: &Geometry) -> Result<(), Finding> {
        let excuses = Excuses { faults: false, full: self.is_limited };
        match self.recover(geometry, excuses) {
            Ok(_) => Ok(()),
            Err(Stop::Found(finding)) => Err(*finding),
            Err(stop) => Err(Finding::Stuck(format!("{stop:?}"))),
        }
    }

    /// On a sound disk the log opens, takes entries on every shard, commits an epoch, closes, and has it all.
    pub(crate) fn finish(&mut self, geometry: &Geometry) -> Result<(), Finding> {
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        self.is_limited = false;
        if let Some(fault) = self.lie.and_then(Lie::fault) {
            self.disk.inject(fault);
        }
        let shards = geometry.shards;
        let mut ops = vec![Op::Prepare];
        ops.extend((0..shards).map(|shard| Op::Append(shard, 100)));
        ops.extend([Op::RequestEpoch]);
        ops.extend((0..shards).map(Op::Sleep));
        ops.extend((0..shards).map(Op::Sync));
        let life = LifePlan {
            geometry: geometry.clone(),
            faults: Vec::new(),
            crash_after: None,
            keep: Keep::All,
            ops,
            end: End::CloseAndCut(CutPlan::Nothing),
            cuts: Vec::new(),
            damages: Vec::new(),
        };
        self.live(&life)?;
        self.recover_only(geometry)
    }

    /// Damages copies of what is left, and compares what comes of it with what must.
    fn damage(&mut self, life: &LifePlan) -> Result<(), Finding> {
        let before = Anatomy::of(&self.disk);
        if before.manifest().is_none() {
            return Ok(());
        }
        let undamaged = {
            let other = self.disk.fork().power_cut(&Cut::keep_all());
            let mut recovery = Log::recover(life.geometry.options(&Arc::new(other)))
                .map_err(|error| Finding::Refused(error.to_string()))?;
            read(&mut recovery).map_err(|_| Finding::Refused("while reading".into()))?
        };
        for &seed in &life.damages {
            let mut rng = Rng::new(seed);
            let count = if rng.chance(80) { 1 } else { 2 };
            let damages = Damage::draw_some(&before, count, &mut rng);
            if damages.is_empty() {
                continue;
            }
            let other = Arc::new(self.disk.fork().power_cut(&Cut::keep_all()));
            damages.iter().for_each(|damage| damage.apply(&other));
            let after = Anatomy::of(&other);
            let expected = damage::expected(&before, &after, &damages);
            self.tally.histories += 1;
            self.tally.damages += 1;
            self.tally.refusals += u64::from(matches!(expected, damage::Expected::Refused(_)));
            let outcome = match Log::recover(life.geometry.options(&other)) {
                Err(error) => Err(error),
                Ok(mut recovery) => match read(&mut recovery) {
                    Ok(found) => Ok(found),
                    Err(Unread::Refused(error)) => Err(error),
                    Err(Unread::Broken(violation)) => return Err(violation.into()),
                },
            };
            damage::check(&before, expected, &damages, &undamaged, outcome)?;
        }
        Ok(())
    }
}

/// Does one thing with an open log.
fn act(
    session: &mut Session<'_>,
    op: Op,
    life: &LifePlan,
    payloads: &mut u64,
    entries: &mut u64,
) -> Result<(), Stop> {
    let mut append = |session: &mut Session<'_>, shard, bytes: Vec<u8>| {
        *payloads += 1;
        *entries += 1;
        session.append(shard, &bytes).map(|_| ())
    };
    match op {
        Op::Append(shard, len) => {
            let bytes = payload(session.number(), usize::from(len).min(life.geometry.max_record()));
            append(session, shard, bytes)
        }
        Op::AppendImage(shard) => {
            let bytes = image(session, &life.geometry, shard);
            append(session, shard, bytes)
        }
        Op::Group(shard, count, len) | Op::Transaction(shard, count, len) => {
            let way = match op {
                Op::Group(..) => GroupWay::Batch,
                _ => GroupWay::Transaction,
            };
            let numbers = (session.number() << 8)..;
            let bytes: Vec<Vec<u8>> = numbers
                .take(usize::from(count))
                .map(|number| payload(number, usize::from(len).min(life.geometry.max_record())))
                .collect();
            *payloads += u64::from(count);
            *entries += u64::from(count);
            session.append_group(shard, &bytes, way).map(|_| ())
        }
        Op::Turn(shard) => session.turn(shard).map(|_| ()),
        Op::Sleep(shard) => session.sleep(shard),
        Op::Sync(shard) => session.sync(shard),
        Op::Wait(shard) => session.wait(shard),
        Op::CloseEpoch(shard) => session.close_epoch(shard),
        Op::RequestEpoch => session.request_epoch(),
        Op::Vouch(shard) => session.vouch(shard),
        Op::Idle => {
            // Under another policy a shard with unsynced batches is not idle.
            if session.idle()? && life.geometry.policy == Policy::EveryBatch {
                session.check_vouched()?;
            }
            Ok(())
        }
        Op::Prepare => session.prepare(),
        Op::Rotate(shard) => {
            let bytes = payload(session.number(), life.geometry.max_record() / 2);
            session.rotate(shard, &bytes)
        }
        Op::Truncate(shard, back) => session.truncate(shard, usize::from(back)),
        Op::Observe(shard, other, jump) => session.observe(shard, other, jump),
        Op::Advance(time) => {
            session.advance(Duration::from_micros(u64::from(time)));
            Ok(())
        }
        Op::Read => {
            session.read_beside(&life.geometry)?;
            session.read_tails(&life.geometry)
        }
        Op::Room(room) => {
            session.set_room(room);
            Ok(())
        }
        Op::Checkpoint(back) => session.checkpoint(back),
        Op::CheckpointAhead => session.checkpoint_ahead(),
        Op::ReleaseBefore(shard, part) => session.release_before(shard, part),
        Op::State(shard) => session.append_state(shard),
        Op::ReleaseTo(shard) => session.release_to(shard),
        Op::Pin(shard, what) => session.pin(shard, what),
        Op::Unpin => {
            session.unpin();
            Ok(())
        }
        Op::Switch(method) => {
            session.log.switch_sync_method(method);
            Ok(())
        }
        Op::CloseWriter(shard) => session.close_writer(shard),
        Op::DropWriter(shard) => {
            session.drop_writer(shard);
            Ok(())
        }
    }
}

/// What the log answers about entries of earlier lives.
fn check_standing(log: &Log, lost: &[Stamp], kept: &BTreeMap<ShardId, Seq>) -> Result<(), Finding> {
    for &stamp in lost.iter().rev().take(3) {
        let standing = log.standing(stamp);
        if standing == corewal::Standing::Durable && kept.contains_key(&stamp.shard) {
            return Err(Finding::Standing(stamp, format!("{standing:?}, and it was lost")));
        }
    }
    Ok(())
}

pub(crate) fn message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (None, Some(message)) => message.clone(),
        (None, None) => "of an unknown kind".to_owned(),
    }
}
