//! docs/OPERATING.md, followed by the letter: every command is run, in order, and prints what stands there.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{CODE_DAMAGE, CODE_GOOD, CODE_WORLD, Place, flip};

/// A command of the documentation, and what is printed below it.
#[derive(Debug)]
struct Step {
    heading: String,
    command: String,
    printed: Vec<String>,
}

fn steps() -> Vec<Step> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/OPERATING.md");
    let text = std::fs::read_to_string(path).expect("the documentation is there");
    let mut steps: Vec<Step> = Vec::new();
    let (mut heading, mut is_code) = (String::new(), false);
    // Whether a command stands above, in the same piece of code.
    let mut is_printed = false;
    for line in text.lines() {
        let line = line.trim_start_matches("   ");
        match (is_code, line.strip_prefix("$ ")) {
            (_, _) if line.starts_with("```") => (is_code, is_printed) = (!is_code, false),
            (true, Some(command)) => {
                let (heading, command) = (heading.clone(), command.to_owned());
                steps.push(Step { heading, command, printed: Vec::new() });
                is_printed = true;
            }
            (true, None) => {
                if let Some(step) = steps.last_mut().filter(|_| is_printed) {
                    step.printed.push(line.to_owned());
                }
            }
            (false, _) => {
                if let Some(name) = line.strip_prefix("## ") {
                    name.clone_into(&mut heading);
                }
            }
        }
    }
    steps
}

/// Where the commands are run.
struct Scratch {
    place: Place,
    is_damaged: bool,
}

impl Scratch {
    fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// The same for less time, in here, and agreed to.
    fn adapted(&self, command: &str) -> String {
        let root = self.path("");
        let root = root.display();
        let mut command = command.replace("/var/lib/app", &format!("{root}app"));
        command = command.replace("/mnt/other", &format!("{root}other"));
        command = command.replace("--seconds 600", "--seconds 3 --segment-size 256KiB");
        command = command.replace("--quick", "--quick --rounds 1 --slice-ms 1 --file-size 1MiB");
        let asks = ["release", "truncate", "repair"]
            .iter()
            .any(|it| command.contains(&format!("corewal {it} ")));
        if asks && !command.contains("--dry-run") {
            command += " --yes";
        }
        command
    }

    fn shell(&self, command: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_corewal"));
        let folder = binary.parent().expect("it lies in a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        // `exec`, so that who is killed is the command and not the shell.
        let command = if command.contains(['|', '&']) {
            command.to_owned()
        } else {
            format!("exec {command}")
        };
        shell
            .args(["-c", &command])
            .current_dir(self.path(""))
            .env("PATH", format!("{folder}:{path}"));
        shell.stdin(Stdio::null());
        shell
    }

    /// What the log must end with.
    fn code(&self, command: &str) -> Option<i32> {
        let is = |verb: &str| command.starts_with(&format!("corewal {verb} "));
        match () {
            // Nothing of a committed epoch can be cut off.
            () if is("truncate") => CODE_WORLD,
            () if is("repair") && !command.contains("--dry-run") => CODE_GOOD,
            () if self.is_damaged && !command.starts_with("cp ") => CODE_DAMAGE,
            () => CODE_GOOD,
        }
    }

    /// The last byte of the padding of a batch of shard 0.
    fn damage(&mut self) {
        let output = self.shell("corewal inspect --dir wal --json --batches").output();
        let output = output.expect("it runs");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let batches = document["batches"].as_array().expect("batches");
        // The first of a segment behind the first, and one that holds more than a barrier.
        let is_first = |it: &serde_json::Value| {
            let is_behind = it["segment"].as_u64().is_some_and(|number| number > 1);
            let has_lines = it["entry_count"].as_u64().is_some_and(|count| count > 1);
            it["shard"] == 0 && is_behind && it["at"] == 8192 && has_lines
        };
        let first = batches.iter().find(|it| is_first(it)).expect("a second segment");
        let number = |name: &str| first[name].as_u64().expect("a number");
        let at = usize::try_from(number("at") + number("bytes") - 1).expect("small");
        let segment = format!("wal/shard-0000/{:010}.seg", number("segment"));
        flip(&self.path(&segment), at);
        self.is_damaged = true;
    }

    fn copy(&self, from: &str, to: &str) {
        let done = self.shell(&format!("rm -rf {to} && cp -a {from} {to}")).status();
        assert!(done.expect("it runs").success());
    }
}

/// Without what differs from run to run: numbers, ids, the engine, room between columns.
fn stable(line: &str) -> String {
    // What this machine lacks stands after the engine's name.
    let line = match (line.find(", engine "), line.find(", epochs closed ")) {
        (Some(from), Some(to)) if from < to => [&line[..from], ", engine", &line[to..]].concat(),
        _ => line.replace("engine blocking", "engine uring"),
    };
    let words = line.split_whitespace().map(|word| {
        let core = word.trim_matches([':', ',', ';']);
        if core.len() == 32 && core.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return word.replace(core, "ID");
        }
        let mut out = String::new();
        for letter in word.chars() {
            match letter {
                '0'..='9' if out.ends_with('N') => {}
                '0'..='9' => out.push('N'),
                other => out.push(other),
            }
        }
        out.replace("N.N", "N")
    });
    // How many entries share a batch depends on how fast the disk was: it may be one.
    words.collect::<Vec<_>>().join(" ").replace("seqs N to N", "seq N")
}

/// Every line of the documentation is printed, in this order; others may stand between.
fn compare(step: &Step, output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let mut printed = text.lines().map(stable);
    for line in &step.printed {
        let line = stable(line);
        assert!(printed.any(|it| it == line), "{}: no line {line:?} in\n{text}", step.command);
    }
}

/// A command that follows a log does not end: reads what it shows first.
fn follow(scratch: &Scratch, command: &str) {
    let mut child = scratch.shell(command).stdout(Stdio::piped()).spawn().expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let shown: Vec<String> = lines.take(5).map(|it| it.expect("text")).collect();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(shown.len() == 5 && shown.iter().all(|it| it.starts_with('{')), "{shown:?}");
}

#[test]
fn every_command_of_the_guide_runs_and_prints_what_it_says() {
    let steps = steps();
    assert!(steps.len() > 20, "{} commands", steps.len());
    let mut scratch = Scratch { place: Place::new(), is_damaged: false };
    for folder in ["app", "other"] {
        std::fs::create_dir(scratch.path(folder)).expect("a directory");
    }
    for step in &steps {
        if step.heading == "When a log is refused" && !scratch.is_damaged {
            scratch.copy("wal-as-made", "wal");
            scratch.damage();
        }
        let command = scratch.adapted(&step.command);
        if command.contains(" -f ") {
            follow(&scratch, &command);
            continue;
        }
        let output = scratch.shell(&command).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), scratch.code(&step.command), "{command}: {stderr}");
        compare(step, &output);
        if step.command.starts_with("corewal repair ") && !step.command.contains("--dry-run") {
            scratch.is_damaged = false;
        }
        if step.command.starts_with("corewal append ") && !scratch.path("wal-as-made").exists() {
            scratch.copy("wal", "wal-as-made");
        }
    }
    assert!(!scratch.is_damaged, "the guide ends with a log that was repaired");
    let replayed = std::fs::read_to_string(scratch.path("replayed.tsv")).expect("it was replayed");
    assert!((500..600).contains(&replayed.lines().count()), "{}", replayed.lines().count());
}
