//! A job: a workload on so many cores, in a place. It begins, goes on and ends by the same call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use corewal::{Epoch, Log, Options, Policy};

use crate::checkpoint::{Checkpoint, CheckpointRule, Keeper};
use crate::core::{Core, CoreSeat, Gauge, Polled, Stage};
use crate::error::JobError;
use crate::exchange::mesh;
use crate::journal::SCHEMA;
use crate::pace::Pace;
use crate::place::Place;
use crate::resume::Restored;
use crate::snapshot;
use crate::source::Sources;
use crate::throttle::Throttle;
use crate::workload::Workload;

/// How long an idle core sleeps at first, and at most.
const NAP: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));

/// How often in an epoch a core logs what has changed.
const EARLY_WRITES: u64 = 4;

/// What a job does with its epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is logged, and nothing can be resumed: what the log costs shows beside it.
    Off,
    /// The log is synced at this interval.
    Interval(Duration),
    /// Every batch of the log is durable as soon as it is written.
    EveryEpoch,
}

/// A moment in the life of a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// The log and the snapshots are about to be read.
    Recovering,
    /// State, sources and output are at the last committed epoch.
    Recovered(Recovered),
    /// The state of this epoch is about to be stored.
    Checkpoint(Epoch),
    /// The log may let go of everything up to this epoch.
    Checkpointed(Epoch),
}

/// Is told of every [`Phase`], on the thread where it happens.
pub type Observer = Arc<dyn Fn(Phase) + Send + Sync>;

/// What a job goes on from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// The last committed epoch; 0 for a new job.
    pub committed: Epoch,
    /// The epoch of the checkpoint that was loaded; 0 for none.
    pub checkpoint: Epoch,
    /// Pieces of state that were put back: of snapshots and of the log.
    pub changes: u64,
    /// Events that need not be read again.
    pub events: u64,
    /// How long it took.
    pub took: Duration,
}

/// What a job has done, from its resumption to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Events that were read.
    pub events: u64,
    /// Events that came too late and were left out.
    pub late: u64,
    /// Wall-clock time, without the recovery.
    pub took: Duration,
}

/// A workload on so many cores, in a place.
///
/// ```
/// use std::sync::Arc;
///
/// use corewal::RealDisk;
/// use corewal_stream::{Flights, Job, Place, collect};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let place = Place::new(Arc::new(RealDisk::new()), dir.path().join("flights"));
/// let summary = Job::new(Flights::new(20_000), place.clone()).cores(2).run()?;
/// assert_eq!((summary.events, summary.late), (20_000, 0));
/// let output = String::from_utf8(collect(&place)?)?;
/// assert!(output.starts_with("2001-01-01 00:00\t"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Job<W: Workload> {
    workload: W,
    place: Place,
    log: Options,
    cores: u16,
    durability: Durability,
    epoch_events: u64,
    checkpoint_epochs: u64,
    rate: Option<f64>,
    observer: Observer,
}

impl<W: Workload> Job<W> {
    /// One core, an epoch for every 10,000 events, a checkpoint for every 16 epochs, as fast as it can.
    #[must_use]
    pub fn new(workload: W, place: Place) -> Self {
        let log = Options::new(place.log())
            .disk(place.disk.clone())
            .segment_len(8 << 20)
            .max_batch(4 << 20)
            .max_record(2 << 20);
        Self {
            workload,
            place,
            log,
            cores: 1,
            durability: Durability::EveryEpoch,
            epoch_events: 10_000,
            checkpoint_epochs: 16,
            rate: None,
            observer: Arc::new(|_| ()),
        }
    }

    /// On so many cores. A job may go on with another number than it began with.
    #[must_use]
    pub fn cores(mut self, cores: u16) -> Self {
        self.cores = cores;
        self
    }

    /// What is done for durability.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How many events of all cores make an epoch.
    #[must_use]
    pub fn epoch_events(mut self, events: u64) -> Self {
        self.epoch_events = events;
        self
    }

    /// How many epochs make a checkpoint.
    #[must_use]
    pub fn checkpoint_epochs(mut self, epochs: u64) -> Self {
        self.checkpoint_epochs = epochs;
        self
    }

    /// At most so many events a second, of all cores together.
    #[must_use]
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Who is told of phases.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Changes how the log is opened.
    #[must_use]
    pub fn log(mut self, change: impl FnOnce(Options) -> Options) -> Self {
        self.log = change(self.log);
        self
    }

    /// Runs the job to its end: from the beginning, or from where it was when it ended early.
    ///
    /// # Errors
    /// [`JobError`]. What was committed is not lost.
    pub fn run(&self) -> Result<Summary, JobError> {
        self.resume()?.run()
    }

    /// Recovers, and gives the cores' seats. Nothing runs yet.
    ///
    /// # Errors
    /// [`JobError`].
    pub fn resume(&self) -> Result<Resumed<W>, JobError> {
        if self.cores == 0 || self.epoch_events == 0 || self.checkpoint_epochs == 0 {
            return Err(JobError::Options("cores, events of an epoch and epochs are at least 1"));
        }
        let started = Instant::now();
        self.place.create()?;
        let mut restored = Restored::new(&self.workload, usize::from(self.cores));
        let (log, mut recovered) = match self.durability {
            Durability::Off => {
                restored.open_sinks(&self.place, self.cores, None)?;
                (None, Recovered::default())
            }
            Durability::Interval(interval) => {
                self.recover(&mut restored, Policy::Interval(interval))?
            }
            Durability::EveryEpoch => self.recover(&mut restored, Policy::EveryBatch)?,
        };
        recovered.changes = restored.changes;
        recovered.events = restored.offsets.values().map(|offset| offset.0).sum();
        recovered.took = started.elapsed();
        let resumed = self.seat(restored, log, recovered.clone())?;
        (self.observer)(Phase::Recovered(recovered));
        Ok(resumed)
    }

    /// The order matters: judge, leave out what was not committed, load the snapshot, apply what the log has
    /// above it. Only then is the log opened, which makes it final that the rest is given up.
    fn recover(
        &self,
        restored: &mut Restored<W>,
        policy: Policy,
    ) -> Result<(Option<Log>, Recovered), JobError> {
        (self.observer)(Phase::Recovering);
        let options = self.log.clone().shards(self.cores).schema(SCHEMA).policy(policy);
        let mut recovery = Log::recover(options)?.committed_only();
        let committed = recovery.report().committed_epoch;
        let checkpoint = match recovery.checkpoint() {
            Some(it) => Some((it.epoch, Checkpoint::from_bytes(&it.bytes)?)),
            None => None,
        };
        if let Some((epoch, checkpoint)) = &checkpoint {
            restored.load(&self.place, *epoch, checkpoint)?;
            recovery = recovery.above(*epoch)?;
        }
        let checkpoint = checkpoint.as_ref().map(|(epoch, checkpoint)| (*epoch, checkpoint));
        restored.open_sinks(&self.place, self.cores, checkpoint)?;
        restored.replay(&mut recovery)?;
        let log = recovery.open()?;
        let checkpoint = checkpoint.map_or(Epoch(0), |(epoch, _)| epoch);
        // Those of a checkpoint that a crash kept from being recorded.
        snapshot::remove_others(&self.place, checkpoint)?;
        Ok((Some(log), Recovered { committed, checkpoint, ..Recovered::default() }))
    }

    /// Deals state, sources and output out to the cores.
    fn seat(
        &self,
        mut restored: Restored<W>,
        mut log: Option<Log>,
        recovered: Recovered,
    ) -> Result<Resumed<W>, JobError> {
        let cores = usize::from(self.cores);
        let seats = log.as_mut().map(Log::take_seats).unwrap_or_default();
        let log = log.map(Arc::new);
        let mut seats = seats.into_iter();
        let pace = Arc::new(Pace::new(self.epoch_events, cores));
        let (sender, inbox) = mpsc::channel();
        let (sinks, settled) = restored.part_sinks(self.cores)?;
        let stages = wire::<W>(std::mem::take(&mut restored.chains), restored.watermark);
        let core = |(index, (stages, sink))| CoreSeat {
            index,
            seat: seats.next().zip(log.clone()),
            sources: Sources::deal(
                &self.workload,
                usize::from(index),
                cores,
                &restored.offsets,
                restored.watermark,
            ),
            stages,
            sink,
            pace: Arc::clone(&pace),
            gauge: Arc::new(Gauge::default()),
            throttle: Throttle::new(self.rate.map(|rate| rate / f64::from(self.cores))),
            checkpoints: match log {
                Some(_) => CheckpointRule::OneOf(self.checkpoint_epochs),
                None => CheckpointRule::Never,
            },
            early_events: (self.epoch_events / u64::from(self.cores) / EARLY_WRITES).max(1),
            pieces: sender.clone(),
        };
        let cores: Vec<_> = (0..).zip(stages.into_iter().zip(sinks)).map(core).collect();
        let keeper = Keeper {
            log: log.clone(),
            place: self.place.clone(),
            cores: self.cores,
            settled,
            observer: Arc::clone(&self.observer),
            inbox,
            pieces: BTreeMap::new(),
        };
        Ok(Resumed { cores, keeper, log, pace, recovered })
    }
}

/// Puts an exchange between each two operators of the chains.
fn wire<W: Workload>(chains: Vec<crate::Chain<W>>, watermark: crate::Time) -> Vec<Vec<Stage<W>>> {
    let count = chains.first().map_or(0, Vec::len);
    let stage = |operator| Stage { operator, inbox: None, outbox: None, lines: Vec::new() };
    let mut cores: Vec<Vec<Stage<W>>> =
        chains.into_iter().map(|chain| chain.into_iter().map(stage).collect()).collect();
    for index in 1..count {
        let ends = mesh(cores.len(), watermark);
        for (stages, (outbox, inbox)) in cores.iter_mut().zip(ends) {
            stages[index - 1].outbox = Some(outbox);
            stages[index].inbox = Some(inbox);
        }
    }
    // What is late is late again.
    cores.iter_mut().flatten().for_each(|stage| stage.watermark(watermark));
    cores
}

/// A job that can go on.
pub struct Resumed<W: Workload> {
    cores: Vec<CoreSeat<W>>,
    keeper: Keeper,
    log: Option<Arc<Log>>,
    pace: Arc<Pace>,
    recovered: Recovered,
}

impl<W: Workload> Resumed<W> {
    /// What it goes on from.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What can be seen of each core while it runs.
    #[must_use]
    pub fn gauges(&self) -> Vec<Arc<Gauge>> {
        self.cores.iter().map(|core| Arc::clone(&core.gauge)).collect()
    }

    /// The parts, for a program that drives them itself: the cores, what makes their checkpoints, and the log.
    #[must_use]
    pub fn into_parts(self) -> (Vec<CoreSeat<W>>, Keeper, Option<Arc<Log>>) {
        (self.cores, self.keeper, self.log)
    }

    /// Runs every core on a pinned thread of its own until the job has ended.
    ///
    /// # Errors
    /// The first [`JobError`] of any core. What was committed is not lost.
    ///
    /// # Panics
    /// If the system starts no more threads.
    pub fn run(self) -> Result<Summary, JobError> {
        let started = Instant::now();
        let gauges = self.gauges();
        let Self { cores, keeper, log, pace, .. } = self;
        let outcomes = thread::scope(|scope| {
            let pace = &pace;
            let keeper = thread::Builder::new()
                .name("keeper".into())
                .spawn_scoped(scope, move || keeper.run().inspect_err(|_| pace.halt()))
                .expect("the system starts a thread");
            let threads: Vec<_> = cores
                .into_iter()
                .map(|core| {
                    thread::Builder::new()
                        .name(format!("core-{}", core.index))
                        .spawn_scoped(scope, move || drive(core).inspect_err(|_| pace.halt()))
                        .expect("the system starts a thread")
                })
                .collect();
            let mut outcomes: Vec<Result<(), JobError>> = (0..)
                .zip(threads)
                .map(|(index, thread)| thread.join().unwrap_or(Err(JobError::Panicked(index))))
                .collect();
            outcomes.push(keeper.join().unwrap_or(Err(JobError::Keeper)));
            outcomes
        });
        // The cause, not what followed from it.
        let mut errors: Vec<JobError> = outcomes.into_iter().filter_map(Result::err).collect();
        errors.sort_by_key(|error| matches!(error, JobError::Halted));
        if let Some(first) = errors.into_iter().next() {
            return Err(first);
        }
        if let Some(log) = log.and_then(Arc::into_inner) {
            log.close()?;
        }
        let sum = |of: fn(&Gauge) -> u64| gauges.iter().map(|gauge| of(gauge)).sum();
        Ok(Summary {
            events: sum(|gauge| gauge.read.load(Ordering::Relaxed)),
            late: sum(|gauge| gauge.late.load(Ordering::Relaxed)),
            took: started.elapsed(),
        })
    }
}

/// The loop of a core's thread.
fn drive<W: Workload>(seat: CoreSeat<W>) -> Result<(), JobError> {
    if let Some(ids) = core_affinity::get_core_ids().filter(|ids| !ids.is_empty()) {
        // Only allowed CPUs are named. A job with more cores than CPUs shares them.
        core_affinity::set_for_current(ids[usize::from(seat.index()) % ids.len()]);
    }
    let mut core: Core<W> = seat.sit()?;
    let mut nap = NAP.0;
    loop {
        match core.poll()? {
            Polled::Busy => nap = NAP.0,
            Polled::Idle => {
                core.sleep(nap)?;
                nap = (nap * 2).min(NAP.1);
            }
            Polled::Finished => return core.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flights::Flights;
    use crate::source::{Offset, Partition};
    use crate::time::Time;

    #[test]
    fn what_was_late_before_a_crash_is_late_after_it() {
        let workload = Flights::new(100);
        let (time, flight) = workload.read(Partition(0), Offset(0)).next().expect("a flight");
        for (watermark, late) in [(Time::START, 0), (time, 0), (Time(time.0 + 3_600_000), 1)] {
            let mut cores = wire::<Flights>(vec![workload.chain()], watermark);
            let stage = &mut cores[0][1];
            stage.event(flight);
            assert_eq!(stage.operator.late(), late, "with the watermark at {watermark}");
        }
    }
}
