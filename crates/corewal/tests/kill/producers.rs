//! 64 producer threads on two shards, killed at random moments, again and again over the same log.
//!
//! Each producer appends its own numbered entries, one after the other, and writes down how many were
//! acknowledged. What is recovered must be, for each of them, an unbroken beginning that holds every
//! acknowledged entry and at most the one that was under way.

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use corewal::{Engine, Kind, Log, Options, Pinning};
use corewal_disk::{Disk, Open, RealDisk};

use crate::SEED;
use crate::lines::Random;
use crate::parent::{fresh_seed, has_uring, temp_dir};

/// What a child is to do; travels in this variable of its environment.
const ORDER: &str = "COREWAL_KILL_PRODUCERS";
const PRODUCERS: usize = 64;
const KILLS: u64 = 12;
/// Producers that make no progress for so long hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Small segments and blocks, so that producers meet rotations and back-pressure.
fn options(dir: &Path, engine: Engine) -> Options {
    Options::new(dir)
        .engine(engine)
        .shards(2)
        .write_len(16 << 10)
        .max_batch(64 << 10)
        .max_record(32 << 10)
        .first_segment_len(64 << 10)
        .segment_len(256 << 10)
        .vouch_after(Duration::from_millis(1))
}

/// Runs as the child, if this process is one.
pub(crate) fn run_as_child() -> Option<ExitCode> {
    let text = std::env::var(ORDER).ok()?;
    let fields: Vec<&str> = text.split('\n').collect();
    let [dir, engine, status] = fields[..] else { panic!("order {text:?}") };
    let engine = if engine == "uring" { Engine::Uring } else { Engine::Blocking };
    let mut counts = [0; PRODUCERS];
    let mut recovery = Log::recover(options(dir.as_ref(), engine)).unwrap();
    while let Some(entry) = recovery.next_entry().unwrap() {
        if entry.kind() == Kind::PUT {
            counts[parse(entry.bytes()).0] += 1;
        }
    }
    let mut log = recovery.open().unwrap();
    let handles = log.start_writers(Pinning::AllowedCpus).unwrap();
    let status = RealDisk::new().open(status.as_ref(), Open::WRITE).unwrap();
    // Shares are compared in the end; who was started first shall not be ahead.
    let begin = Barrier::new(PRODUCERS);
    std::thread::scope(|scope| {
        for (index, count) in counts.into_iter().enumerate() {
            let (producer, status, begin) = (handles[index % 2].clone(), &status, &begin);
            scope.spawn(move || {
                begin.wait();
                for count in count.. {
                    producer
                        .append_bytes_durable(Kind::PUT, payload(index, count).as_bytes())
                        .unwrap();
                    let acknowledged: u64 = count + 1;
                    status.write_at(&acknowledged.to_le_bytes(), index as u64 * 8).unwrap();
                }
            });
        }
        loop {
            // Too many open ones are no failure.
            if let Ok(epoch) = log.close_epoch() {
                log.wait_epoch(epoch).unwrap();
            }
        }
    })
}

fn payload(producer: usize, count: u64) -> String {
    format!(
        "{producer}\t{count}\t{}",
        "x".repeat((producer * 37 + usize::try_from(count % 100).unwrap()) % 700)
    )
}

fn parse(bytes: &[u8]) -> (usize, u64) {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut fields = text.split('\t');
    let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
    let (producer, count) = (number(), number());
    let producer = usize::try_from(producer).unwrap();
    assert_eq!(text, payload(producer, count), "an entry that nobody has appended");
    (producer, count)
}

/// A child that is killed and reaped on every way out.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many entries of each producer were acknowledged.
fn acknowledged(status: &Path) -> Vec<u64> {
    let bytes = std::fs::read(status).unwrap();
    bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

pub(crate) fn killed_producers_lose_nothing_acknowledged(seed: Option<u64>) {
    let seed = seed.unwrap_or_else(fresh_seed);
    println!("producers with {SEED}={seed}");
    let mut random = Random(seed);
    let temp = temp_dir();
    let (dir, status) = (temp.path().join("log"), temp.path().join("status"));
    std::fs::write(&status, [0; PRODUCERS * 8]).unwrap();
    let uring = has_uring(temp.path());
    let mut before = vec![0; PRODUCERS];
    for kill in 0..KILLS {
        let engine = if uring && random.coin() { Engine::Uring } else { Engine::Blocking };
        let child = start(&dir, engine, &status);
        let wanted = before.iter().sum::<u64>() + random.below(3_000);
        let start = Instant::now();
        while acknowledged(&status).iter().sum::<u64>() < wanted {
            assert!(start.elapsed() < PATIENCE, "kill {kill}: the producers hang");
        }
        drop(child);
        let acknowledged = acknowledged(&status);
        let recovered = recover(&dir, engine);
        for (index, &count) in recovered.iter().enumerate() {
            let known = acknowledged[index];
            assert!(
                count >= known,
                "kill {kill}: {known} acknowledged of {index}, {count} recovered"
            );
            assert!(
                count <= known.max(before[index]) + 1,
                "kill {kill}: {count} recovered of {index}"
            );
        }
        before = recovered;
    }
    let mean = before.iter().sum::<u64>() / PRODUCERS as u64;
    let slowest = *before.iter().min().unwrap();
    println!("{KILLS} kills: {mean} entries a producer, {slowest} of the slowest");
    assert!(slowest * 3 >= mean, "{before:?}");
}

fn start(dir: &Path, engine: Engine, status: &Path) -> Killed {
    let engine = if engine == Engine::Uring { "uring" } else { "blocking" };
    let order = format!("{}\n{engine}\n{}", dir.to_str().unwrap(), status.to_str().unwrap());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ORDER, order).stdin(Stdio::null()).stdout(Stdio::null());
    Killed(command.spawn().unwrap())
}

/// How many entries of each producer there are; each in its order, without a gap.
fn recover(dir: &Path, engine: Engine) -> Vec<u64> {
    let mut recovery = Log::recover(options(dir, engine)).unwrap();
    let mut counts = vec![0; PRODUCERS];
    while let Some(entry) = recovery.next_entry().unwrap() {
        if entry.kind() == Kind::PUT {
            let (producer, count) = parse(entry.bytes());
            assert_eq!(
                count, counts[producer],
                "producer {producer}: missing, twice, or out of order"
            );
            counts[producer] += 1;
        }
    }
    counts
}
