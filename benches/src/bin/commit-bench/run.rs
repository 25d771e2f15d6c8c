//! What a run measured, as it is saved.

use std::collections::BTreeMap;

use corewal_benches::cell::{Figure, Outcome};
use corewal_benches::machine::Machine;
use serde::{Deserialize, Serialize};

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) machine: Machine,
    /// The command, as it was typed.
    pub(crate) command: String,
    pub(crate) preset: String,
    /// When it began and ended, in seconds since 1970.
    pub(crate) began_s: u64,
    pub(crate) ended_s: u64,
    /// The machine's load (proc(5), loadavg) at the beginning, after each round, and at the end.
    pub(crate) loads: Vec<f64>,
    pub(crate) rounds: usize,
    pub(crate) groups: Vec<GroupRun>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// One work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupRun {
    pub(crate) work: String,
    pub(crate) columns: Vec<Figure>,
    /// The bare loop that the rounds were measured against, and why that one.
    pub(crate) floor: Option<String>,
    pub(crate) calibration: Vec<String>,
    pub(crate) ways: Vec<WayRun>,
    pub(crate) failures: Vec<String>,
}

/// One way, over the rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WayRun {
    pub(crate) way: String,
    pub(crate) kind: Kind,
    /// By round.
    pub(crate) outcomes: BTreeMap<usize, Outcome>,
    /// Why there are none.
    pub(crate) skipped: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Corewal,
    Floor,
    /// A bare loop that was tried: nothing is measured against it.
    Trial,
    /// Another log, every acknowledgement of which follows a sync.
    Other,
    /// Another log that acknowledges without a sync: never the best.
    Unsynced,
}

/// What can be said about a goal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    pub(crate) bound: String,
    /// What the figure was divided by.
    pub(crate) against: String,
    pub(crate) value: Option<f64>,
    /// The 95 % interval, with at least 6 rounds.
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) verdict: String,
}

impl GroupRun {
    pub(crate) fn way(&self, name: &str) -> Option<&WayRun> {
        self.ways.iter().find(|it| it.way == name)
    }
}

impl WayRun {
    /// A figure by round.
    pub(crate) fn figures(&self, figure: Figure) -> BTreeMap<usize, f64> {
        let of = |(round, outcome): (&usize, &Outcome)| {
            outcome.figures.get(&figure).map(|value| (*round, *value))
        };
        self.outcomes.iter().filter_map(of).collect()
    }
}
