//! What a measured cell did to its file. On Linux: no other system has direct writes.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corewal_disk::{Action, Disk, Event, RealDisk, Recorder, Trace};
use corewal_probe::{AccessKind, Cell, FileState, Limits, Loop, Method, Probe, Round, Way};
use tempfile::TempDir;

const SHORT: Duration = Duration::from_millis(10);
const FILE_LEN: u64 = 1 << 20;

fn temp_dir() -> TempDir {
    // Not the system's directory for temporary files, which is often in memory.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// `None` where io_uring is forbidden, as in most containers.
fn measure(disk: &dyn Disk, dir: &Path, cell: &Cell, time: Duration) -> Option<Round> {
    let measured = Probe::new(disk, dir, FILE_LEN).measure(cell, &Limits::of(time));
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().collect();
    assert!(left.is_empty(), "{cell} leaves {left:?}");
    match measured {
        Ok(round) => Some(round),
        Err(error) if cell.way == Way::Uring && error.to_string().contains("io_uring") => None,
        Err(error) => panic!("{cell}: {error}"),
    }
}

fn fitting() -> impl Iterator<Item = Cell> {
    let ways = Way::ALL.into_iter().flat_map(|way| Method::ALL.map(|it| Cell::new(way, it)));
    let cells = ways.flat_map(|cell| AccessKind::ALL.map(|access| Cell { access, ..cell }));
    let cells = cells.flat_map(|cell| FileState::ALL.map(|state| Cell { state, ..cell }));
    let cells = cells.flat_map(|cell| [1, 4].map(|depth| Cell { depth, ..cell }));
    cells.filter(|cell| cell.check().is_ok())
}

#[test]
fn every_cell_commits_and_leaves_nothing() {
    let temp = temp_dir();
    for cell in fitting() {
        let Some(round) = measure(&RealDisk::new(), temp.path(), &cell, SHORT) else { continue };
        assert_eq!(round.latencies_ns.len(), round.commits, "{cell}");
        assert_eq!(round.bytes, round.commits * 4096, "{cell}");
        assert!(round.commits > 0 && round.cost.calls > 0.0, "{cell}");
        let counted: u64 = round.slices.iter().map(|slice| slice.commits).sum();
        assert_eq!(counted, round.commits, "{cell}");
        if cell.state != FileState::ZeroFilled {
            assert_eq!(round.laps, 0, "{cell}: blocks that were written are another state");
        }
    }
}

#[test]
fn a_file_that_is_begun_again_is_told() {
    let temp = temp_dir();
    let zeros = Cell { batch_len: 256 << 10, ..Cell::new(Way::Pwritev2, Method::None) };
    let disk = RealDisk::new();
    let lapped = measure(&disk, temp.path(), &zeros, Duration::from_millis(200)).unwrap();
    assert!(lapped.laps > 0);
    let allocated = Cell { state: FileState::Allocated, ..zeros };
    let full = measure(&disk, temp.path(), &allocated, Duration::from_secs(2));
    assert_eq!(full.unwrap().laps, 0, "it ends when the file is full");
}

/// At most `depth` writes are out that no sync, begun after their end, has covered: so a commit counts, and makes room
/// for the next, only when it is durable.
fn assert_covered(trace: &Trace, depth: usize, cell: &Cell) {
    let ends = trace.ends();
    let mut landed: Vec<usize> = Vec::new();
    let mut open = 0;
    let mut covering: Vec<(usize, usize)> = Vec::new();
    let mut syncs = 0;
    for (position, event) in trace.events.iter().enumerate() {
        match event {
            Event::Begin(Action::Write { .. }) => {
                assert!(ends[position].is_some());
                open += 1;
                assert!(open <= depth, "{cell}: {open} commits are out");
            }
            Event::Begin(Action::Sync { .. }) => covering.push((position, landed.len())),
            Event::End { begin, .. } => match &trace.events[*begin] {
                Event::Begin(Action::Write { .. }) => landed.push(*begin),
                Event::Begin(Action::Sync { .. }) => {
                    let at = covering.iter().position(|(it, _)| it == begin).unwrap();
                    let (_, count) = covering.remove(at);
                    landed.drain(..count);
                    assert!(covering.is_empty(), "one sync at a time");
                    open -= count;
                    syncs += 1;
                }
                _ => {}
            },
            _ => {}
        }
    }
    assert_eq!(open, 0, "{cell}: the last commits were not synced");
    assert!(syncs > 2, "{cell}");
}

#[test]
fn a_commit_counts_when_a_sync_has_covered_it() {
    let temp = temp_dir();
    for (way, method, depth) in [
        (Way::Uring, Method::AfterWrite, 1),
        (Way::Uring, Method::AfterWrite, 4),
        (Way::Uring, Method::Fdatasync, 4),
        (Way::Pwritev2, Method::Fdatasync, 1),
    ] {
        let state = FileState::Growing;
        let cell = Cell { depth, state, ..Cell::new(way, method) };
        let recorder = Recorder::new(Arc::new(RealDisk::new()));
        if measure(&recorder, temp.path(), &cell, SHORT).is_some() {
            assert_covered(&recorder.trace(), depth as usize, &cell);
        }
    }
}

/// Nobody commits 100 million times a second, so the schedule runs away from the disk, and the last commits were due
/// almost a whole measurement earlier.
#[test]
fn an_open_loop_counts_from_the_intended_start() {
    let temp = temp_dir();
    for way in Way::ALL {
        let pacing = Loop::Open { per_s: 100_000_000 };
        let cell = Cell { pacing, ..Cell::new(way, Method::Dsync) };
        let time = Duration::from_millis(50);
        let Some(round) = measure(&RealDisk::new(), temp.path(), &cell, time) else { continue };
        assert!(round.commits < 1_000_000);
        let longest = Duration::from_nanos(round.latencies_ns.max());
        assert!(longest > round.took / 2, "{cell}: {longest:?} of {:?}", round.took);
    }
}

/// A rate that any disk keeps: every commit that was due began, and none before.
#[test]
fn an_open_loop_keeps_its_rate() {
    let temp = temp_dir();
    let cell = Cell {
        pacing: Loop::Open { per_s: 100 },
        shards: 2,
        ..Cell::new(Way::Pwritev2, Method::None)
    };
    let disk = RealDisk::new();
    let round = measure(&disk, temp.path(), &cell, Duration::from_millis(100)).unwrap();
    // Each of two shards has one due every 20 ms, the first at once.
    assert!(round.commits <= 10, "{}", round.commits);
    assert!(round.commits >= 2, "{}", round.commits);
}

#[test]
fn cells_that_mean_nothing_are_refused() {
    let temp = temp_dir();
    let cell = Cell::new(Way::Pwritev2, Method::Linked);
    let disk = RealDisk::new();
    let error = Probe::new(&disk, temp.path(), FILE_LEN).measure(&cell, &Limits::of(SHORT));
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}
