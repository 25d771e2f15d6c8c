//! Traces of the protocol model, replayed against the engine on a simulated disk.
//!
//! `corewal-model` says what the protocol allows; this says that the engine does it. Each trace is a way to one
//! recovery. Its steps are taken with the engine's own code: an append is an append, a completion is one that the
//! disk lands at just that moment, a power cut keeps just those writes. After every step that shows something, the
//! engine must show the same: the frontier, the committed epoch, the stamps, what a recovery delivers or refuses, and
//! what it answers for every stamp that was ever given out.
//!
//! | module | what it knows |
//! |---|---|
//! | `player` | taking one step after the other, and comparing |
//! | `desk` | the writers of an open log |
//! | `gate` | stopping in the middle of writing a manifest |

mod desk;
mod gate;
mod player;

use std::fmt;

use corewal_model::{Action, CONFIGURATIONS, Configuration, Recoveries, Trace};

use player::{Player, Wrong};

/// Whether a step has a counterpart in what is replayed, or why not. Traces take those steps only that have one.
///
/// # Errors
/// Why not.
pub fn counterpart(action: &Action) -> Result<(), &'static str> {
    match action {
        Action::Append(_)
        | Action::Submit(_)
        | Action::CloseEpoch(_)
        | Action::Vouch(_)
        | Action::Complete { .. }
        | Action::StartSync(_)
        | Action::EndSync(_)
        | Action::FailSync(_)
        | Action::Publish
        | Action::Close
        | Action::RenameManifest
        | Action::SyncDirectory
        | Action::PowerCut(_)
        | Action::Kill(_)
        | Action::Damage(_) => Ok(()),
        Action::Recover(opening) if opening.committed_only => {
            Err("voiding above the committed epoch is not replayed yet")
        }
        Action::Recover(_) => Ok(()),
        Action::AppendBecauseOf { .. } => {
            Err("observing another shard's stamp is not replayed yet")
        }
        Action::Transaction(_) => Err("transactions are not replayed yet"),
        Action::Truncate { .. } => Err("truncations are not replayed yet"),
        Action::Checkpoint => Err("checkpoints are not replayed yet"),
        Action::Rotate(_) => Err("the engine goes on in the next segment when one is full"),
        Action::StartPreparing(_)
        | Action::FillLands(_)
        | Action::Prepared(_)
        | Action::PreparingFails(_) => Err("the engine prepares a segment in one call"),
        Action::ReaderTakesManifest
        | Action::ReaderMeetsBadPlace
        | Action::ReaderFindsWitness
        | Action::ReaderDecides => Err("the engine's reader takes all its steps in one call"),
        Action::TransactionPart(_)
        | Action::TransactionMark { .. }
        | Action::ReportUnpublished
        | Action::PrepareEarly(_)
        | Action::LateWriteLands { .. } => Err("only without a rule"),
    }
}

/// What was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// States of the model.
    pub states: usize,
    /// Recoveries that it can come to.
    pub recoveries: usize,
    /// Traces that were replayed: a part of these, or all.
    pub traces: u64,
    /// Their steps.
    pub steps: u64,
    /// Of the traces, those that ended in a refusal.
    pub refusals: u64,
    /// Of the traces, those whose damage met a file that the engine had put to another use.
    pub out_of_reach: u64,
}

impl Replayed {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.recoveries += other.recoveries;
        self.traces += other.traces;
        self.steps += other.steps;
        self.refusals += other.refusals;
        self.out_of_reach += other.out_of_reach;
    }
}

/// The engine did otherwise than the model.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The configuration.
    pub configuration: &'static str,
    /// The number of the recovery in it.
    pub number: usize,
    /// The steps.
    pub trace: Trace,
    /// At which step, from 1; 0 before the first.
    pub step: usize,
    /// What was different.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.trace)?;
        writeln!(
            f,
            "{}, recovery {}, step {}: {}",
            self.configuration, self.number, self.step, self.what
        )?;
        write!(
            f,
            "replay: scripts/model-traces --only {} --number {}",
            self.configuration, self.number
        )
    }
}

/// How a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A log was recovered, or there was none.
    Recovered,
    /// Both refused.
    Refused,
    /// A damage met a file that the engine had put to another use.
    OutOfReach,
}

/// The configurations that have traces.
pub fn configurations() -> impl Iterator<Item = &'static Configuration> {
    let is_replayed = |it: &&Configuration| Recoveries::of(it, |_| false).is_ok();
    CONFIGURATIONS.iter().filter(is_replayed)
}

/// The traces of a configuration.
///
/// # Errors
/// Why it has none.
pub fn recoveries(configuration: &Configuration) -> Result<Recoveries, &'static str> {
    Recoveries::of(configuration, |action| counterpart(action).is_ok())
}

/// Replays the traces with these numbers.
///
/// # Errors
/// The first that the engine does not follow.
pub fn replay(
    configuration: &Configuration,
    recoveries: &Recoveries,
    numbers: impl Iterator<Item = usize>,
) -> Result<Replayed, Box<Mismatch>> {
    let mut replayed = Replayed {
        states: recoveries.state_count(),
        recoveries: recoveries.count(),
        ..Replayed::default()
    };
    let start = Player::start(recoveries.shape());
    for number in numbers {
        let trace = recoveries.trace(number);
        let played = match &start {
            Ok(start) => start.play(&trace, number),
            Err(Wrong(what)) => Err((0, what.clone())),
        };
        match played {
            Ok(end) => {
                replayed.refusals += u64::from(end == End::Refused);
                replayed.out_of_reach += u64::from(end == End::OutOfReach);
            }
            Err((step, what)) => {
                let configuration = configuration.name;
                return Err(Box::new(Mismatch { configuration, number, trace, step, what }));
            }
        }
        replayed.traces += 1;
        replayed.steps += trace.steps.len() as u64;
    }
    Ok(replayed)
}
