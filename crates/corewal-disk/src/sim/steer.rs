//! Deciding by hand what lands, instead of leaving it to time: to replay a history step by step.

use std::sync::Arc;

use super::cut::{Cut, Fate, UnitId};
use super::flight::Work;
use super::inspect::SimDisk;
use super::options::LateWrites;
use super::state::{State, Stopped};

/// Names an operation that was submitted to a ring and has not landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlightId(pub u64);

/// An operation that was submitted to a ring and has not landed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlight {
    /// Names it in [`SimDisk::land`].
    pub id: FlightId,
    /// The file.
    pub path: Arc<str>,
    /// Of a write: its offset in bytes, and the unit that a [`Cut`] decides about; `None` for a sync.
    pub write: Option<(u64, UnitId)>,
}

impl SimDisk {
    /// What was submitted to rings and has not landed, in the order of submission.
    #[must_use]
    pub fn flights(&self) -> Vec<InFlight> {
        let state = self.shared.state();
        let mut flights: Vec<InFlight> = state.flights.iter().map(|it| state.shown(it)).collect();
        flights.sort_unstable_by_key(|flight| flight.id);
        flights
    }

    /// Lands an operation now, before what was submitted earlier; its ring reaps it. A sync that is landed so
    /// covers exactly what had landed when it was submitted. Whether there was such an operation.
    ///
    /// With [`by_hand`](super::SimOptions::by_hand), nothing lands but by this.
    pub fn land(&self, id: FlightId) -> bool {
        let mut state = self.shared.state();
        let index = state.flights.iter().position(|it| it.order == id.0);
        match index {
            Some(index) if state.check().is_ok() => {
                state.land_exactly(index);
                true
            }
            _ => false,
        }
    }

    /// Kills the process, as [`kill`](Self::kill) does, but what was in flight has landed at once if `cut` keeps
    /// it, and never happens otherwise; nothing is torn.
    #[must_use]
    pub fn kill_with(&self, cut: &Cut) -> Self {
        let mut state = self.shared.state();
        let mut next = state.clone();
        let is_kept = |work: &Work| match work {
            Work::Write(landing, _) => cut.fate(landing.unit, 0) == Fate::Kept,
            Work::Linked { .. } | Work::Sync { .. } => false,
        };
        next.flights.retain(|flight| is_kept(&flight.work));
        while let Some(first) = next.flights.iter().map(|flight| flight.order).min() {
            let index = next.flights.iter().position(|flight| flight.order == first);
            next.land_exactly(index.unwrap_or_default());
            // A sync that is linked to a write is not kept.
            next.flights.retain(|flight| is_kept(&flight.work));
        }
        let next = next.kill(state.options.late_writes == LateWrites::HoldLock);
        state.stopped.get_or_insert(Stopped::Killed);
        Self::of(next)
    }
}

impl State {
    fn shown(&self, flight: &super::flight::Flight) -> InFlight {
        let write = match &flight.work {
            Work::Write(landing, _) => Some((landing.at, landing.unit)),
            Work::Linked { .. } | Work::Sync { .. } => None,
        };
        InFlight { id: FlightId(flight.order), path: self.path(flight.node), write }
    }
}
