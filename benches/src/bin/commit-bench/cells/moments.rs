//! Moments: the first append of a new log, rotations, requests that go to the kernel's workers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use corewal::{Epoch, Kind, Log, Options, Seat};
use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome};
use corewal_benches::record::{Check, Records};
use corewal_benches::work::RECORD_LEN;
use corewal_probe::{Histogram, PuntCounter, histogram};

use super::log::{Variant, append, find, method};
use super::poll::with_stats;

/// New logs in a cell; their median counts.
const NEW_LOGS: usize = 5;
/// Segments that rotate often, in bytes.
const SMALL_SEGMENT: u64 = 256 << 10;
/// Commits after a rotation while the next segment is being prepared: they overlap it too.
const COMMITS_BESIDE: u64 = 10;
/// Rotations between two checkpoints.
const CHECKPOINT_EVERY: u64 = 50;
/// Appends of which the requests to workers are counted: so many one at a time, then as many with 64 outstanding.
const PUNT_APPENDS: u64 = 5000;

pub(crate) fn first(variant: &Variant, asked: &Asked) -> Result<Answer, Anything> {
    let records = Records::new(0, RECORD_LEN);
    let (mut took_ms, mut methods, mut found) = (Vec::new(), String::new(), 0);
    for _ in 0..NEW_LOGS {
        let dir = tempfile::tempdir_in(&asked.dir)?;
        let path = dir.path().join("log");
        let start = Instant::now();
        let mut log = Log::recover(variant.options(&path))?.open()?;
        let mut writer = log.take_seats().remove(0).sit()?;
        let stamp = writer.append_bytes(Kind::PUT, records.bytes())?;
        writer.wait(stamp)?;
        took_ms.push(start.elapsed().as_secs_f64() * 1e3);
        methods = method(writer.ring_facts(), variant);
        writer.close()?;
        log.close()?;
        found += find(&path, RECORD_LEN, &[1])?;
    }
    took_ms.sort_by(f64::total_cmp);
    let outcome = Outcome::new(methods).with(Figure::FirstMs, took_ms[NEW_LOGS / 2]).found(found);
    Ok(Answer::Measured(outcome))
}

/// Commits one at a time through small segments, until so many were begun, and makes a checkpoint now and then on another
/// thread, so that segments are released and recycled. The commit that begins a segment, the next few, which run beside
/// the preparing of another, and those that run beside a checkpoint overlap.
pub(crate) fn rotations(variant: &Variant, asked: &Asked, count: u32) -> Result<Answer, Anything> {
    let dir = tempfile::tempdir_in(&asked.dir)?;
    let path = dir.path().join("log");
    let mut log = Log::recover(small_segments(variant.options(&path)))?.open()?;
    let seat = log.take_seats().remove(0);
    let checkpoint_runs = AtomicBool::new(false);
    let (epochs, closed) = mpsc::channel::<Epoch>();
    let done = thread::scope(|scope| {
        let keeper = scope.spawn(|| keep(&log, closed, &checkpoint_runs));
        let written = write(variant, seat, count, epochs, &checkpoint_runs);
        let kept = keeper.join().expect("the keeper does not panic");
        written.and_then(|written| kept.map(|checkpoints| (written, checkpoints)))
    });
    let (Written { outcome, records, released }, checkpoints) = done?;
    log.close()?;
    let found = find_kept(&path, records, released)?;
    Ok(Answer::Measured(outcome.with(Figure::Checkpoints, f64::from(checkpoints)).found(found)))
}

/// Makes a checkpoint of each epoch that comes, once it is committed. Returns how many.
fn keep(log: &Log, closed: mpsc::Receiver<Epoch>, runs: &AtomicBool) -> Result<u32, Anything> {
    let mut count = 0;
    for epoch in closed {
        log.wait_epoch(epoch)?;
        runs.store(true, Ordering::SeqCst);
        let made = log.checkpoint(epoch, b"held elsewhere");
        runs.store(false, Ordering::SeqCst);
        made?;
        count += 1;
    }
    Ok(count)
}

/// What the writer of such a log did.
struct Written {
    outcome: Outcome,
    records: u64,
    /// Of them, those that a checkpoint covers.
    released: u64,
}

fn write(
    variant: &Variant,
    seat: Seat,
    count: u32,
    epochs: mpsc::Sender<Epoch>,
    checkpoint_runs: &AtomicBool,
) -> Result<Written, Anything> {
    let mut writer = seat.sit()?;
    let mut records = Records::new(0, RECORD_LEN);
    let (mut overlapping, mut others) = (histogram(), histogram());
    let (mut rotations, mut beside, mut next_checkpoint) = (0, 0, CHECKPOINT_EVERY);
    let (count, mut released) = (u64::from(count), 0);
    while rotations < count {
        let is_beside = checkpoint_runs.load(Ordering::SeqCst);
        let start = Instant::now();
        let stamp = append(&mut writer, records.bytes())?;
        writer.wait(stamp)?;
        let took_ns = u64::try_from(start.elapsed().as_nanos())?;
        let is_beside = is_beside || checkpoint_runs.load(Ordering::SeqCst);
        records.advance();
        let now = writer.stats().rotations;
        if now > rotations {
            (rotations, beside) = (now, COMMITS_BESIDE + 1);
        }
        if beside > 0 || is_beside {
            overlapping += took_ns;
        } else {
            others += took_ns;
        }
        beside = beside.saturating_sub(1);
        // None in the end, so that something is left to be found.
        if rotations >= next_checkpoint && rotations < count {
            next_checkpoint += CHECKPOINT_EVERY;
            released = records.count();
            let epoch = writer.close_epoch()?;
            writer.sync()?;
            // Whoever keeps it says itself why it is gone.
            let _ = epochs.send(epoch);
        }
    }
    let stats = writer.stats();
    let p999 = |of: &Histogram<u64>| of.value_at_quantile(0.999) as f64;
    let outcome = with_stats(Outcome::new(method(writer.ring_facts(), variant)), &stats)
        .with_latencies(&others)
        .with(Figure::OverlapP999Us, p999(&overlapping) / 1000.0)
        .with(Figure::OverlapRatio, p999(&overlapping) / p999(&others))
        .with(Figure::Rotations, stats.rotations as f64)
        .with(Figure::Unfilled, stats.unfilled as f64)
        .with(Figure::Recycled, stats.recycled as f64);
    writer.close()?;
    Ok(Written { outcome, records: records.count(), released })
}

/// Finds what no checkpoint has released: everything behind the first `released` records, and perhaps some of those.
fn find_kept(path: &Path, records: u64, released: u64) -> Result<u64, Anything> {
    let mut recovery = Log::recover(Options::new(path))?;
    let mut check = Check::new(1, RECORD_LEN);
    let mut first = None;
    while let Some(entry) = recovery.next_entry()? {
        if entry.kind() == Kind::BARRIER {
            continue;
        }
        if first.is_none() {
            first = Some(check.begin_at(entry.bytes())?);
        }
        check.see(entry.bytes())?;
    }
    let first = first.ok_or("the log is empty")?;
    if first > released {
        return Err(format!("it begins at record {first}, {released} may be released").into());
    }
    Ok(check.end(&[records])? - first)
}

fn small_segments(options: Options) -> Options {
    options
        .first_segment_len(SMALL_SEGMENT)
        .segment_len(SMALL_SEGMENT)
        .write_len(64 << 10)
        .max_record(16 << 10)
        .max_batch(128 << 10)
}

/// Counts what io_uring gives to workers, with default options but for shorter segments, so that some are begun.
pub(crate) fn punts(variant: &Variant, asked: &Asked) -> Result<Answer, Anything> {
    let counter = match PuntCounter::open() {
        Ok(counter) => counter,
        Err(why) => return Ok(Answer::Skipped(why)),
    };
    let dir = tempfile::tempdir_in(&asked.dir)?;
    let path = dir.path().join("log");
    let options =
        variant.options(&path).segment_len(8 << 20).max_batch(1 << 20).max_record(64 << 10);
    let mut log = Log::recover(options)?.open()?;
    let mut writer = log.take_seats().remove(0).sit()?;
    let mut records = Records::new(0, RECORD_LEN);
    let before = counter.read()?;
    for _ in 0..PUNT_APPENDS {
        let stamp = append(&mut writer, records.bytes())?;
        records.advance();
        writer.wait(stamp)?;
    }
    while records.count() < 2 * PUNT_APPENDS {
        let mut last = None;
        for _ in 0..64 {
            last = Some(append(&mut writer, records.bytes())?);
            records.advance();
        }
        writer.wait(last.expect("64 were appended"))?;
    }
    let punts = counter.read()? - before;
    let stats = writer.stats();
    let outcome = with_stats(Outcome::new(method(writer.ring_facts(), variant)), &stats)
        .with(Figure::PuntsPer1000, punts as f64 * 1000.0 / records.count() as f64)
        .with(Figure::Rotations, stats.rotations as f64)
        .with(Figure::Unfilled, stats.unfilled as f64);
    writer.close()?;
    log.close()?;
    let found = find(&path, RECORD_LEN, &[records.count()])?;
    Ok(Answer::Measured(outcome.found(found)))
}
