//! Running a configuration.

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::config::Configuration;
use crate::model::{Action, Protocol};
use crate::rules::Rules;
use crate::state::State;

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
///
/// One thread, so that the first history found is a shortest one.
#[must_use]
pub fn check(configuration: &Configuration, size: Size, rules: Rules) -> Checked {
    let bounds = match size {
        Size::Small => configuration.small,
        Size::Large => configuration.large,
    };
    let checker = Protocol { rules, bounds }
        .checker()
        .threads(1)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(property, path)| (path.clone().into_vec().len(), *property));
    let refutation = found.into_iter().next();
    Checked {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        refutation: refutation.map(|(property, path)| Refutation { property, steps: steps(path) }),
    }
}

fn steps(path: Path<State, Action>) -> Vec<String> {
    path.into_actions().iter().map(|action| action.to_string()).collect()
}
