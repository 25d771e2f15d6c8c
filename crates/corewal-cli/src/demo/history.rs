//! What has happened, with its time: for the screen while it happens, for the plot afterwards.

use std::time::{Duration, Instant};

use super::aim::Target;
use super::word::{Gauge, Restart};

/// What has happened so far.
#[derive(Debug)]
pub(crate) struct History {
    started: Instant,
    /// Events of the whole job at a time: those before the life, and those that it has read.
    pub(crate) events: Vec<(Duration, u64)>,
    /// Committed epochs at a time.
    pub(crate) commits: Vec<(Duration, u64)>,
    /// Checkpoints.
    pub(crate) checkpoints: Vec<Duration>,
    /// Kills, with what they met.
    pub(crate) kills: Vec<(Duration, Met)>,
    /// Recoveries: from the start of a process to its first event.
    pub(crate) recoveries: Vec<(Duration, Duration)>,
    /// Where each core is.
    pub(crate) gauges: Vec<Gauge>,
    /// What the current life went on from.
    pub(crate) restart: Restart,
    /// What the current life is doing.
    pub(crate) doing: Met,
    life_started: Duration,
}

/// What a life was doing when it was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Met {
    #[default]
    Start,
    Recovery,
    Work,
    Checkpoint,
}

impl Met {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Start => "at its start",
            Self::Recovery => "during recovery",
            Self::Work => "at work",
            Self::Checkpoint => "during a checkpoint",
        }
    }
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            events: Vec::new(),
            commits: Vec::new(),
            checkpoints: Vec::new(),
            kills: Vec::new(),
            recoveries: Vec::new(),
            gauges: Vec::new(),
            restart: Restart::default(),
            doing: Met::Start,
            life_started: Duration::ZERO,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn begin_life(&mut self) {
        self.life_started = self.now();
        self.doing = Met::Start;
        self.gauges.clear();
    }

    pub(crate) fn recovered(&mut self, restart: Restart) {
        let now = self.now();
        self.restart = restart;
        self.doing = Met::Work;
        self.recoveries.push((self.life_started, now));
        self.events.push((now, restart.events));
        self.commits.push((now, restart.committed));
    }

    pub(crate) fn gauges(&mut self, gauges: Vec<Gauge>) {
        let now = self.now();
        self.gauges = gauges;
        self.events.push((now, self.read()));
        let committed = self.committed();
        if self.commits.last().is_none_or(|(_, last)| *last != committed) {
            self.commits.push((now, committed));
        }
    }

    pub(crate) fn killed(&mut self) {
        self.kills.push((self.now(), self.doing));
    }

    /// Events of the job that this life counts as read.
    pub(crate) fn read(&self) -> u64 {
        self.restart.events + self.gauges.iter().map(|gauge| gauge.read).sum::<u64>()
    }

    /// Epochs that every core has released.
    pub(crate) fn committed(&self) -> u64 {
        let released = self.gauges.iter().map(|gauge| gauge.released).min().unwrap_or(0);
        released.max(self.restart.committed)
    }

    /// The last epoch that any core has closed.
    pub(crate) fn closed(&self) -> u64 {
        let closed = self.gauges.iter().map(|gauge| gauge.closed).max().unwrap_or(0);
        closed.max(self.restart.committed)
    }

    /// Whether a kill's target has come.
    pub(crate) fn has_come(&self, target: Target) -> bool {
        match target {
            Target::Events(at) => self.doing != Met::Start && self.read() >= at,
            Target::Checkpoint(at) => self.doing == Met::Checkpoint && self.read() >= at,
            Target::Recovery => self.doing == Met::Recovery,
        }
    }
}
