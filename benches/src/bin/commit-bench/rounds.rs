//! Runs a plan: a process for each cell, in rounds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use corewal_benches::Anything;
use corewal_benches::cell::{Answer, OtherLog};
use corewal_benches::machine::Machine;
use corewal_benches::work::Work;

use crate::judge::{is_better, judge, median};
use crate::plan::{Group, Others, Plan};
use crate::run::{GroupRun, Kind, Run, WayRun};

/// Passes over the bare loops that choose the floor.
const CALIBRATIONS: usize = 3;
/// What must be left on the disk besides all that a run writes, in bytes.
const DISK_RESERVE: u64 = 2 << 30;

/// A program that measures cells.
#[derive(Clone, Debug)]
struct Program {
    path: PathBuf,
}

/// A way, and who measures it.
struct Entrant {
    way: String,
    kind: Kind,
    program: Program,
}

/// A group while it is measured.
struct Contest<'a> {
    group: &'a Group,
    entrants: Vec<Entrant>,
    dir: PathBuf,
    run: GroupRun,
}

/// Measures the plan in `dir`.
pub(crate) fn measure(plan: &Plan, dir: &Path, others: Option<&Path>) -> Result<Run, Anything> {
    let machine = Machine::of(dir)?;
    println!("{machine}");
    let temp = tempfile::tempdir_in(dir)?;
    let began_s = now_s()?;
    let own = Program { path: std::env::current_exe()? };
    let others = match others {
        None => Vec::new(),
        Some(path) => other_logs(path)?,
    };
    check_disk(plan, temp.path(), others.len())?;
    let mut contests = Vec::new();
    for group in &plan.groups {
        contests.push(Contest::prepare(group, temp.path(), &own, &others)?);
    }
    let mut loads = vec![load()];
    for round in 0..plan.rounds {
        for contest in &mut contests {
            if round < contest.group.rounds {
                contest.round(round);
            }
        }
        loads.push(load());
        eprintln!("round {} of {}, load {:.1}", round + 1, plan.rounds, loads[loads.len() - 1]);
    }
    let groups: Vec<GroupRun> = contests.into_iter().map(|it| it.run).collect();
    let verdicts = plan.goals.iter().map(|goal| judge(goal, &groups)).collect();
    Ok(Run {
        machine,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        preset: plan.name.to_owned(),
        began_s,
        ended_s: now_s()?,
        loads,
        rounds: plan.rounds,
        groups,
        verdicts,
    })
}

impl<'a> Contest<'a> {
    /// Builds what the group needs, and chooses its floor.
    fn prepare(
        group: &'a Group,
        temp: &Path,
        own: &Program,
        others: &[(Program, OtherLog)],
    ) -> Result<Self, Anything> {
        let dir = temp.join(group.work.to_string());
        std::fs::create_dir(&dir)?;
        let own_way = |way: &String, kind| Entrant { way: way.clone(), kind, program: own.clone() };
        let mut entrants: Vec<Entrant> =
            group.ways.iter().map(|it| own_way(it, Kind::Corewal)).collect();
        if group.others == Others::TakePart {
            for (program, log) in others {
                let kind = if log.is_durable { Kind::Other } else { Kind::Unsynced };
                entrants.push(Entrant { way: log.name.clone(), kind, program: program.clone() });
            }
        }
        let run = GroupRun {
            work: group.work.to_string(),
            columns: group.columns.clone(),
            floor: None,
            calibration: Vec::new(),
            ways: Vec::new(),
            failures: Vec::new(),
        };
        let mut this = Self { group, entrants, dir, run };
        if let Work::Recovery(image) = group.work {
            this.build(Work::Build(image));
        }
        let floors: Vec<Entrant> = group.floors.iter().map(|it| own_way(it, Kind::Floor)).collect();
        if let Some(floor) = this.calibrate(floors) {
            this.run.floor = Some(floor.way.clone());
            this.entrants.push(floor);
        }
        this.entrants.extend(group.trials.iter().map(|it| own_way(it, Kind::Trial)));
        let way_run = |it: &Entrant| WayRun {
            way: it.way.clone(),
            kind: it.kind,
            outcomes: Default::default(),
            skipped: None,
        };
        this.run.ways = this.entrants.iter().map(way_run).collect();
        Ok(this)
    }

    /// Builds the log that each entrant recovers. One that cannot takes no part.
    fn build(&mut self, work: Work) {
        let entrants = std::mem::take(&mut self.entrants);
        for entrant in entrants {
            match self.cell(&entrant, work) {
                Ok(Answer::Measured(_)) => self.entrants.push(entrant),
                Ok(Answer::Skipped(why)) => {
                    self.run.calibration.push(format!("{} is left out: {why}", entrant.way));
                }
                Err(error) => self.run.failures.push(format!("{} {work}: {error}", entrant.way)),
            }
        }
    }

    /// The best of the bare loops, by the median of a few passes.
    fn calibrate(&mut self, floors: Vec<Entrant>) -> Option<Entrant> {
        let figure = *self.group.columns.first()?;
        let mut measured = vec![Vec::new(); floors.len()];
        let passes = if floors.len() > 1 { CALIBRATIONS } else { 0 };
        for pass in 0..passes {
            for place in 0..floors.len() {
                let index = (pass + place) % floors.len();
                match self.cell(&floors[index], self.group.work) {
                    Ok(Answer::Measured(outcome)) => {
                        measured[index].extend(outcome.figures.get(&figure).copied());
                    }
                    Ok(Answer::Skipped(why)) if pass == 0 => {
                        let way = &floors[index].way;
                        self.run.calibration.push(format!("{way} is left out: {why}"));
                    }
                    Ok(Answer::Skipped(_)) => {}
                    Err(error) => {
                        self.run.failures.push(format!("{}: {error}", floors[index].way));
                    }
                }
            }
        }
        let mut best: Option<(usize, f64)> = None;
        for (index, values) in measured.iter().enumerate().filter(|it| !it.1.is_empty()) {
            let value = median(values);
            self.run.calibration.push(format!(
                "{}: {}",
                floors[index].way,
                crate::report::number(value)
            ));
            if best.is_none_or(|(_, best)| is_better(figure, value, best)) {
                best = Some((index, value));
            }
        }
        let index = if floors.len() == 1 { 0 } else { best?.0 };
        floors.into_iter().nth(index)
    }

    /// Measures every way once, beginning with another one in each round.
    fn round(&mut self, round: usize) {
        let count = self.entrants.len();
        for place in 0..count {
            let index = (round + place) % count;
            if self.run.ways[index].skipped.is_some() {
                continue;
            }
            let answer = self.cell(&self.entrants[index], self.group.work);
            let way = &mut self.run.ways[index];
            match answer {
                Ok(Answer::Measured(outcome)) => {
                    way.outcomes.insert(round, outcome);
                }
                Ok(Answer::Skipped(why)) => way.skipped = Some(why),
                Err(error) => {
                    let text =
                        format!("{} {}, round {}: {error}", way.way, self.run.work, round + 1);
                    eprintln!("FAILED: {text}");
                    self.run.failures.push(text);
                }
            }
        }
    }

    fn cell(&self, entrant: &Entrant, work: Work) -> Result<Answer, Anything> {
        let output = Command::new(&entrant.program.path)
            .arg("cell")
            .arg("--dir")
            .arg(&self.dir)
            .args(["--way", &entrant.way, "--work", &work.to_string()])
            .args(["--time-ms", &self.group.time_ms.to_string()])
            .args(["--room-mib", &self.group.room_mib.to_string()])
            .stderr(Stdio::piped())
            .output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}", output.status, text.trim()).into());
        }
        // Other logs may print something of their own first.
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().last().ok_or("a cell without an answer")?;
        Ok(serde_json::from_str(line)?)
    }
}

/// What the program for other logs can measure.
fn other_logs(path: &Path) -> Result<Vec<(Program, OtherLog)>, Anything> {
    let output = Command::new(path).arg("logs").output()?;
    if !output.status.success() {
        return Err(format!("{} logs: {}", path.display(), output.status).into());
    }
    let logs: Vec<OtherLog> = serde_json::from_slice(&output.stdout)?;
    let program = Program { path: path.to_owned() };
    Ok(logs.into_iter().map(|it| (program.clone(), it)).collect())
}

/// Refuses a run whose logs would not fit.
fn check_disk(plan: &Plan, dir: &Path, others: usize) -> Result<(), Anything> {
    let images: u64 = plan
        .groups
        .iter()
        .filter_map(|it| match it.work {
            Work::Recovery(image) => {
                let others = if it.others == Others::TakePart { others as u64 } else { 0 };
                // With what is prepared ahead.
                Some((u64::from(image.mib) + 256) * (1 + others))
            }
            _ => None,
        })
        .sum();
    // A cell of another log may be on a file that grows, and one of corewal has a second segment.
    let cell = plan.groups.iter().map(|it| it.room_mib * 3 + 2048).max().unwrap_or(0);
    let needed = ((images + cell) << 20) + DISK_RESERVE;
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(dir).output();
    let Ok(output) = output else { return Ok(()) };
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(free) = text.lines().nth(1).and_then(|it| it.trim().parse::<u64>().ok()) else {
        return Ok(());
    };
    if free < needed {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let text = format!("{:.1} GiB are free, {:.1} are needed", gib(free), gib(needed));
        return Err(text.into());
    }
    Ok(())
}

fn now_s() -> Result<u64, Anything> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// Processes that run or wait for the disk, averaged over a minute; 0 where that is not told.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ImageSizes, Preset, SUBJECT};

    #[test]
    fn every_group_measures_the_subject_or_is_one_of_floors() {
        for preset in [Preset::Quick, Preset::Full] {
            let plan = Plan::new(preset, ImageSizes { small: 64, large: 128 });
            assert!(plan.rounds >= 15);
            for group in &plan.groups {
                let is_floor = |it| group.floors.contains(it) || group.ways.contains(it);
                assert!(!group.trials.iter().any(is_floor), "{}", group.work);
                assert!(group.ways.iter().any(|it| it == SUBJECT), "{}", group.work);
                assert!(!group.columns.is_empty(), "{}", group.work);
            }
        }
    }
}
