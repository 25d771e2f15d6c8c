//! Ways to commit against each other, interleaved, one short measurement after the other.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cell::{Cell, Way};
use crate::choose::{Candidate, Evidence};
use crate::median::Median;
use crate::probe::{Limits, Probe};

/// Cells that are measured in turn, for a caller who decides when the disk has time for the next measurement.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use std::time::Duration;
///
/// use corewal_disk::RealDisk;
/// use corewal_probe::{AccessKind, Cell, Contest, Method, Probe, Standing, Way};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let disk = RealDisk::new();
/// let cells = [Method::Dsync, Method::Fdatasync]
///     .map(|it| Cell { access: AccessKind::Buffered, ..Cell::new(Way::Pwritev2, it) });
/// let probe = Probe::new(&disk, dir, 1 << 20);
/// let mut contest = Contest::new(probe, cells, Duration::from_micros(100));
/// let stop = AtomicBool::new(false);
/// while contest.step(&stop)? == Standing::Open {
///     // Here the disk may do something else.
/// }
/// for it in contest.evidence() {
///     println!("{}: {:.0} commits/s", it.candidate, it.commits_per_s.value);
/// }
/// # assert_eq!(contest.evidence().len(), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Contest<'a> {
    probe: Probe<'a>,
    entrants: Vec<Entrant>,
    /// How long a measurement is.
    piece: Duration,
    round: u32,
    /// The next entrant of the round.
    next: usize,
    refused: Option<String>,
}

/// Whether a contest is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is more to measure.
    Open,
    /// All rounds are over.
    Over,
}

#[derive(Debug)]
struct Entrant {
    cell: Cell,
    commits_per_s: Vec<f64>,
}

impl<'a> Contest<'a> {
    /// How often each cell is measured; with fewer rounds there is no interval.
    pub const ROUNDS: u32 = 7;

    /// One measurement takes `piece`, or as long as a few commits if that is longer.
    #[must_use]
    pub fn new(probe: Probe<'a>, cells: impl IntoIterator<Item = Cell>, piece: Duration) -> Self {
        let entrants = cells.into_iter().map(|cell| Entrant { cell, commits_per_s: Vec::new() });
        Self { probe, entrants: entrants.collect(), piece, round: 0, next: 0, refused: None }
    }

    /// Takes the next measurement. A cell that needs io_uring and cannot have it is left out.
    ///
    /// # Errors
    /// Those of [`Probe::measure`]; `Interrupted` if `stop` was set meanwhile.
    pub fn step(&mut self, stop: &AtomicBool) -> io::Result<Standing> {
        if let Some(entrant) = self.entrants.get_mut(self.next) {
            let limits = Limits { time: self.piece, stop: Some(stop) };
            let measured = self.probe.measure(&entrant.cell, &limits);
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match measured {
                Ok(measured) => {
                    entrant.commits_per_s.push(measured.commits_per_s());
                    self.next += 1;
                }
                // In the first round that is a fact about the machine, later a fault.
                Err(error) if self.round == 0 && entrant.cell.way == Way::Uring => {
                    self.refused = Some(error.to_string());
                    self.entrants.remove(self.next);
                }
                Err(error) => return Err(error),
            }
        }
        if self.next == self.entrants.len() {
            self.next = 0;
            self.round += 1;
        }
        let is_over = self.round >= Self::ROUNDS || self.entrants.is_empty();
        Ok(if is_over { Standing::Over } else { Standing::Open })
    }

    /// What was measured, in the order of the cells; empty before all rounds are over.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        if self.round < Self::ROUNDS {
            return Vec::new();
        }
        self.entrants.iter().map(Entrant::evidence).collect()
    }

    /// Why cells are missing, if any are.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

impl Entrant {
    fn evidence(&self) -> Evidence {
        let Cell { way, method, depth, .. } = self.cell;
        let candidate = Candidate { way, method };
        Evidence { candidate, depth, commits_per_s: Median::of(&self.commits_per_s) }
    }
}

#[cfg(test)]
mod tests {
    use corewal_disk::RealDisk;

    use super::*;
    use crate::cell::Method;
    use crate::{AccessKind, Probe};

    #[test]
    fn every_cell_is_measured_once_a_round_and_nothing_stays() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let probe = Probe::new(&disk, temp.path(), 64 << 10).named("PROBE-");
        let cells = [Method::Dsync, Method::Fdatasync];
        let cells = cells.map(|method| Cell {
            access: AccessKind::Buffered,
            ..Cell::new(Way::Pwritev2, method)
        });
        let mut contest = Contest::new(probe, cells, Duration::ZERO);
        let stop = AtomicBool::new(false);
        let mut steps = 1;
        while contest.step(&stop).unwrap() == Standing::Open {
            assert!(contest.evidence().is_empty(), "too little is known before the end");
            let names: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
            let name = names[0].as_ref().unwrap().file_name();
            assert!(names.len() == 1 && name.to_str().unwrap().starts_with("PROBE-"), "{name:?}");
            steps += 1;
        }
        assert_eq!(steps, 2 * Contest::ROUNDS);
        let evidence = contest.evidence();
        let methods: Vec<_> = evidence.iter().map(|it| it.candidate.method).collect();
        assert_eq!(methods, [Method::Dsync, Method::Fdatasync]);
        assert!(evidence.iter().all(|it| it.commits_per_s.low > 0.0));
        drop(contest);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
