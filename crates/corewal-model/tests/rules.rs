//! With all rules in force nothing is broken; without any one of them, something is.

use corewal_model::{CONFIGURATIONS, Configuration, RULES, Rule, Rules, Size, check};

fn holds(name: &str) {
    let configuration = configuration(name);
    let found = check(configuration, Size::Small, Rules::ALL);
    assert!(found.refutation.is_none(), "{name}: {:#?}", found.refutation);
    assert!(found.states > 1000, "{name}: only {} states", found.states);
}

fn configuration(name: &str) -> &'static Configuration {
    CONFIGURATIONS.iter().find(|it| it.name == name).expect("a configuration")
}

macro_rules! configurations_hold {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { holds(stringify!($name)); })*

        #[test]
        fn every_configuration_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert!(CONFIGURATIONS.iter().all(|it| tested.contains(&it.name)));
        }
    };
}

configurations_hold![
    epochs, causes, flight, syncs, files, damage, witnesses, manifests, truncation, release,
    reader, room,
];

#[test]
fn every_rule_that_is_left_out_is_refuted() {
    for configuration in CONFIGURATIONS {
        for &rule in configuration.rules {
            let found = check(configuration, Size::Small, Rules::ALL.without(rule));
            assert!(found.refutation.is_some(), "{rule:?} in {}", configuration.name);
        }
    }
}

/// Each rule stands in the table once, and in one configuration.
#[test]
fn every_rule_belongs_to_one_configuration() {
    for (index, (rule, ..)) in RULES.iter().enumerate() {
        let in_configurations = CONFIGURATIONS.iter().flat_map(|it| it.rules);
        assert_eq!(in_configurations.filter(|it| *it == rule).count(), 1, "{rule:?}");
        assert_eq!(*rule as usize, index, "the table is in the order of the rules");
        assert!(Rules::ALL.has(*rule) && !Rules::ALL.without(*rule).has(*rule));
    }
    let known: Vec<Rule> = RULES.iter().map(|(rule, ..)| *rule).collect();
    assert!(CONFIGURATIONS.iter().flat_map(|it| it.rules).all(|rule| known.contains(rule)));
}

/// All histories of docs/DURABILITY.md are there.
#[test]
fn every_history_is_covered() {
    for history in 1..=26 {
        assert!(RULES.iter().any(|(_, it, _)| *it == history), "history {history}");
    }
}
