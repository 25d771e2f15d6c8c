//! A run of the engine on a real disk, recorded.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corewal::{
    AppendError, Epoch, Kind, Log, RecoverError, Seat, Seq, ShardStats, ShardWriter, Turn,
};
use corewal_disk::{RealDisk, Recorder, Trace};

use crate::{Ledger, Plan, Rng, check};

/// The mark of a committed epoch; without this bit it is that of a seq.
const COMMITTED: u64 = 1 << 63;

/// What was recorded, and what must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Names the run, with its number: [`Plan::of`].
    pub seed: u64,
    /// The number.
    pub number: u64,
    /// Where the log was.
    pub dir: PathBuf,
    /// What the disk was asked for.
    pub trace: Trace,
    /// What the log was asked for, and what it answered.
    pub ledger: Ledger,
    /// What the engine went through.
    pub events: Events,
}

/// How often something happened in a run that images are wanted of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Segments that were begun, after the first.
    pub rotations: u64,
    /// Segments that were taken before they were filled.
    pub unfilled: u64,
    /// Files that were used again.
    pub recycled: u64,
    /// Batches that only vouch.
    pub vouches: u64,
}

/// Why there is no run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The log is wrong, although no power was cut.
    Log(String),
    /// The world failed: the disk, or what the engine needs of the machine.
    World(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(text) | Self::World(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for RunError {}

/// What the threads of a run share.
struct Stage {
    plan: Plan,
    recorder: Recorder,
    ledger: Mutex<Ledger>,
}

impl Stage {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self) -> u64 {
        self.recorder.position() as u64
    }

    fn after(&self, mark: u64) -> u64 {
        self.recorder.mark(mark) as u64
    }
}

impl Run {
    /// Runs the engine in a new folder of `base`, which exists, as plan `number` of `seed` says.
    ///
    /// # Errors
    /// What the engine said, or what was wrong although no power was cut.
    pub fn record(seed: u64, number: u64, base: &Path) -> Result<Self, RunError> {
        let plan = Plan::of(seed, number);
        let recorder = Recorder::new(Arc::new(RealDisk::new()));
        recorder.found(base).map_err(|error| RunError::World(error.to_string()))?;
        let stage = Stage { plan: plan.clone(), recorder, ledger: Mutex::new(Ledger::new()) };
        let dir = base.join("log");
        let mut events = Events::default();
        for life in 0..plan.lives {
            for stats in stage.live(life, &dir)? {
                events.rotations += stats.rotations;
                events.unfilled += stats.unfilled;
                events.recycled += stats.recycled;
                events.vouches += stats.vouches;
            }
        }
        let trace = stage.recorder.trace();
        let ledger = stage.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Self { seed, number, dir, trace, ledger, events })
    }
}

impl Stage {
    /// Recovers the log, opens it, writes on all shards at once, and ends as the seed says.
    fn live(&self, life: u32, dir: &Path) -> Result<Vec<ShardStats>, RunError> {
        let shards = self.plan.shards_in(life);
        let disk = Arc::new(self.recorder.clone());
        let options = self.plan.options(dir, disk).shards(shards);
        let mut recovery = Log::recover(options).map_err(|error| match &error {
            RecoverError::Damaged(_) | RecoverError::Manifest { .. } => {
                RunError::Log(error.to_string())
            }
            _ => RunError::World(error.to_string()),
        })?;
        let wrong = |error: &dyn fmt::Display| RunError::Log(format!("life {life}: {error}"));
        let recovered = check::read_log(&mut recovery).map_err(|error| wrong(&error))?;
        let at = self.after(0);
        self.ledger().recovered(at, &recovered).map_err(|error| wrong(&error))?;
        let mut log = recovery.open().map_err(|error| RunError::World(error.to_string()))?;
        let at = self.after(0);
        self.ledger().opened(at, log.incarnation(), shards);
        let seats = log.take_seats();
        let mut rng = Rng::of(self.plan.seed, 1000 + u64::from(life));
        let rope = Rope { shards: seats.len(), ..Rope::default() };
        let stats = std::thread::scope(|scope| {
            let threads: Vec<_> = seats
                .into_iter()
                .map(|seat| {
                    let rng = Rng::new(rng.next());
                    let rope = &rope;
                    scope.spawn(move || {
                        let result = Shard::sit(self, rope, seat, rng).and_then(Shard::work);
                        // After an error nobody is to wait for this thread.
                        rope.worked.fetch_add(1, Ordering::SeqCst);
                        rope.caught_up.fetch_add(1, Ordering::SeqCst);
                        result
                    })
                })
                .collect();
            self.close_epochs(&log, &rope, &mut rng);
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect::<Result<Vec<ShardStats>, String>>()
        })
        .map_err(RunError::World)?;
        self.note_committed(&log);
        if rng.chance(60) {
            log.close().map_err(|error| RunError::World(error.to_string()))?;
        }
        Ok(stats)
    }

    /// What the main thread does meanwhile: asks for epochs, and looks at what is committed.
    fn close_epochs(&self, log: &Log, rope: &Rope, rng: &mut Rng) {
        while rope.worked.load(Ordering::SeqCst) < rope.shards {
            // Refused when too many are open.
            if rng.chance(20)
                && let Ok(epoch) = log.close_epoch()
            {
                rope.requested.store(epoch.0, Ordering::SeqCst);
            }
            self.note_committed(log);
            std::thread::sleep(Duration::from_micros(200 + rng.below(1000)));
        }
        rope.no_more_requests.store(true, Ordering::SeqCst);
    }

    fn note_committed(&self, log: &Log) {
        let epoch = log.committed_epoch();
        let at = self.after(COMMITTED | epoch.0);
        self.ledger().committed(at, epoch);
    }
}

/// Keeps the threads of a life together at its end: which epochs a writer closes on its own while it is being
/// closed cannot be asked, so none must be left.
#[derive(Debug, Default)]
struct Rope {
    shards: usize,
    worked: AtomicUsize,
    no_more_requests: AtomicBool,
    requested: AtomicU64,
    caught_up: AtomicUsize,
}

/// A shard's thread.
struct Shard<'a> {
    stage: &'a Stage,
    rope: &'a Rope,
    writer: ShardWriter,
    rng: Rng,
    epoch: Epoch,
    acknowledged: Seq,
}

impl<'a> Shard<'a> {
    fn sit(stage: &'a Stage, rope: &'a Rope, seat: Seat, rng: Rng) -> Result<Self, String> {
        let writer = seat.sit().map_err(|error| error.to_string())?;
        let (epoch, acknowledged) = (writer.epoch(), writer.frontier());
        Ok(Self { stage, rope, writer, rng, epoch, acknowledged })
    }

    fn work(mut self) -> Result<ShardStats, String> {
        for _ in 0..self.stage.plan.steps {
            match self.rng.below(100) {
                0..62 => self.append()?,
                62..80 => drop(self.turn()?),
                80..85 => self.close_epoch()?,
                85..87 => {
                    // Without room for one, the next turns make some.
                    let _ = self.writer.seal_promises();
                }
                87..94 => self.sync()?,
                94..97 => self.idle()?,
                _ => std::thread::sleep(Duration::from_micros(self.rng.below(1500))),
            }
        }
        self.catch_up()?;
        for _ in 0..self.rng.below(8) {
            self.append()?;
        }
        let stats = self.writer.stats();
        if self.rng.chance(50) {
            let shard = self.writer.shard();
            let frontier = self.writer.close().map_err(|error| error.to_string())?;
            let at = self.stage.after(frontier.0);
            self.stage.ledger().acknowledged(at, shard, frontier);
        }
        Ok(stats)
    }

    /// Closes what the log asked for, together with the other shards.
    fn catch_up(&mut self) -> Result<(), String> {
        self.rope.worked.fetch_add(1, Ordering::SeqCst);
        loop {
            self.sync()?;
            let is_over = self.rope.no_more_requests.load(Ordering::SeqCst);
            if is_over && self.epoch.0 > self.rope.requested.load(Ordering::SeqCst) {
                break;
            }
            self.turn()?;
            std::thread::sleep(Duration::from_micros(100));
        }
        self.rope.caught_up.fetch_add(1, Ordering::SeqCst);
        while self.rope.caught_up.load(Ordering::SeqCst) < self.rope.shards {
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        let before = self.stage.before();
        let result = self.writer.sync().map_err(|error| error.to_string());
        self.note(before);
        result
    }

    fn append(&mut self) -> Result<(), String> {
        let len = match self.rng.below(100) {
            0..60 => self.rng.index(200),
            60..90 => self.rng.index(3000),
            90..97 => self.rng.index(self.stage.plan.write_len),
            _ => self.rng.index(self.stage.plan.max_record() / 2),
        };
        let mut payload = vec![0; len];
        let first = self.rng.next();
        payload.iter_mut().zip(0_u64..).for_each(|(byte, at)| {
            *byte = (first.wrapping_add(at).wrapping_mul(0x9e37_79b9) >> 16).to_le_bytes()[0];
        });
        let before = self.stage.before();
        match self.writer.append_bytes(Kind::PUT, &payload) {
            Ok(stamp) => {
                self.stage.ledger().appended(before, stamp, Kind::PUT, &payload);
                Ok(())
            }
            Err(AppendError::Full | AppendError::NoSegment(_)) => {
                if self.turn()? == Turn::Sleep {
                    let limit = Some(Duration::from_millis(1));
                    self.writer.sleep(limit).map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn close_epoch(&mut self) -> Result<(), String> {
        let before = self.stage.before();
        match self.writer.close_epoch() {
            Ok(_) | Err(AppendError::Full | AppendError::EpochsAhead { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        self.note(before);
        Ok(())
    }

    fn turn(&mut self) -> Result<Turn, String> {
        let before = self.stage.before();
        let turn = self.writer.turn().map_err(|error| error.to_string())?;
        self.note(before);
        Ok(turn)
    }

    /// Until a vouch is due, or a little less.
    fn idle(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let limit = match self.turn()? {
                Turn::Idle(Some(limit)) => limit,
                _ => Duration::from_micros(300),
            };
            self.writer.sleep(Some(limit)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Writes down what the writer shows now.
    fn note(&mut self, before: u64) {
        let shard = self.writer.shard();
        let frontier = self.writer.frontier();
        if frontier > self.acknowledged {
            self.acknowledged = frontier;
            let at = self.stage.after(frontier.0);
            self.stage.ledger().acknowledged(at, shard, frontier);
        }
        while self.epoch < self.writer.epoch() {
            let by = self.stage.before();
            self.stage.ledger().closed_epoch_within(before, by, shard, self.epoch);
            self.epoch = self.epoch.next();
        }
    }
}
