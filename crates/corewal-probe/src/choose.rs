//! Which way to commit is fastest in a directory: measured for a bounded time, on files of the probe's own.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use corewal_disk::Disk;

use crate::cell::{Cell, Method, Way};
use crate::contest::{Contest, Standing};
use crate::median::Median;
use crate::probe::Probe;

/// Length of the file, in bytes: short, so that preparing it disturbs little.
const FILE_LEN: u64 = 8 << 20;
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

/// What was measured of a candidate, over the rounds of a [`Contest`].
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

/// Measures the candidates in `dir` for about `time`, interleaved, and chooses. Blocks that long. The file is
/// `corewal-probe-*`, and removed in the end.
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
    let lone = Candidate::LONE.iter().map(|it| Cell::new(it.way, it.method));
    let busy = Candidate::BUSY.iter();
    let busy = busy.map(|it| Cell { depth: BUSY_DEPTH, ..Cell::new(it.way, it.method) });
    let cells: Vec<Cell> = lone.chain(busy).collect();
    let piece = time.div_f64(cells.len() as f64 * f64::from(Contest::ROUNDS));
    let mut contest = Contest::new(Probe::new(disk, dir, FILE_LEN), cells, piece);
    while contest.step(stop)? == Standing::Open {}
    let evidence = contest.evidence();
    let lone = best(evidence.iter().filter(|it| it.depth == 1));
    let Some(lone) = lone else {
        unreachable!("calls can be had everywhere, or measuring them failed")
    };
    let busy = best(evidence.iter().filter(|it| it.depth > 1)).unwrap_or(lone);
    Ok(Choice { lone, busy, evidence, refused: contest.refused().map(str::to_owned) })
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
