//! Ways through the state space, for a replay against the engine.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use stateright::Model;

use crate::config::{Bounds, Configuration};
use crate::ledger::{Given, bit};
use crate::model::{Action, Protocol};
use crate::recovery::{Look, Opening, Outcome as Judged};
use crate::rules::Rules;
use crate::state::{Phase, Progress, Purpose, State};

/// What the bounds of a configuration mean for whoever replays its traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Batches that a segment holds.
    pub blocks: u8,
    /// Segments that are prepared ahead: with none, each is when it is needed.
    pub ahead: u8,
    /// Batches in flight, at most.
    pub depth: u8,
    /// Entries of a batch, at most.
    pub batch: u8,
    /// Writes are made durable by syncs; else each is when it completes.
    pub syncs: bool,
    /// There is no log yet; else its creation has just been finished.
    pub starts_empty: bool,
}

/// What a recovery finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No log; its creation goes on with this generation of the manifest.
    NoLog {
        /// 1 or 2.
        next_generation: u8,
    },
    /// Damage.
    Refused,
    /// A log.
    Recovered {
        /// What was delivered, as indices into what was given out, in the order of the merged stream.
        entries: Vec<u8>,
        /// The committed epoch.
        committed: u8,
    },
}

/// A batch that was submitted and that the frontier has not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// The batch.
    pub batch: u8,
    /// Its segment.
    pub segment: u8,
    /// Its block.
    pub block: u8,
    /// How far it is.
    pub progress: Progress,
}

/// What the writer of a shard shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterShown {
    /// The open epoch.
    pub epoch: u8,
    /// Batches behind the frontier.
    pub flight: Vec<InFlight>,
    /// It has failed.
    pub failed: bool,
}

/// What the protocol shows after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Of a recovery: what it found.
    pub outcome: Option<Outcome>,
    /// The incarnation that is open.
    pub incarnation: u8,
    /// The published committed epoch.
    pub committed: u8,
    /// By shard; none for those that are not active.
    pub writers: Vec<Option<WriterShown>>,
    /// Everything that was given out, ever.
    pub given: Vec<Given>,
    /// Of these, as bits: what was acknowledged, or delivered by a recovery.
    pub durable: u32,
}

impl Shown {
    /// Whether something that was given out was acknowledged, or delivered by a recovery.
    #[must_use]
    pub fn is_durable(&self, index: usize) -> bool {
        u8::try_from(index).is_ok_and(|index| self.durable & bit(index) != 0)
    }
}

/// One step of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// What shows then.
    pub shown: Shown,
}

/// A way from a new disk to a recovery, which is the last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(out, "{:3} {}", index + 1, step.action)?;
        }
        Ok(())
    }
}

/// Every recovery that a configuration can come to: each state in which one may happen, with each way to open the
/// log, and one shortest way there.
#[derive(Debug)]
pub struct Recoveries {
    protocol: Protocol,
    /// How each state was come to first: from which, by what.
    came_by: Vec<Option<(usize, Action)>>,
    all: Vec<(usize, Opening)>,
}

impl Recoveries {
    /// Goes through the states of `configuration`, breadth first, with the actions that `is_replayed` lets pass.
    ///
    /// # Errors
    /// Why the configuration has no traces.
    pub fn of(
        configuration: &Configuration,
        is_replayed: impl Fn(&Action) -> bool,
    ) -> Result<Self, &'static str> {
        let protocol = Protocol { rules: Rules::ALL, bounds: configuration.replayed? };
        let mut found = Self { protocol, came_by: Vec::new(), all: Vec::new() };
        let mut seen = HashSet::new();
        let mut layer = Vec::new();
        for state in protocol.init_states() {
            seen.insert(fingerprint(&state));
            layer.push((found.came_by.len(), state));
            found.came_by.push(None);
        }
        while !layer.is_empty() {
            let mut next_layer = Vec::new();
            for (index, state) in layer {
                let mut actions = Vec::new();
                protocol.actions(&state, &mut actions);
                actions.retain(|action| is_replayed(action) && is_prompt(&state, action));
                for action in actions {
                    if let Action::Recover(opening) = action {
                        found.all.push((index, opening));
                    }
                    let Some(next) = protocol.next_state(&state, action.clone()) else { continue };
                    if seen.insert(fingerprint(&next)) {
                        next_layer.push((found.came_by.len(), next));
                        found.came_by.push(Some((index, action)));
                    }
                }
            }
            layer = next_layer;
        }
        Ok(found)
    }

    /// How many states there are.
    #[must_use]
    pub fn state_count(&self) -> usize {
        self.came_by.len()
    }

    /// How many recoveries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// What the bounds mean for whoever replays a trace.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let Bounds { blocks, ahead, depth, batch, syncs, from_empty, .. } = self.protocol.bounds;
        Shape { blocks, ahead, depth, batch, syncs, starts_empty: from_empty }
    }

    /// The way to one of the recoveries.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn trace(&self, number: usize) -> Trace {
        let (mut index, opening) = self.all[number];
        let mut actions = vec![Action::Recover(opening)];
        while let Some((before, action)) = &self.came_by[index] {
            actions.push(action.clone());
            index = *before;
        }
        let mut state = self.protocol.init_states().remove(0);
        let mut steps = Vec::new();
        for action in actions.into_iter().rev() {
            let Some(next) = self.protocol.next_state(&state, action.clone()) else { break };
            state = next;
            steps.push(Step { shown: shown(&self.protocol, &state, &action), action });
        }
        Trace { steps }
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// An engine does some things at once that the protocol may do later: it publishes a committed epoch, starts a sync,
/// and seals the open batch when it hears of a completion. Left out is what it cannot be made to put off; on the disk
/// all of that looks like something that stays in.
fn is_prompt(state: &State, action: &Action) -> bool {
    let Phase::Running(process) = &state.phase else { return true };
    let has_open = |shard| process.writer(shard).is_some_and(|it| !it.open.is_empty());
    // It syncs for the sake of the batch behind the frontier.
    let is_written = |shard| {
        let first = process.writer(shard).and_then(|it| it.flight.first());
        first.is_some_and(|it| it.progress == Progress::Written)
    };
    let is_syncing = |shard| process.writer(shard).is_some_and(|it| it.sync.is_some());
    if process.closed_everywhere() > process.committed {
        return matches!(action, Action::Publish | Action::PowerCut(_) | Action::Kill(_));
    }
    match *action {
        Action::Complete { shard, .. } | Action::EndSync(shard) | Action::FailSync(shard) => {
            !has_open(shard)
        }
        Action::StartSync(shard) => !has_open(shard) && is_written(shard),
        Action::Submit(shard) | Action::CloseEpoch(shard) | Action::Vouch(shard) => {
            is_syncing(shard) || !is_written(shard)
        }
        _ => true,
    }
}

fn shown(protocol: &Protocol, state: &State, action: &Action) -> Shown {
    let process = match &state.phase {
        Phase::Running(process) => Some(process),
        _ => None,
    };
    let writer = |writer: &crate::state::Writer| WriterShown {
        epoch: writer.epoch,
        flight: (writer.flight.iter())
            .map(|it| InFlight {
                batch: it.number,
                segment: it.segment,
                block: it.at,
                progress: it.progress,
            })
            .collect(),
        failed: writer.failed,
    };
    Shown {
        outcome: match action {
            Action::Recover(opening) => Some(outcome(protocol, state, *opening)),
            _ => None,
        },
        incarnation: process.map_or(0, |it| it.manifest.incarnation),
        committed: process.map_or(0, |it| it.committed),
        writers: process.map_or(Vec::new(), |process| {
            process.writers.iter().map(|it| it.as_ref().map(writer)).collect()
        }),
        given: state.ledger.given.clone(),
        durable: state.ledger.must,
    }
}

/// What a recovery found. It changes nothing on the disk after it has synced, so it finds the same again.
fn outcome(protocol: &Protocol, state: &State, opening: Opening) -> Outcome {
    let creates = state.job().is_some_and(|job| job.purpose == Purpose::Create);
    match (Look { disk: &state.disk, rules: protocol.rules }).recover(opening) {
        Judged::NoLog { next_generation } => {
            debug_assert!(creates, "what is not there is created");
            Outcome::NoLog { next_generation }
        }
        Judged::Refused => Outcome::Refused,
        Judged::Recovered(found) => {
            let mut entries: Vec<_> = found.delivery.shards.iter().flatten().collect();
            entries.retain(|it| !opening.committed_only || it.epoch <= found.delivery.committed);
            entries.sort_by_key(|entry| state.ledger.given[usize::from(entry.id)].stamp);
            Outcome::Recovered {
                entries: entries.iter().map(|entry| entry.id).collect(),
                committed: found.delivery.committed,
            }
        }
    }
}
