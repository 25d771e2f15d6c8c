//! Moments: the first append of a new log, rotations, requests that go to the kernel's workers.

use std::time::Instant;

use corewal::{Kind, Log, Options, ShardWriter};
use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome};
use corewal_benches::record::Records;
use corewal_benches::work::RECORD_LEN;
use corewal_probe::{PuntCounter, histogram};

use super::log::{Variant, find, method};
use super::poll::with_stats;

/// New logs in a cell; their median counts.
const NEW_LOGS: usize = 5;
/// Segments that rotate often, in bytes.
const SMALL_SEGMENT: u64 = 256 << 10;
/// Commits after a rotation while the next segment is being prepared: they overlap it too.
const COMMITS_BESIDE: u64 = 10;
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
        methods = method(&writer, variant);
        writer.close()?;
        log.close()?;
        found += find(&path, RECORD_LEN, &[1])?;
    }
    took_ms.sort_by(f64::total_cmp);
    let outcome = Outcome::new(methods).with(Figure::FirstMs, took_ms[NEW_LOGS / 2]).found(found);
    Ok(Answer::Measured(outcome))
}

/// Commits one at a time through small segments, until so many were begun. The commit that begins one and the next few,
/// which run beside the preparing of another, overlap the rotation.
pub(crate) fn rotations(variant: &Variant, asked: &Asked, count: u32) -> Result<Answer, Anything> {
    let dir = tempfile::tempdir_in(&asked.dir)?;
    let path = dir.path().join("log");
    let mut log = Log::recover(small_segments(variant.options(&path)))?.open()?;
    let mut writer = log.take_seats().remove(0).sit()?;
    let mut records = Records::new(0, RECORD_LEN);
    let (mut overlapping, mut others) = (histogram(), histogram());
    let (mut rotations, mut beside) = (0, 0);
    while rotations < u64::from(count) {
        let start = Instant::now();
        let stamp = writer.append_bytes(Kind::PUT, records.bytes())?;
        writer.wait(stamp)?;
        let took_ns = u64::try_from(start.elapsed().as_nanos())?;
        records.advance();
        let now = writer.stats().rotations;
        if now > rotations {
            (rotations, beside) = (now, COMMITS_BESIDE + 1);
        }
        if beside > 0 {
            beside -= 1;
            overlapping += took_ns;
        } else {
            others += took_ns;
        }
    }
    let stats = writer.stats();
    let p999 = |of: &corewal_probe::Histogram<u64>| of.value_at_quantile(0.999) as f64;
    let outcome = with_stats(Outcome::new(method(&writer, variant)), &stats)
        .with_latencies(&others)
        .with(Figure::OverlapP999Us, p999(&overlapping) / 1000.0)
        .with(Figure::OverlapRatio, p999(&overlapping) / p999(&others))
        .with(Figure::Rotations, stats.rotations as f64)
        .with(Figure::Unfilled, stats.unfilled as f64);
    writer.close()?;
    log.close()?;
    let found = find(&path, RECORD_LEN, &[records.count()])?;
    Ok(Answer::Measured(outcome.found(found)))
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
        let stamp = append(&mut writer, &mut records)?;
        writer.wait(stamp)?;
    }
    while records.count() < 2 * PUNT_APPENDS {
        let mut last = append(&mut writer, &mut records)?;
        for _ in 1..64 {
            last = append(&mut writer, &mut records)?;
        }
        writer.wait(last)?;
    }
    let punts = counter.read()? - before;
    let stats = writer.stats();
    let outcome = with_stats(Outcome::new(method(&writer, variant)), &stats)
        .with(Figure::PuntsPer1000, punts as f64 * 1000.0 / records.count() as f64)
        .with(Figure::Rotations, stats.rotations as f64)
        .with(Figure::Unfilled, stats.unfilled as f64);
    writer.close()?;
    log.close()?;
    let found = find(&path, RECORD_LEN, &[records.count()])?;
    Ok(Answer::Measured(outcome.found(found)))
}

fn append(writer: &mut ShardWriter, records: &mut Records) -> Result<corewal::Stamp, Anything> {
    let stamp = writer.append_bytes(Kind::PUT, records.bytes())?;
    records.advance();
    Ok(stamp)
}
