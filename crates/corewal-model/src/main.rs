//! Runs the model, prints what it found, and writes docs/MODEL.md.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use corewal_model::{CONFIGURATIONS, Configuration, RULES, Rule, Rules, Size, check};

const USAGE: &str =
    "usage: corewal-model [--bounds small|large] [--only CONFIGURATION] [--write FILE]

  --bounds small   every configuration with all rules, then without each of its rules (the default)
  --bounds large   every configuration with all rules, within larger bounds
  --only NAME      this configuration only
  --write FILE     also write the report of the small bounds to FILE (docs/MODEL.md)";

fn main() -> ExitCode {
    let mut size = Size::Small;
    let mut only = None;
    let mut file = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--bounds", Some(bounds)) if bounds == "small" => size = Size::Small,
            ("--bounds", Some(bounds)) if bounds == "large" => size = Size::Large,
            ("--only", Some(name)) if CONFIGURATIONS.iter().any(|it| it.name == name) => {
                only = Some(name);
            }
            ("--write", Some(path)) => file = Some(path),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let chosen =
        CONFIGURATIONS.iter().filter(|it| only.as_ref().is_none_or(|name| name == it.name));
    let mut report = Report::default();
    for configuration in chosen {
        report.run(configuration, size);
    }
    println!("{} states in all", report.states);
    let is_sound = report.is_sound;
    if let Some(path) = file
        && let Err(error) = std::fs::write(&path, report.document())
    {
        eprintln!("{path}: {error}");
        return ExitCode::from(1);
    }
    if is_sound { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// What was found, as text.
struct Report {
    is_sound: bool,
    states: usize,
    table: String,
    /// By history, so that they can be put in order.
    traces: Vec<(u8, String)>,
}

impl Default for Report {
    fn default() -> Self {
        Self { is_sound: true, states: 0, table: String::new(), traces: Vec::new() }
    }
}

impl Report {
    fn run(&mut self, configuration: &Configuration, size: Size) {
        let name = configuration.name;
        let began = Instant::now();
        let found = check(configuration, size, Rules::ALL);
        self.states += found.states;
        let states = found.states;
        println!("{name}: {states} states, {} steps, {:.1?}", found.depth, began.elapsed());
        if let Some(refutation) = found.refutation {
            self.is_sound = false;
            println!("  VIOLATION with all rules in force: {}", refutation.property);
            for step in refutation.steps {
                println!("    {step}");
            }
            return;
        }
        let rules: Vec<_> = configuration.rules.iter().map(|rule| format!("`{rule:?}`")).collect();
        let _ = writeln!(
            self.table,
            "| {name} | {} | {states} | {} | {} |",
            configuration.about,
            found.depth,
            rules.join(", ")
        );
        if size == Size::Small {
            for &rule in configuration.rules {
                self.run_without(configuration, rule);
            }
        }
    }

    fn run_without(&mut self, configuration: &Configuration, rule: Rule) {
        let found = check(configuration, Size::Small, Rules::ALL.without(rule));
        let Some(refutation) = found.refutation else {
            self.is_sound = false;
            println!("  NOT REFUTED without {rule:?}");
            return;
        };
        println!("  without {rule:?}: {} ({} steps)", refutation.property, refutation.steps.len());
        let Some(&(_, history, statement)) = RULES.iter().find(|(it, ..)| *it == rule) else {
            return;
        };
        let mut text = format!(
            "### {rule:?}\n\nThe rule: {statement}. Configuration *{}*. Without it this does not hold: *{}*.\n\n",
            configuration.name, refutation.property
        );
        for step in refutation.steps {
            println!("    {step}");
            let _ = writeln!(text, "1. {step}");
        }
        self.traces.push((history, text));
    }

    fn document(mut self) -> String {
        // Those without a history, which are defects of earlier logs, come last.
        self.traces.sort_by_key(|(history, _)| history.wrapping_sub(1));
        let mut text = format!("{HEAD}{TABLE}{}", self.table);
        let mut last = None;
        for (history, trace) in self.traces {
            if last != Some(history) {
                let _ = match history {
                    0 => writeln!(text, "\n## Defects of earlier logs"),
                    _ => writeln!(text, "\n## History {history}"),
                };
                last = Some(history);
            }
            let _ = write!(text, "\n{trace}");
        }
        text
    }
}

const HEAD: &str = "# The protocol model

Written by a program; do not edit. The command, at the root of the repository:

```
cargo run --release -p corewal-model -- --write docs/MODEL.md
```

`crates/corewal-model` runs the protocol of the log exhaustively within small bounds: shards, batches, promises,
runs, manifests, epochs, truncation, release, power cuts, kills, damage. Its documentation (`cargo doc -p
corewal-model --open`) states the protocol. With all rules in force no history breaks a property; without any
single rule some history does, and a shortest one stands below. Larger bounds, with all rules in force:

```
cargo run --release -p corewal-model -- --bounds large
```

A and B are shards; batches, segments and blocks are numbered. Histories and defects are those of
[DURABILITY.md](DURABILITY.md).

The model found one history that was not in the list: *VouchesLeaveRoomForBarriers*, under history 24. A reserve of one
block for each barrier of the pipelining bound and one for a vouch is not enough while a vouch may take a barrier's
block, since an idle shard may write two: one for its acknowledgements, and one for a committed epoch.

What it also made plain: the window of `depth` batches in the honest limit is about damage inside files. If the highest
file of a current run disappears, so do the promises in it, and everything acknowledged in it reads as never written. A
prepared file above it, which is there unless preparing has failed, makes that damage too.

";

const TABLE: &str = "## Configurations

| configuration | what it runs | states | longest history | rules that it refutes the absence of |
|---|---|---|---|---|
";
