//! What another thread sees of a log at work, and a log that keeps nothing.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corewal::{
    AccessWish, AppendError, Keeps, Kind, Log, NullDisk, Options, Pinning, Policy, SegmentAccess,
    ShardId, ShardStats, ShardWriter,
};
use corewal_disk::sim::{DirectIo, Placement, SimDisk, SimOptions};

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(options: Options) -> (Log, ShardWriter) {
    let mut log = Log::recover(options).unwrap().open().unwrap();
    let writer = log.take_seats().remove(0).sit().unwrap();
    (log, writer)
}

/// No batch comes between.
fn quiet(dir: &Path) -> Options {
    Options::new(dir.join("log")).vouch_after(Duration::from_secs(3600))
}

fn stats(log: &Log) -> ShardStats {
    log.stats()[0].1
}

#[test]
fn statistics_follow_a_writer_that_never_sleeps() {
    let temp = temp_dir();
    let (log, mut writer) = open(quiet(temp.path()));
    for round in 1..=10 {
        for _ in 0..2 {
            writer.append_bytes(Kind::PUT, &[7; 100]).unwrap();
        }
        let last = writer.append_bytes(Kind::PUT, &[7; 100]).unwrap();
        assert_eq!(stats(&log).entries, 3 * (round - 1), "what no batch was loaded with");
        while writer.frontier() < last.seq {
            writer.turn().unwrap();
        }
        let seen = stats(&log);
        assert_eq!((seen.entries, seen.durable_entries), (3 * round, 3 * round));
        assert_eq!((seen.payload_bytes, seen.batches), (300 * round, round));
        assert_eq!((seen.in_flight, seen.batch_bytes), (0, 4096 * round));
    }
    writer.close().unwrap();
    log.close().unwrap();
}

#[test]
fn lag_and_flight_show_what_is_not_durable() {
    let temp = temp_dir();
    let (log, mut writer) = open(quiet(temp.path()).policy(Policy::OnDemand));
    for _ in 0..5 {
        writer.append_bytes(Kind::PUT, b"written, not durable").unwrap();
    }
    while writer.ring_facts().calls == 0 || writer.in_flight() == 0 {
        writer.turn().unwrap();
    }
    let before = stats(&log);
    assert_eq!((before.durable_lag(), before.in_flight), (5, 1));
    assert_eq!(log.histograms()[0].1.commit_latency_ns.len(), 0, "nothing was acknowledged");
    writer.sync().unwrap();
    let after = stats(&log);
    assert_eq!((after.durable_lag(), after.in_flight, after.syncs), (0, 0, 1));
    let histograms = &log.histograms()[0].1;
    assert_eq!(histograms.commit_latency_ns.len(), 1);
    assert_eq!(histograms.sync_latency_ns.len(), 1);
    let commit = histograms.commit_latency_ns.max();
    // Both are reported as at most 1/64 and 1/100 too high.
    assert!(commit as f64 > histograms.sync_latency_ns.max() as f64 * 0.95, "it waits for it");
}

#[test]
fn a_histogram_has_one_value_for_each_batch() {
    let temp = temp_dir();
    let (log, mut writer) = open(quiet(temp.path()));
    for count in 1..=20 {
        for _ in 0..count {
            writer.append_bytes(Kind::PUT, &[7; 1000]).unwrap();
        }
        writer.sync().unwrap();
    }
    let stats = stats(&log);
    let histograms = &log.histograms()[0].1;
    assert_eq!(stats.batches, 20);
    for histogram in
        [&histograms.commit_latency_ns, &histograms.batch_len_bytes, &histograms.batch_entries]
    {
        assert_eq!(histogram.len(), 20);
    }
    let entries = &histograms.batch_entries;
    assert_eq!((entries.min(), entries.value_at_quantile(0.5), entries.max()), (1, 10, 20));
    let bytes: f64 = histograms.batch_len_bytes.mean() * 20.0;
    let exact = stats.batch_bytes as f64;
    assert!((exact..exact * 1.03).contains(&bytes), "{bytes} instead of {exact}");
    assert!(histograms.commit_latency_ns.min() > 0, "no disk takes no time");
    assert_eq!(histograms.sync_latency_ns.len(), 0, "each write is durable by itself");
}

#[test]
fn amplification_counts_padding_and_preparing() {
    let temp = temp_dir();
    let (log, mut writer) = open(
        quiet(temp.path())
            .prepared_ahead(1)
            .segment_len(1 << 20)
            .max_batch(512 << 10)
            .max_record(256 << 10),
    );
    assert_eq!(writer.stats().write_amplification(), None);
    writer.append_bytes(Kind::PUT, &[7; 4096]).unwrap();
    writer.sync().unwrap();
    let stats = writer.stats();
    assert_eq!((stats.payload_bytes, stats.batch_bytes), (4096, 8192));
    assert!(stats.prepared_bytes >= 2 * 4096, "at least the two headers of a segment");
    let expected = (8192 + stats.prepared_bytes) as f64 / 4096.0;
    assert_eq!(stats.write_amplification(), Some(expected));
    drop(log);
}

#[test]
fn the_age_of_an_epoch_begins_when_it_is_opened() {
    let temp = temp_dir();
    let (log, mut writer) = open(quiet(temp.path()));
    let turn = |writer: &mut ShardWriter, log: &Log| {
        writer.append_bytes(Kind::PUT, b"an event").unwrap();
        writer.sync().unwrap();
        stats(log).epoch_age
    };
    let first = turn(&mut writer, &log);
    let second = turn(&mut writer, &log);
    assert!(second > first, "the same epoch has grown older");
    let before = std::time::Instant::now();
    writer.close_epoch().unwrap();
    writer.sync().unwrap();
    assert!(stats(&log).epoch_age <= before.elapsed(), "another one has begun since");
}

#[test]
fn producers_are_counted_by_their_writers_thread() {
    let temp = temp_dir();
    let mut log = Log::recover(quiet(temp.path()).shards(2)).unwrap().open().unwrap();
    let producers = log.start_writers(Pinning::Unpinned).unwrap();
    for producer in &producers {
        for _ in 0..50 {
            let stamp = producer.append_bytes(Kind::PUT, b"an event").unwrap();
            log.durable(stamp).wait().unwrap();
        }
    }
    for (shard, stats) in log.stats() {
        assert_eq!((stats.entries, stats.durable_lag()), (50, 0), "shard {shard}");
        assert_eq!(stats.batches, 50, "each was waited for");
    }
    log.close().unwrap();
}

#[test]
fn a_log_on_the_null_disk_works_keeps_nothing_and_says_so() {
    let dir = Path::new("/nowhere/log");
    let options = || {
        Options::new(dir)
            .disk(Arc::new(NullDisk::new()))
            .segment_len(1 << 20)
            .max_batch(512 << 10)
            .max_record(256 << 10)
    };
    let (log, mut writer) = open(options());
    assert_eq!(log.capabilities().keeps, Keeps::Nothing);
    assert_eq!(writer.ring_facts().fallback.as_deref(), Some("nothing is written"));
    // Through many segments, released and used again.
    for _ in 0..60 {
        let stamp = loop {
            match writer.append_bytes(Kind::PUT, &[7; 200 << 10]) {
                // Ahead of the thread that prepares segments.
                Err(AppendError::Full) => _ = writer.turn().unwrap(),
                appended => break appended.unwrap(),
            }
        };
        assert_eq!(stamp.shard, ShardId(0));
        writer.wait(stamp).unwrap();
        assert_eq!(writer.frontier(), stamp.seq);
        let epoch = writer.close_epoch().unwrap();
        writer.sync().unwrap();
        log.wait_epoch(epoch).unwrap();
        log.checkpoint(epoch, b"a snapshot").unwrap();
    }
    assert!(writer.stats().rotations > 10);
    writer.close().unwrap();
    log.close().unwrap();
    assert!(!dir.exists(), "no file was touched");
    let mut again = Log::recover(options()).unwrap();
    assert!(again.next_entry().unwrap().is_none(), "nothing was kept");
}

#[test]
fn a_log_of_files_keeps_what_is_durable() {
    let temp = temp_dir();
    let (log, _writer) = open(quiet(temp.path()));
    assert_eq!(log.capabilities().keeps, Keeps::Durable);
}

#[test]
fn a_log_says_how_its_segments_are_written() {
    let capabilities = |disk: SimOptions, wish| {
        let disk = Arc::new(SimDisk::with(disk));
        let options = Options::new("/log").disk(disk).block_len(512).access(wish).shards(2);
        Log::recover(options).unwrap().open().unwrap().capabilities()
    };
    let direct = |align| SimOptions::new(1).direct(DirectIo::Supported { align });
    let refused = SimOptions::new(1).direct(DirectIo::Refused);
    for (disk, wish, expected) in [
        (direct(512), AccessWish::Direct, SegmentAccess::Direct),
        (direct(4096), AccessWish::Direct, SegmentAccess::Misaligned { align: 4096 }),
        (refused, AccessWish::Direct, SegmentAccess::NoDirect),
        (direct(512), AccessWish::Buffered, SegmentAccess::Buffered),
    ] {
        let found = capabilities(disk, wish);
        let both = [(ShardId(0), Some(expected)), (ShardId(1), Some(expected))];
        assert_eq!(found.access, both);
        assert!(!found.copy_on_write);
    }
    let copying = SimOptions::new(1).placement(Placement::CopyOnWrite);
    assert!(capabilities(copying, AccessWish::Direct).copy_on_write);
}
