//! Taking the steps of a trace with the engine, and comparing what shows.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use corewal::{
    AccessWish, Epoch, Kind, Log, Options, Preparing, RecoverError, Recovery, Standing, SyncMethod,
};
use corewal_disk::sim::{Cut, Fate, Fault, FaultKind, SimDisk, SimOptions, Tear, UnitKind};
use corewal_model::{
    Action, Damage, Fate as ModelFate, Opening, Outcome, Piece, Progress, Shape, Shown, Trace,
};

use super::End;
use super::desk::{Desk, Spot, payload, stamp};
use super::gate::{Gate, StopAt};
use crate::Recovered;
use crate::sim::{DIR, Unread, read};

/// Two sectors, so that the body of a batch can be torn off its header.
const BLOCK: u32 = 1024;

/// Nobody vouches but when the trace says so.
const NEVER: Duration = Duration::from_secs(100_000 * 86_400);

/// What is different.
#[derive(Debug)]
pub(super) struct Wrong(pub(super) String);

impl Wrong {
    pub(super) fn of(error: impl fmt::Display) -> Self {
        Self(format!("the engine says: {error}"))
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, engine: T, model: T) -> Result<(), Wrong> {
    if engine == model {
        return Ok(());
    }
    Err(Wrong(format!("{what}: {engine:?} of the engine, {model:?} of the model")))
}

/// What a manifest that is about to be written is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Create { generation: u8 },
    Open,
    Close,
}

/// A disk on which a trace is replayed.
pub(super) struct Player {
    shape: Shape,
    disk: Arc<SimDisk>,
    gate: Arc<Gate>,
    recovery: Option<Recovery>,
    desk: Option<Desk>,
    job: Option<Job>,
    is_renamed: bool,
    /// How the next recovery opens the log.
    opening: Opening,
    /// Where the batches of the model stand, by shard, segment and block.
    spots: BTreeMap<(u8, u8, u8), Spot>,
    /// Pieces of which the model says nothing are kept, or lost.
    keeps_rest: bool,
}

impl Player {
    /// The disk that all traces of a shape start on.
    ///
    /// # Errors
    /// The engine does not even create a log.
    pub(super) fn start(shape: Shape) -> Result<Self, Wrong> {
        let disk = SimDisk::with(SimOptions::new(1).by_hand().trace_count(0));
        let mut player = Self::on(disk, shape);
        if !shape.starts_empty {
            // Creation, up to its second manifest.
            player.opening = Opening { shards: 1, bound: 1, committed_only: false };
            player.recovery = Some(player.recover().map_err(Wrong::of)?);
            player.job = Some(Job::Create { generation: 2 });
            player.finish_job()?;
        }
        Ok(player)
    }

    fn on(disk: SimDisk, shape: Shape) -> Self {
        let disk = Arc::new(disk);
        Self {
            shape,
            gate: Arc::new(Gate::new(Arc::clone(&disk))),
            disk,
            recovery: None,
            desk: None,
            job: None,
            is_renamed: false,
            opening: Opening { shards: 1, bound: 1, committed_only: false },
            spots: BTreeMap::new(),
            keeps_rest: false,
        }
    }

    /// Replays a trace on a copy of this disk.
    ///
    /// # Errors
    /// The step, from 1, and what was different.
    pub(super) fn play(&self, trace: &Trace, number: usize) -> Result<End, (usize, String)> {
        let copy = self.disk.fork().power_cut(&Cut::lose_all());
        let mut player = Self::on(copy, self.shape);
        player.keeps_rest = number % 2 == 1;
        let mut end = End::Recovered;
        for (index, step) in trace.steps.iter().enumerate() {
            let before = index.checked_sub(1).map(|index| &trace.steps[index].shown);
            let taken = AssertUnwindSafe(|| player.take(&step.action, &step.shown, before));
            let taken = catch_unwind(taken)
                .unwrap_or_else(|panic| Err(Wrong(crate::sim::message(&*panic))));
            match taken {
                Ok(Reached::Here(reached)) => end = reached,
                Ok(Reached::Not) => return Ok(End::OutOfReach),
                Err(Wrong(what)) => return Err((index + 1, what)),
            }
        }
        Ok(end)
    }

    fn desk(&mut self) -> Result<&mut Desk, Wrong> {
        self.desk.as_mut().ok_or_else(|| Wrong("the log is not open".into()))
    }

    fn take(
        &mut self,
        action: &Action,
        shown: &Shown,
        before: Option<&Shown>,
    ) -> Result<Reached, Wrong> {
        let last = shown.given.len().saturating_sub(1);
        match *action {
            Action::Append(shard) => {
                let given = self.desk()?.append(shard, last)?;
                same("the stamp", given, stamp(&shown.given[last]))?;
            }
            Action::Submit(shard) => self.submit(shard, shown)?,
            Action::CloseEpoch(shard) => {
                let epoch = self.desk()?.close_epoch(shard)?;
                same("the epoch", epoch, Epoch(shown.given[last].stamp.epoch.into()))?;
                self.submit(shard, shown)?;
            }
            Action::Vouch(shard) => {
                self.desk()?.vouch(shard)?;
                self.submit(shard, shown)?;
            }
            Action::Complete { shard, batch } => {
                self.desk()?.complete(shard, batch)?;
                if !self.shape.syncs {
                    self.check_frontier(shard, shown)?;
                }
            }
            Action::StartSync(shard) => self.desk()?.start_sync(shard)?,
            Action::EndSync(shard) => self.end_sync(shard, shown)?,
            Action::FailSync(shard) => {
                self.disk.inject(Fault::new(FaultKind::SyncError));
                let desk = self.desk()?;
                desk.land_sync(shard)?;
                desk.fail(shard)?;
                self.check_frontier(shard, shown)?;
            }
            Action::Publish => {
                let committed = self.desk()?.log.committed_epoch();
                same("the committed epoch", committed, Epoch(shown.committed.into()))?;
            }
            Action::Close => self.job = Some(Job::Close),
            Action::RenameManifest => self.is_renamed = true,
            Action::SyncDirectory => {
                self.finish_job()?;
                self.check_open(shown)?;
            }
            Action::PowerCut(ref fates) => self.power_cut(fates)?,
            Action::Kill(ref fates) => {
                let cut = self.cut(fates, Cut::lose_all())?;
                let next = self.disk.kill_with(&cut);
                self.go_on(next);
            }
            Action::Damage(damage) => return self.damage(damage),
            Action::Recover(opening) => {
                self.opening = opening;
                return self.check_recovery(shown, before).map(Reached::Here);
            }
            ref other => return Err(Wrong(format!("the engine cannot do this: {other}"))),
        }
        if let Some(desk) = &self.desk {
            desk.check_flights()?;
        }
        Ok(Reached::Here(End::Recovered))
    }

    fn submit(&mut self, shard: u8, shown: &Shown) -> Result<(), Wrong> {
        let writer = shown.writers[usize::from(shard)].as_ref();
        let batch = writer.and_then(|it| it.flight.last().copied());
        let batch = batch.ok_or_else(|| Wrong("the model has submitted nothing".into()))?;
        let spot = self.desk()?.submit(shard, batch)?;
        self.spots.insert((shard, batch.segment, batch.block), spot);
        Ok(())
    }

    fn end_sync(&mut self, shard: u8, shown: &Shown) -> Result<(), Wrong> {
        self.desk()?.land_sync(shard)?;
        let writer = shown.writers[usize::from(shard)].as_ref();
        let first = writer.and_then(|it| it.flight.first());
        let waits = first.is_some_and(|it| it.progress == Progress::Written);
        // With a write that waits for one, the next sync starts in the turn that reaps this one.
        if waits {
            return Ok(());
        }
        self.desk()?.turn(shard)?;
        self.check_frontier(shard, shown)
    }

    /// The frontier acknowledges exactly what the model has acknowledged.
    fn check_frontier(&mut self, shard: u8, shown: &Shown) -> Result<(), Wrong> {
        let frontier = self.desk()?.frontier(shard)?;
        for (id, given) in shown.given.iter().enumerate() {
            if given.stamp.shard == shard && given.incarnation == shown.incarnation {
                let what = format!("whether entry {} is acknowledged", id + 1);
                same(&what, stamp(given).seq <= frontier, shown.is_durable(id))?;
            }
        }
        Ok(())
    }

    /// What an open log shows: nothing was given out in it yet.
    fn check_open(&mut self, shown: &Shown) -> Result<(), Wrong> {
        let Some(desk) = &self.desk else { return Ok(()) };
        let log = &desk.log;
        same("the incarnation", log.incarnation().0, shown.incarnation.into())?;
        same("the committed epoch", log.committed_epoch().0, shown.committed.into())?;
        for (index, epoch) in desk.epochs() {
            let model = shown.writers[index].as_ref().map(|it| Epoch(it.epoch.into()));
            same("the open epoch", Some(epoch), model)?;
        }
        for (id, given) in shown.given.iter().enumerate() {
            let is_durable = log.standing(stamp(given)) == Standing::Durable;
            let what = format!("whether entry {} is durable", id + 1);
            same(&what, is_durable, shown.is_durable(id))?;
        }
        Ok(())
    }

    fn options(&self) -> Options {
        let (blocks, block) = (u64::from(self.shape.blocks), u64::from(BLOCK));
        let syncs = self.shape.syncs;
        Options::new(DIR)
            .disk(self.gate.clone())
            .preparing(Preparing::Manual)
            .shards(self.opening.shards.into())
            .block_len(BLOCK)
            .segment_len((blocks + 2) * block)
            .first_segment_len((blocks + 2) * block)
            .write_len(BLOCK as usize)
            .max_batch(BLOCK as usize)
            .max_record(800)
            .depth(self.shape.depth.into())
            .prepared_ahead(1)
            .pipeline_bound(self.opening.bound.into())
            .vouch_after(NEVER)
            // A failed sync leaves in the page cache what the device has lost.
            .access(if syncs { AccessWish::Buffered } else { AccessWish::Direct })
            .sync_method(if syncs { SyncMethod::AfterWrite } else { SyncMethod::Dsync })
    }

    fn recover(&self) -> Result<Recovery, RecoverError> {
        Log::recover(self.options())
    }

    /// Recovers, and compares what is found.
    fn check_recovery(&mut self, shown: &Shown, before: Option<&Shown>) -> Result<End, Wrong> {
        let outcome = shown.outcome.as_ref().ok_or_else(|| Wrong("no outcome".into()))?;
        let found = self.recover().and_then(|mut recovery| match read(&mut recovery) {
            Ok(found) => Ok(Ok((recovery, found))),
            Err(Unread::Refused(error)) => Err(error),
            Err(Unread::Broken(violation)) => Ok(Err(Wrong::of(violation))),
        });
        let (recovery, found) = match (found, outcome) {
            (Err(RecoverError::Io(error)), _) => return Err(Wrong::of(error)),
            (Err(_), Outcome::Refused) => return Ok(End::Refused),
            (Err(error), _) => return Err(Wrong(format!("the engine refuses: {error}"))),
            (Ok(_), Outcome::Refused) => return Err(Wrong("the engine does not refuse".into())),
            (Ok(found), _) => found?,
        };
        match outcome {
            Outcome::NoLog { next_generation } => {
                same("whether there is a log", recovery.report().log.is_some(), false)?;
                self.job = Some(Job::Create { generation: *next_generation });
            }
            Outcome::Recovered { entries, committed } => {
                same("whether there is a log", recovery.report().log.is_some(), true)?;
                let given = before.map_or(&shown.given, |it| &it.given);
                self.check_found(&found, entries, given, *committed)?;
                self.job = Some(Job::Open);
            }
            Outcome::Refused => {}
        }
        self.recovery = Some(recovery);
        Ok(End::Recovered)
    }

    fn check_found(
        &self,
        found: &Recovered,
        entries: &[u8],
        given: &[corewal_model::Given],
        committed: u8,
    ) -> Result<(), Wrong> {
        same("the committed epoch", found.committed, Epoch(committed.into()))?;
        let stamps: Vec<_> = found.items.iter().map(|item| item.stamp).collect();
        let expected = entries.iter().map(|id| stamp(&given[usize::from(*id)])).collect();
        same("the stream", stamps, expected)?;
        for (item, id) in found.items.iter().zip(entries) {
            let id = usize::from(*id);
            let is_barrier = given[id].barrier;
            same("whether it is a barrier", item.kind == Kind::BARRIER, is_barrier)?;
            let bytes = if is_barrier { Vec::new() } else { payload(self.shape, id) };
            same("the payload", &item.payload[..], &bytes[..])?;
        }
        let is_committed = |id: &&u8| given[usize::from(**id)].stamp.epoch <= committed;
        let count = entries.iter().filter(is_committed).count();
        same("how many are committed", found.committed_count, count)
    }

    /// The manifest that was renamed becomes durable, and takes effect.
    fn finish_job(&mut self) -> Result<(), Wrong> {
        self.is_renamed = false;
        match self.job.take() {
            Some(Job::Open) => {
                let recovery = self.recovery.take().ok_or_else(|| Wrong("no recovery".into()))?;
                let log = recovery.open().map_err(Wrong::of)?;
                self.desk = Some(Desk::start(log, Arc::clone(&self.disk), self.shape)?);
                Ok(())
            }
            Some(Job::Close) => match self.desk.take() {
                Some(desk) => desk.close(),
                None => Err(Wrong("the log is not open".into())),
            },
            Some(job @ Job::Create { .. }) => {
                // The engine creates and opens in one call: it is stopped behind this manifest.
                self.stop_in(job, StopAt::Durable)?;
                let next = self.disk.power_cut(&Cut::lose_all());
                self.go_on(next);
                Ok(())
            }
            None => Err(Wrong("no manifest is being written".into())),
        }
    }

    /// Writes a manifest until the disk stops.
    fn stop_in(&mut self, job: Job, at: StopAt) -> Result<(), Wrong> {
        let manifest = match job {
            Job::Create { generation } => generation,
            Job::Open | Job::Close => 1,
        };
        self.gate.stop(at, manifest);
        let went_through = match (job, self.recovery.take(), self.desk.take()) {
            (Job::Create { .. } | Job::Open, Some(recovery), _) => recovery.open().is_ok(),
            (Job::Close, _, Some(desk)) => desk.close().is_ok(),
            _ => return Err(Wrong("there is nobody to write a manifest".into())),
        };
        same("whether a stopped disk goes on", went_through || !self.disk.is_stopped(), false)
    }

    fn power_cut(&mut self, fates: &[(Piece, ModelFate)]) -> Result<(), Wrong> {
        if std::mem::take(&mut self.is_renamed)
            && let Some(job) = self.job.take()
        {
            self.stop_in(job, StopAt::Renamed)?;
        }
        let rest = if self.keeps_rest { Cut::keep_all() } else { Cut::lose_all() };
        let cut = self.cut(fates, rest)?;
        let next = self.disk.power_cut(&cut);
        self.go_on(next);
        Ok(())
    }

    /// What becomes of the pieces that the model names.
    fn cut(&self, fates: &[(Piece, ModelFate)], mut cut: Cut) -> Result<Cut, Wrong> {
        for &(piece, fate) in fates {
            let unit = match piece {
                Piece::Block { shard, segment, block } => {
                    self.spots.get(&(shard, segment, block)).map(|spot| spot.unit)
                }
                Piece::Manifest => self.renamed_unit(),
                Piece::Name { .. } | Piece::Header { .. } | Piece::Fill { .. } => None,
            };
            let unit =
                unit.ok_or_else(|| Wrong(format!("the engine has no such piece: {piece}")))?;
            let fate = match fate {
                ModelFate::Survives => Fate::Kept,
                ModelFate::Lost => Fate::Lost,
                ModelFate::Torn => Fate::Torn(Tear::First(1)),
                ModelFate::Late => return Err(Wrong("only without a rule".into())),
            };
            cut = cut.with(unit, fate);
        }
        Ok(cut)
    }

    fn renamed_unit(&self) -> Option<corewal_disk::sim::UnitId> {
        let manifest = format!("{DIR}/MANIFEST-");
        let is_manifest =
            |kind: &UnitKind| matches!(kind, UnitKind::Rename(to) if to.starts_with(&manifest));
        let units = self.disk.pending_units();
        units.iter().rev().find(|unit| is_manifest(&unit.kind)).map(|unit| unit.id)
    }

    /// The next life of the disk.
    fn go_on(&mut self, next: SimDisk) {
        (self.recovery, self.desk, self.job) = (None, None, None);
        self.disk = Arc::new(next);
        self.disk.clear_faults();
        self.gate = Arc::new(Gate::new(Arc::clone(&self.disk)));
    }

    /// The file of a segment: the numbers are the same as long as nothing is used again.
    fn segment(&self, shard: u8, segment: u8) -> String {
        let mut spots = self.spots.range((shard, segment, 0)..=(shard, segment, u8::MAX));
        match spots.next() {
            Some((_, spot)) => spot.path.to_string(),
            None => format!("{DIR}/shard-{shard:04}/{segment:010}.seg"),
        }
    }

    fn damage(&self, damage: Damage) -> Result<Reached, Wrong> {
        let flip = |path: &str, at: u64| self.disk.corrupt(path, at, 0xff);
        let manifest = |slot: u8| format!("{DIR}/MANIFEST-{slot}");
        let path = match damage {
            Damage::Batch { shard, segment, .. }
            | Damage::BothHeaderCopies { shard, segment }
            | Damage::FileGone { shard, segment } => self.segment(shard, segment),
            Damage::ManifestBroken { slot } | Damage::ManifestGone { slot } => manifest(slot),
        };
        if self.disk.visible(&path).is_none() {
            return Ok(Reached::Not);
        }
        let done = match damage {
            Damage::Batch { shard, segment, block } => {
                match self.spots.get(&(shard, segment, block)) {
                    Some(spot) => flip(&spot.path, spot.at),
                    None => return Err(Wrong("the engine has no such batch".into())),
                }
            }
            Damage::BothHeaderCopies { .. } => {
                flip(&path, 20).and_then(|()| flip(&path, u64::from(BLOCK) + 20))
            }
            Damage::ManifestBroken { .. } => flip(&path, 20),
            Damage::FileGone { .. } | Damage::ManifestGone { .. } => self.disk.lose(&path),
        };
        done.map_err(Wrong::of)?;
        Ok(Reached::Here(End::Recovered))
    }
}

/// Where a step has led.
enum Reached {
    Here(End),
    /// The engine has put the file to another use that was to be damaged.
    Not,
}
