//! The wake floor: blocking threads that each wait for their own record, one write for all that came meanwhile, and one
//! wake-up for all that wait.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::floor::{COMMIT_LEN, CommitLoop};
use crate::{Way, histogram};

/// What blocking threads can make of a disk.
#[derive(Clone, Debug)]
pub struct WakeFloor {
    /// Threads that commit.
    pub threads: u16,
    /// Their records.
    pub commits: u64,
    /// Durable writes that it took.
    pub writes: u64,
    /// From the first record to the last.
    pub took: Duration,
    /// From before the copy until the thread runs again, in nanoseconds.
    pub latencies_ns: Histogram<u64>,
}

impl WakeFloor {
    /// Commits a second.
    #[must_use]
    pub fn commits_per_s(&self) -> f64 {
        self.commits as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// What the threads and the writer share.
#[derive(Debug)]
struct Shared {
    open: Mutex<Vec<u8>>,
    /// Bytes that are durable.
    durable: AtomicU64,
    /// Bytes that were given to the writer, those in `open` included.
    given: AtomicU64,
    /// Counts writes; the threads sleep on it.
    writes: AtomicU32,
    /// Counts rings of the writer's bell; it sleeps on it.
    bell: AtomicU32,
    stop: AtomicBool,
    failed: AtomicBool,
}

impl Shared {
    /// Copies a record to the open batch; returns its end.
    fn give(&self, record: &[u8]) -> u64 {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = open.is_empty();
        open.extend_from_slice(record);
        let end =
            self.given.fetch_add(record.len() as u64, Ordering::Relaxed) + record.len() as u64;
        drop(open);
        if was_empty {
            self.bell.fetch_add(1, Ordering::Release);
            atomic_wait::wake_one(&self.bell);
        }
        end
    }

    fn wait(&self, end: u64) -> bool {
        loop {
            let writes = self.writes.load(Ordering::Acquire);
            if self.durable.load(Ordering::Acquire) >= end {
                return true;
            }
            if self.failed.load(Ordering::Acquire) {
                return false;
            }
            atomic_wait::wait(&self.writes, writes);
        }
    }

    fn tell(&self) {
        self.writes.fetch_add(1, Ordering::Release);
        atomic_wait::wake_all(&self.writes);
    }

    /// Writes what was given, until the stop; returns the number of writes.
    fn write(&self, commits: &mut CommitLoop) -> io::Result<u64> {
        let mut batch = Vec::new();
        let mut writes = 0;
        loop {
            let bell = self.bell.load(Ordering::Acquire);
            std::mem::swap(
                &mut batch,
                &mut *self.open.lock().unwrap_or_else(PoisonError::into_inner),
            );
            if batch.is_empty() {
                if self.stop.load(Ordering::Acquire) {
                    return Ok(writes);
                }
                atomic_wait::wait(&self.bell, bell);
                continue;
            }
            commits.commit(&batch)?;
            writes += 1;
            self.durable.fetch_add(batch.len() as u64, Ordering::Release);
            batch.clear();
            self.tell();
        }
    }
}

/// `threads` threads commit records of `record_len` bytes for `time`, each waiting for each.
///
/// # Errors
/// Those of [`CommitLoop`].
///
/// # Panics
/// If a record of each thread together are more than [`FILE_LEN`](crate::FILE_LEN), or a number is 0.
pub fn wake_floor(
    dir: &Path,
    way: Way,
    threads: u16,
    record_len: usize,
    time: Duration,
) -> io::Result<WakeFloor> {
    assert!(threads > 0 && record_len > 0, "a floor of nothing");
    let all_len = usize::from(threads) * record_len;
    let mut commits = CommitLoop::with_len(dir, way, all_len.next_multiple_of(COMMIT_LEN))?;
    let shared = Shared {
        open: Mutex::new(Vec::new()),
        durable: AtomicU64::new(0),
        given: AtomicU64::new(0),
        writes: AtomicU32::new(0),
        bell: AtomicU32::new(0),
        stop: AtomicBool::new(false),
        failed: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let start = Instant::now();
        let shared = &shared;
        let producers: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || produce(shared, number, record_len, start + time)))
            .collect();
        let closer = scope.spawn(move || {
            let mut latencies_ns = histogram();
            for producer in producers {
                latencies_ns +=
                    producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            shared.stop.store(true, Ordering::Release);
            shared.bell.fetch_add(1, Ordering::Release);
            atomic_wait::wake_one(&shared.bell);
            latencies_ns
        });
        // The ring belongs to the thread that made it: this one.
        let written = shared.write(&mut commits);
        if written.is_err() {
            shared.failed.store(true, Ordering::Release);
            shared.tell();
        }
        let took = start.elapsed();
        let latencies_ns = closer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(WakeFloor { threads, commits: latencies_ns.len(), writes: written?, took, latencies_ns })
    })
}

fn produce(shared: &Shared, number: u16, record_len: usize, end: Instant) -> Histogram<u64> {
    let mut latencies_ns = histogram();
    let mut record = vec![number.to_le_bytes()[0] | 1; record_len];
    while Instant::now() < end {
        let start = Instant::now();
        record[0] = record[0].wrapping_add(2);
        if !shared.wait(shared.give(&record)) {
            break;
        }
        latencies_ns += u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }
    latencies_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_writes() {
        let temp = tempfile::tempdir().unwrap();
        let time = Duration::from_millis(30);
        let floor = wake_floor(temp.path(), Way::Pwritev2, 8, 128, time).unwrap();
        assert!(floor.commits >= 8, "each thread commits");
        assert!(floor.writes <= floor.commits);
        assert!(floor.commits_per_s() > 0.0);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
