//! Which way a log should take in a directory: measured for a bounded time, on files outside of the log's own.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corewal_disk::Disk;

use crate::cell::{Cell, Method, Way};
use crate::median::Median;
use crate::probe::{Limits, Probe};

/// Length of the file, in bytes: short, so that preparing it disturbs little.
const FILE_LEN: u64 = 8 << 20;
/// With fewer rounds there is no interval.
const ROUNDS: u32 = 7;
/// Commits in flight of a busy shard.
const BUSY_DEPTH: u32 = 4;

/// A way to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// How the kernel is asked.
    pub way: Way,
    /// How a write becomes durable.
    pub method: Method,
}

impl Candidate {
    /// What is tried one commit at a time. The first that can be had is the one that others must beat.
    const LONE: [Self; 6] = [
        Self { way: Way::Uring, method: Method::Dsync },
        Self { way: Way::Pwritev2, method: Method::Dsync },
        Self { way: Way::Uring, method: Method::Linked },
        Self { way: Way::Uring, method: Method::AfterWrite },
        Self { way: Way::Uring, method: Method::Fdatasync },
        Self { way: Way::Pwritev2, method: Method::Fdatasync },
    ];
    /// What is tried with several in flight, likewise. Calls have no depth.
    const BUSY: [Self; 4] = [
        Self { way: Way::Uring, method: Method::Dsync },
        Self { way: Way::Uring, method: Method::Linked },
        Self { way: Way::Uring, method: Method::AfterWrite },
        Self { way: Way::Uring, method: Method::Fdatasync },
    ];
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.way.name(), self.method.name())
    }
}

/// What was measured of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Which.
    pub candidate: Candidate,
    /// Commits in flight.
    pub depth: u32,
    /// Commits a second, of 4,096 bytes each, over the rounds.
    pub commits_per_s: Median,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// For a commit that is alone in flight.
    pub lone: Candidate,
    /// For several in flight; the same as `lone` where there is no ring.
    pub busy: Candidate,
    /// All that was measured, the lone ones first. Another than the first of a depth was chosen only where its
    /// interval lies above the first one's.
    pub evidence: Vec<Evidence>,
    /// Why candidates are missing, in words: no io_uring, no direct I/O.
    pub refused: Option<String>,
}

/// Measures the candidates in `dir` for about `time`, interleaved, and chooses. Blocks that long: call it on a thread
/// of its own beside a log. The file is `corewal-probe-*`, and removed in the end.
///
/// # Errors
/// Those of the file system; `Interrupted` if `stop` was set before enough was measured; `Unsupported` where the
/// directory has no direct I/O, so that there is nothing to choose by.
pub fn choose(
    disk: &dyn Disk,
    dir: &Path,
    time: Duration,
    stop: &AtomicBool,
) -> io::Result<Choice> {
    let mut probe = Probe::new(disk, dir, FILE_LEN);
    let mut entrants = enter(1, &Candidate::LONE);
    entrants.extend(enter(BUSY_DEPTH, &Candidate::BUSY));
    let measurements = entrants.len() as f64 * f64::from(ROUNDS);
    let limits = Limits { time: time.div_f64(measurements), stop: Some(stop) };
    let mut refused = None;
    for round in 0..ROUNDS {
        let mut failed = Vec::new();
        for (index, entrant) in entrants.iter_mut().enumerate() {
            match probe.measure(&entrant.cell, &limits) {
                Ok(measured) => entrant.commits_per_s.push(measured.commits_per_s()),
                // In the first round that is a fact about the machine, later a fault.
                Err(error) if round == 0 && entrant.cell.way == Way::Uring => {
                    refused = Some(error.to_string());
                    failed.push(index);
                }
                Err(error) => return Err(error),
            }
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        for index in failed.into_iter().rev() {
            entrants.remove(index);
        }
    }
    let evidence: Vec<Evidence> = entrants.iter().map(Entrant::evidence).collect();
    let lone = best(evidence.iter().filter(|it| it.depth == 1));
    let Some(lone) = lone else {
        unreachable!("calls can be had everywhere, or measuring them failed")
    };
    let busy = best(evidence.iter().filter(|it| it.depth > 1)).unwrap_or(lone);
    Ok(Choice { lone, busy, evidence, refused })
}

struct Entrant {
    candidate: Candidate,
    cell: Cell,
    commits_per_s: Vec<f64>,
}

impl Entrant {
    fn evidence(&self) -> Evidence {
        let (candidate, depth) = (self.candidate, self.cell.depth);
        Evidence { candidate, depth, commits_per_s: Median::of(&self.commits_per_s) }
    }
}

fn enter(depth: u32, candidates: &[Candidate]) -> Vec<Entrant> {
    let entrant = |candidate: &Candidate| Entrant {
        candidate: *candidate,
        cell: Cell { depth, ..Cell::new(candidate.way, candidate.method) },
        commits_per_s: Vec::new(),
    };
    candidates.iter().map(entrant).collect()
}

/// The first, unless others are certainly faster: then the fastest of those.
fn best<'a>(mut evidence: impl Iterator<Item = &'a Evidence>) -> Option<Candidate> {
    let first = evidence.next()?;
    let faster = evidence.filter(|it| it.commits_per_s.low > first.commits_per_s.high);
    let fastest = faster.max_by(|a, b| a.commits_per_s.value.total_cmp(&b.commits_per_s.value));
    Some(fastest.unwrap_or(first).candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(index: usize, low: f64, value: f64, high: f64) -> Evidence {
        let commits_per_s = Median { value, low, high };
        Evidence { candidate: Candidate::LONE[index], depth: 1, commits_per_s }
    }

    #[test]
    fn only_what_is_certainly_faster_replaces_the_first() {
        let first = evidence(0, 90.0, 100.0, 110.0);
        let overlapping = evidence(1, 109.0, 150.0, 160.0);
        let faster = evidence(2, 111.0, 120.0, 130.0);
        let fastest = evidence(3, 115.0, 140.0, 150.0);
        let chosen = |all: &[&Evidence]| best(all.iter().copied()).unwrap();
        assert_eq!(chosen(&[&first, &overlapping]), first.candidate);
        assert_eq!(chosen(&[&first, &overlapping, &faster]), faster.candidate);
        assert_eq!(chosen(&[&first, &faster, &fastest, &overlapping]), fastest.candidate);
        assert_eq!(best([].into_iter()), None);
    }

    #[test]
    fn a_stop_ends_it_and_nothing_stays() {
        let temp = tempfile::tempdir().unwrap();
        let disk = corewal_disk::RealDisk::new();
        let stop = AtomicBool::new(true);
        let error = choose(&disk, temp.path(), Duration::from_secs(3600), &stop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
