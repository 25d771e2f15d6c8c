//! Traces of the protocol model, replayed against the engine: a part of what `scripts/model-traces` replays.

use corewal_harness::replay::{Replayed, configurations, counterpart, recoveries, replay};
use corewal_model::{CONFIGURATIONS, Configuration, Recoveries};

fn configuration(name: &str) -> &'static Configuration {
    CONFIGURATIONS.iter().find(|it| it.name == name).expect("a configuration")
}

/// Of so many traces one.
fn follows(name: &str, every: usize) -> Replayed {
    let configuration = configuration(name);
    let found = recoveries(configuration).expect("it has traces");
    match replay(configuration, &found, (0..found.count()).step_by(every)) {
        Ok(replayed) => {
            println!("{name}: {replayed:?}");
            assert!(replayed.traces > 50, "{replayed:?}");
            assert!(replayed.out_of_reach * 20 < replayed.traces, "{replayed:?}");
            replayed
        }
        Err(mismatch) => panic!("{mismatch}"),
    }
}

macro_rules! the_engine_follows {
    ($($name:ident: $every:expr),* $(,)?) => {
        $(#[test] fn $name() { follows(stringify!($name), $every); })*

        #[test]
        fn every_configuration_with_traces_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert!(configurations().all(|it| tested.contains(&it.name)));
        }
    };
}

the_engine_follows![
    epochs: 500, causes: 20, flight: 2, syncs: 1, damage: 10, witnesses: 50, manifests: 20,
    truncation: 50, release: 1,
];

#[test]
fn damage_is_refused_and_taken_for_torn_as_the_model_says() {
    let replayed = follows("damage", 7);
    assert!(replayed.refusals > 100 && replayed.refusals + 50 < replayed.traces, "{replayed:?}");
}

/// What cannot be replayed says why.
#[test]
fn a_configuration_without_traces_says_why() {
    for configuration in CONFIGURATIONS {
        if configurations().all(|it| it.name != configuration.name) {
            let why = Recoveries::of(configuration, |action| counterpart(action).is_ok());
            assert!(why.is_err_and(|why| why.len() > 20), "{}", configuration.name);
        }
    }
}
