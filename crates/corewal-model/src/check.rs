//! Running a configuration.

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::Configuration;
use crate::model::{Action, Protocol};
use crate::rules::Rules;

/// Which bounds of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few seconds at most.
    Small,
    /// Minutes.
    Large,
}

/// What a run found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Distinct states that were visited.
    pub states: usize,
    /// Steps of the longest history.
    pub depth: usize,
    /// A shortest history that breaks a property.
    pub refutation: Option<Refutation>,
}

/// A history that breaks a property.
#[derive(Debug, Clone)]
pub struct Refutation {
    /// The property that does not hold.
    pub property: &'static str,
    /// The steps, one line each.
    pub steps: Vec<String>,
}

/// Runs `configuration` under `rules`, breadth first, until everything was visited or a property is broken.
#[must_use]
pub fn check(configuration: &Configuration, size: Size, rules: Rules) -> Checked {
    let bounds = match size {
        Size::Small => configuration.small,
        Size::Large => configuration.large,
    };
    let protocol = Protocol { rules, bounds };
    let (mut checked, mut shortest) = run(protocol, None);
    // The checker goes on for a while after a discovery and keeps the last one: ask for shorter ones.
    while let Some((_, path)) = &shortest {
        let limit = path.len();
        match run(protocol, Some(limit)) {
            (_, None) => break,
            (_, shorter) => shortest = shorter,
        }
    }
    checked.refutation = shortest.map(|(property, path)| {
        let steps = path.iter().map(Action::to_string).collect();
        Refutation { property, steps }
    });
    checked
}

type Found = Option<(&'static str, Vec<Action>)>;

/// One run, over histories of fewer than `limit` steps.
fn run(protocol: Protocol, limit: Option<usize>) -> (Checked, Found) {
    let builder = protocol.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    // The checker counts states, of which there is one more than steps, and stops before its limit.
    let builder = match limit {
        Some(limit) => builder.target_max_depth(limit + 1),
        None => builder,
    };
    let checker = builder.spawn_bfs().join();
    let found = checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions()));
    let found = found.min_by_key(|(name, path)| (path.len(), *name));
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    (Checked { states, depth, refutation: None }, found)
}
