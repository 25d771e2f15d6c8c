//! Starts, kills, recovers, compares; again and again, over the same logs.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use corewal::{Disk, Engine, Kind, Log, Options, RealDisk, Stamp};

use crate::SEED;
use crate::child::{Order, SHARDS, options};
use crate::lines::{Lines, Random};
use crate::victim::{Heard, Status, Victim};

const LOGS: u64 = 6;
const KILLS_OF_A_LOG: u64 = 10;

/// What happened in all kills.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Kills of writers with io_uring after the first acknowledgement.
    uring: u64,
    /// Of those, with at least 4 batches of one shard in flight.
    uring_deep: u64,
    most_in_flight: u64,
    before_recovered: u64,
    before_opened: u64,
    other_engine: u64,
    acknowledged: u64,
    recovered: u64,
    unacknowledged: u64,
    segments: u64,
}

/// Whether io_uring can be had here; says why not.
pub(crate) fn has_uring(dir: &Path) -> bool {
    let probe = Log::recover(options(&dir.join("probe"), Engine::Uring)).unwrap().open();
    match probe.unwrap().take_seats().remove(0).sit() {
        Ok(_) => true,
        Err(refusal) => {
            println!("SKIPPED: kills of io_uring writers: {refusal}");
            false
        }
    }
}

pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub(crate) fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()) << 20 ^ now.as_secs()
}

pub(crate) fn killed_writers_lose_nothing_acknowledged(seed: Option<u64>) {
    let temp = temp_dir();
    let uring = has_uring(temp.path());
    let lines = Lines::load(SHARDS);
    let seeds: Vec<u64> = match seed {
        Some(seed) => vec![seed],
        None => (0..LOGS).map(|log| fresh_seed().wrapping_add(log)).collect(),
    };
    let start = Instant::now();
    let mut tally = Tally::default();
    for seed in &seeds {
        println!("log with {SEED}={seed}");
        let dir = temp.path().join(seed.to_string());
        std::fs::create_dir(&dir).unwrap();
        let mut story = Story::new(dir, *seed, uring, &lines);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| story.run(&mut tally)));
        if let Err(panic) = outcome {
            println!("replay: {SEED}={seed} cargo test -p corewal --test kill");
            panic::resume_unwind(panic);
        }
    }
    println!("{tally:?} in {:.1} s", start.elapsed().as_secs_f64());
    if seed.is_none() {
        assert!(tally.kills >= 50);
        assert!(tally.acknowledged > 1000 && tally.segments > LOGS * u64::from(SHARDS) * 4);
        assert!(!uring || tally.uring_deep * 5 >= tally.uring, "few kills met deep queues");
        assert!(!uring || tally.other_engine > 0, "no log went from one engine to the other");
    }
}

/// One log, over all of its kills.
struct Story<'a> {
    log_dir: PathBuf,
    order: Order,
    random: Random,
    uring: bool,
    lines: &'a Lines,
    /// Of each shard, the lines that any recovery or child has acknowledged.
    floor: [u64; SHARDS as usize],
    /// Of each shard, the lines that any child has sent.
    ceiling: [u64; SHARDS as usize],
    committed: u64,
}

/// What a recovery gave.
#[derive(Debug, PartialEq, Eq)]
struct Recovered {
    entries: Vec<(Stamp, Kind, bool, Vec<u8>)>,
    committed: u64,
}

impl<'a> Story<'a> {
    fn new(dir: PathBuf, seed: u64, uring: bool, lines: &'a Lines) -> Self {
        let log_dir = dir.join("log");
        let status = dir.join("status");
        let order = Order { dir: log_dir.clone(), engine: Engine::Blocking, seed, status };
        Self {
            log_dir,
            order,
            random: Random(seed),
            uring,
            lines,
            floor: [0; SHARDS as usize],
            ceiling: [0; SHARDS as usize],
            committed: 0,
        }
    }

    fn run(&mut self, tally: &mut Tally) {
        for kill in 0..KILLS_OF_A_LOG {
            let before = self.order.engine;
            self.order.engine = if self.uring && self.random.below(3) > 0 {
                Engine::Uring
            } else {
                Engine::Blocking
            };
            tally.other_engine += u64::from(kill > 0 && before != self.order.engine);
            self.order.seed = self.random.draw();
            self.kill_once(tally);
        }
        let count = |shard: u16| {
            let folder = self.log_dir.join(format!("shard-{shard:04}"));
            std::fs::read_dir(folder).map_or(0, |files| files.count() as u64)
        };
        tally.segments += (0..SHARDS).map(count).sum::<u64>();
        // What was recovered last can be opened, appended to, and closed.
        let mut log = Log::recover(self.options()).unwrap().open().unwrap();
        for seat in log.take_seats() {
            let mut writer = seat.sit().unwrap();
            let stamp = writer.append_bytes(Kind::COMMIT, b"the end").unwrap();
            writer.wait(stamp).unwrap();
            writer.close().unwrap();
        }
        assert!(log.close().unwrap().left_open.is_empty());
        let last = self.recover();
        assert_eq!(
            last.entries.iter().filter(|it| it.3 == b"the end").count(),
            usize::from(SHARDS)
        );
    }

    fn kill_once(&mut self, tally: &mut Tally) {
        // The status of an earlier child would be taken for this one's.
        let _ = std::fs::remove_file(&self.order.status);
        let mut victim = Victim::start(&self.order);
        let wait = match self.random.below(10) {
            0 => self.random.below(40_000),
            1 => {
                victim.listen(|heard| heard.recovered);
                self.random.below(10_000)
            }
            _ => {
                let acks = 1 + self.random.below(400);
                victim.listen(|heard| heard.acks >= acks);
                self.random.below(2_000)
            }
        };
        victim.let_run(wait);
        victim.kill();
        // In half of the kills recovery begins while the child is still ending: the lock makes it wait.
        let early = self.random.coin().then(|| self.recover());
        let heard = victim.reap();
        let recovered = early.unwrap_or_else(|| self.recover());
        let again = self.recover();
        assert!(recovered == again, "a second recovery gives another result");
        let status = Status::read(&self.order);
        self.compare(&recovered, &heard, &status, tally);
        tally.kills += 1;
        tally.before_recovered += u64::from(!heard.recovered);
        tally.before_opened += u64::from(heard.recovered && !heard.opened);
        let in_flight = status.iter().map(|it| it.in_flight).max().unwrap_or_default();
        if self.order.engine == Engine::Uring && heard.acks > 0 {
            tally.uring += 1;
            tally.uring_deep += u64::from(in_flight >= 4);
            tally.most_in_flight = tally.most_in_flight.max(in_flight);
        }
    }

    fn compare(
        &mut self,
        recovered: &Recovered,
        heard: &Heard,
        status: &[Status; SHARDS as usize],
        tally: &mut Tally,
    ) {
        let mut counts = [0; SHARDS as usize];
        for (stamp, kind, is_committed, payload) in &recovered.entries {
            assert_eq!(*is_committed, stamp.epoch.0 <= recovered.committed);
            if *kind != Kind::PUT {
                assert_eq!(*kind, Kind::BARRIER, "at {stamp:?}");
                continue;
            }
            let count = &mut counts[usize::from(stamp.shard.0)];
            let expected = self.lines.payload(stamp.shard.0, *count);
            assert!(
                expected.as_bytes() == payload,
                "{stamp:?} should be {expected} and is {}",
                String::from_utf8_lossy(payload)
            );
            *count += 1;
        }
        let stamps = recovered.entries.iter().map(|it| it.0);
        assert!(stamps.is_sorted_by(|a, b| a < b), "stamps ascend");
        self.committed = self.committed.max(heard.committed);
        assert!(recovered.committed >= self.committed, "a committed epoch is lost");
        self.committed = recovered.committed;
        for (shard, &count) in counts.iter().enumerate() {
            let floor = self.floor[shard].max(heard.acknowledged[shard]);
            let ceiling = self.ceiling[shard].max(status[shard].sent);
            assert!(count >= floor, "shard {shard}: {count} lines, {floor} were acknowledged");
            assert!(count <= ceiling, "shard {shard}: {count} lines, {ceiling} were sent");
            tally.acknowledged += heard.acknowledged[shard].saturating_sub(self.floor[shard]);
            tally.recovered += count - self.floor[shard];
            tally.unacknowledged += count - floor;
            // What a recovery has given is kept for ever.
            (self.floor[shard], self.ceiling[shard]) = (count, count);
        }
    }

    fn options(&mut self) -> Options {
        let engine =
            if self.uring && self.random.coin() { Engine::Uring } else { Engine::Blocking };
        options(&self.log_dir, engine)
    }

    fn recover(&mut self) -> Recovered {
        let mut recovery = Log::recover(self.options()).unwrap();
        let mut entries = Vec::new();
        while let Some(entry) = recovery.next_entry().unwrap() {
            let entry = (entry.stamp(), entry.kind(), entry.is_committed(), entry.bytes().to_vec());
            entries.push(entry);
        }
        Recovered { entries, committed: recovery.report().committed_epoch.0 }
    }
}

/// Whether the log's lock can be had at this moment.
pub(crate) fn is_locked(dir: &Path) -> bool {
    RealDisk::new().lock(&dir.join("LOCK"), "a look").unwrap().is_err()
}
