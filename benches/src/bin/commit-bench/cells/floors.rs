//! The floors: the same work without any log.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome, no_such};
use corewal_benches::cpu::ran_ns;
use corewal_benches::record::Records;
use corewal_benches::work::{RECORD_LEN, Work};
use corewal_disk::{Block, Disk, Open, RealDisk};
use corewal_probe::{
    COMMIT_LEN, Cell, CommitLoop, Limits, Method, Probe, WakeLoop, Waking, Way, histogram,
};

use super::images::Sidecar;

/// The largest batch of a floor, in bytes.
const MAX_BATCH: usize = 256 << 10;
/// What one read of the read floor asks for, in bytes.
const READ_LEN: usize = 1 << 20;
/// Commits that do not count, at the start of a measurement.
const WARM_UP: u64 = 20;

pub(crate) fn run(floor: &str, asked: &Asked) -> Result<Answer, Anything> {
    let way = |name: &str| Way::ALL.into_iter().find(|it| it.name() == name);
    let waking = |name: &str| Waking::ALL.into_iter().find(|it| it.name() == name);
    if let (Some(name), Work::Threads(count)) = (floor.strip_prefix("wake-"), asked.work) {
        return waking(name).map_or(Ok(no_such(asked)), |waking| wake(waking, asked, count));
    }
    let depth = |text: &str| text.strip_prefix('d')?.parse::<u32>().ok().filter(|it| *it > 0);
    let parts: Vec<&str> = floor.split('-').collect();
    match (&parts[..], asked.work) {
        ([name], Work::One) if way(name).is_some() => one(way(name).expect("just seen"), asked),
        (["uring", shape], Work::Outstanding(count)) => match depth(shape) {
            Some(depth) if depth <= count => outstanding(asked, count, depth),
            _ => Ok(no_such(asked)),
        },
        (["uring", shape], Work::Bytes { shards, .. }) => match depth(shape) {
            Some(depth) => bytes(asked, depth, shards),
            None => Ok(no_such(asked)),
        },
        (["read", shape], Work::Recovery(_)) => match depth(shape) {
            Some(depth) => read(asked, depth as usize),
            None => Ok(no_such(asked)),
        },
        (["memcpy"], Work::Burst | Work::Cpu(_)) => Ok(Answer::Measured(memcpy(asked))),
        _ => Ok(no_such(asked)),
    }
}

fn one(way: Way, asked: &Asked) -> Result<Answer, Anything> {
    let mut commits = match CommitLoop::new(&asked.dir, way) {
        Ok(commits) => commits,
        Err(error) => return Ok(Answer::Skipped(error.to_string())),
    };
    let mut records = Records::new(0, RECORD_LEN);
    let mut latencies_ns = histogram();
    let end = Instant::now() + asked.time();
    // However slow the disk is, some count.
    while records.count() < 2 * WARM_UP || Instant::now() < end {
        let took = commits.commit(records.bytes())?;
        if records.count() >= WARM_UP {
            latencies_ns += u64::try_from(took.as_nanos())?;
        }
        records.advance();
    }
    let outcome = Outcome::new(format!("{} dsync, {:?}", way.name(), commits.access()))
        .with_latencies(&latencies_ns)
        .with(Figure::PerS, 1e9 / latencies_ns.mean());
    Ok(Answer::Measured(outcome))
}

/// So many records, cut into batches of which `depth` are in flight.
fn outstanding(asked: &Asked, count: u32, depth: u32) -> Result<Answer, Anything> {
    let records = count.div_ceil(depth);
    let batch_len = (records as usize * RECORD_LEN).next_multiple_of(COMMIT_LEN);
    let cell = Cell { depth, batch_len, ..Cell::new(Way::Uring, Method::Dsync) };
    let round = match probe(asked, &cell)? {
        Ok(round) => round,
        Err(skipped) => return Ok(skipped),
    };
    let outcome = Outcome::new(cell.to_string())
        .with(Figure::PerS, round.commits_per_s() * f64::from(records))
        .with(Figure::PerBatch, f64::from(records))
        .with(Figure::CallsPerBatch, round.cost.calls);
    Ok(Answer::Measured(outcome))
}

/// The largest batches, each of fresh bytes.
fn bytes(asked: &Asked, depth: u32, shards: u32) -> Result<Answer, Anything> {
    let shards = u16::try_from(shards)?;
    let cell = Cell { depth, batch_len: MAX_BATCH, shards, ..Cell::new(Way::Uring, Method::Dsync) };
    let round = match probe(asked, &cell)? {
        Ok(round) => round,
        Err(skipped) => return Ok(skipped),
    };
    let outcome = Outcome::new(cell.to_string()).with(Figure::DeviceMbPerS, round.mb_per_s());
    Ok(Answer::Measured(outcome))
}

fn probe(asked: &Asked, cell: &Cell) -> Result<Result<corewal_probe::Round, Answer>, Anything> {
    if let Err(unfit) = cell.check() {
        return Ok(Err(Answer::Skipped(unfit.to_string())));
    }
    let disk = RealDisk::new();
    let file_len = asked.room() / u64::from(cell.shards);
    let measured = Probe::new(&disk, &asked.dir, file_len).measure(cell, &Limits::of(asked.time()));
    Ok(measured.map_err(|error| Answer::Skipped(error.to_string())))
}

/// Blocking threads, by the floor's way to wake them or by a trial.
fn wake(waking: Waking, asked: &Asked, threads: u32) -> Result<Answer, Anything> {
    let threads = u16::try_from(threads)?;
    let mut wakes = match WakeLoop::new(&asked.dir, waking, threads, RECORD_LEN) {
        Ok(wakes) => wakes,
        Err(error) => return Ok(Answer::Skipped(error.to_string())),
    };
    let floor = wakes.measure(asked.time())?;
    let outcome = Outcome::new(waking.description())
        .with_latencies(&floor.latencies_ns)
        .with(Figure::PerS, floor.commits_per_s())
        .with(Figure::PerBatch, floor.commits as f64 / floor.writes.max(1) as f64);
    Ok(Answer::Measured(outcome))
}

/// The bytes of a log's image, read past the page cache by `threads` threads in turn, 1 MiB at a time; nothing is
/// checked.
fn read(asked: &Asked, threads: usize) -> Result<Answer, Anything> {
    let image = asked.image("corewal");
    let sidecar = Sidecar::read(&image)?;
    let pieces = pieces_of(&image, sidecar.batch_bytes)?;
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let read = thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| read_pieces(&pieces, &next).map_err(|it| it.to_string())))
            .collect();
        let join =
            |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("a reader does not panic");
        readers.into_iter().map(join).sum::<Result<u64, String>>()
    })?;
    let took = start.elapsed().as_secs_f64();
    let outcome = Outcome::new(format!("direct reads of 1 MiB, {threads} at once"))
        .with(Figure::DeviceMbPerS, read as f64 / 1e6 / took)
        .with(Figure::PerS, sidecar.entries as f64 / took);
    Ok(Answer::Measured(outcome))
}

/// A file, where a read begins, and how long it is.
type Piece = (PathBuf, u64, usize);

/// The first `bytes` of the segments of the first shard.
fn pieces_of(image: &std::path::Path, bytes: u64) -> Result<Vec<Piece>, Anything> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(image.join("shard-0000"))?
        .map(|it| it.map(|it| it.path()))
        .collect::<Result<_, _>>()?;
    segments.sort();
    let mut pieces = Vec::new();
    let mut left = bytes;
    for segment in segments {
        let len = std::fs::metadata(&segment)?.len().min(left);
        left -= len;
        for at in (0..len).step_by(READ_LEN) {
            let piece = usize::try_from(len - at)?.min(READ_LEN);
            pieces.push((segment.clone(), at, piece));
        }
    }
    Ok(pieces)
}

fn read_pieces(pieces: &[Piece], next: &AtomicUsize) -> Result<u64, Anything> {
    let mut block = Block::zeroed(READ_LEN);
    let mut open: Option<(PathBuf, corewal_disk::File)> = None;
    let mut sum = 0;
    while let Some((path, at, len)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
        let file = match &open {
            Some((opened, file)) if opened == path => file.clone(),
            _ => RealDisk::new().open(path, Open::READ.direct())?,
        };
        let mut filled = 0;
        while filled < *len {
            let read = file.read_at(&mut block[filled..*len], at + filled as u64)?;
            if read == 0 {
                return Err(format!("{} ends before {}", path.display(), at + *len as u64).into());
            }
            filled += read;
        }
        black_box(&block);
        sum += filled as u64;
        open = Some((path.clone(), file));
    }
    Ok(sum)
}

/// A copy of a record into a batch, and nothing else.
fn memcpy(asked: &Asked) -> Outcome {
    let mut batch = vec![0_u8; MAX_BATCH];
    let mut records = Records::new(0, RECORD_LEN);
    let mut at = 0;
    let mut copy = |count: u64| {
        for _ in 0..count {
            batch[at..at + RECORD_LEN].copy_from_slice(black_box(records.bytes()));
            at = (at + RECORD_LEN + 16) % (MAX_BATCH - RECORD_LEN);
            records.advance();
            black_box(&mut batch);
        }
    };
    copy(100_000);
    let (start, mut count) = (ran_ns(), 0);
    let end = Instant::now() + asked.time().min(Duration::from_millis(100));
    while Instant::now() < end {
        copy(100_000);
        count += 100_000;
    }
    let each_ns = (ran_ns() - start) as f64 / f64::from(count.max(1));
    Outcome::new("copy_from_slice").with(Figure::AppendNs, each_ns)
}
