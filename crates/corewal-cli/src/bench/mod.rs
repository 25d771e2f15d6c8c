//! `corewal bench`: what durability costs on a directory's own disk.

mod advice;
mod compare;
mod matrix;
mod order;
mod record;
mod report;
mod run;

pub(crate) use report::escape;

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, Subcommand};
use corewal_probe::Cell;

use crate::machine::Machine;
use crate::quantity::parse_size;
use crate::stop;
use crate::style;
use crate::trouble::{Exit, Trouble, quiet};
use matrix::{Filters, Preset};
use record::{Bench, Settings};
use run::Plan;

/// Measure what durability costs on a directory's own disk.
///
/// Bare loops without any log: each cell of a matrix writes blocks and makes them durable by one method. Rounds go over
/// all cells in turn, so that the drift of a shared machine meets all alike; medians over rounds have intervals of 95 %.
#[derive(Debug, Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BenchVerb {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Directory on the disk to be measured; the files that are written there are removed again
    #[arg(long, value_name = "DIR", required = true)]
    dir: Option<PathBuf>,

    /// About 30 seconds: every method once, some depths
    #[arg(long)]
    quick: bool,

    /// The whole matrix: hours; stop it and go on with --resume
    #[arg(long, conflicts_with = "quick")]
    full: bool,

    #[command(flatten)]
    filters: Filters,

    #[command(flatten)]
    pace: Pace,

    #[command(flatten)]
    output: Output,

    /// Measure a file system in memory too; no row of it is durable
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    Compare(compare::Compare),
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How long")]
struct Pace {
    /// Rounds over all cells; from 6 on there are intervals
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,

    /// Time of a cell in a round, in milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    slice_ms: Option<u64>,

    /// Length of each file that is written
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size)]
    file_size: u64,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// Write the run as one document, after each round; an unfinished one can be resumed
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Go on with the unfinished run in the file of --json
    #[arg(long, requires = "json")]
    resume: bool,

    /// Write the table as comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write one self-contained page with all plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write each plot as a file of its own
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

const HELP: &str = "\
Methods: `none` (not durable), `after-write` (fdatasync through the ring after completion), `linked`, `drained`,
`dsync` (RWF_DSYNC), `o-dsync` (O_DSYNC), `fdatasync` (the call). A filter replaces the preset by the product of the
values given; dimensions that are not given stay at one direct block at a time on a zero-filled file (with --full: at
all values).

Examples:
  corewal bench --dir /var/lib/app --quick
  corewal bench --dir /mnt/nvme --json nvme.json --html nvme.html
  corewal bench --dir . --method dsync,linked --depth 1,2,4,8,16,32,64
  corewal bench --dir . --method dsync --rate 1000,5000
  corewal bench --dir . --full --json full.json --resume
  corewal bench compare nvme.json cloud.json";

/// A preset's time.
const QUICK: Duration = Duration::from_secs(28);

impl BenchVerb {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        if let Some(Verb::Compare(compare)) = &self.verb {
            return compare.run();
        }
        let dir = self.dir.as_deref().expect("clap requires it where there is no subcommand");
        let preset = match (self.quick, self.full) {
            (true, _) => Preset::Quick,
            (_, true) => Preset::Full,
            _ => Preset::Default,
        };
        let cells = self.filters.cells(preset).map_err(|why| Trouble::new(Exit::Usage, why))?;
        let settings = self.settings(preset)?;
        let stop = stop::flag()?;
        let machine = Machine::of(dir).map_err(|error| {
            let trouble = Trouble::world(format_args!("{}: {error}", dir.display()));
            if error.kind() == io::ErrorKind::NotFound {
                trouble.with("make the directory first")
            } else {
                trouble
            }
        })?;
        if machine.is_in_memory() && !self.force {
            let text = format!(
                "{} is on {}: nothing is durable there",
                dir.display(),
                machine.file_system
            );
            return Err(Trouble::world(text).with("name a directory on a disk, or give --force"));
        }
        let cells = match machine.direct_align_bytes {
            Some(_) => cells,
            None => self.filters.without_direct(cells),
        };
        let mut bench = self.begin(machine, settings, &cells)?;
        let plan = Plan {
            dir,
            json: self.output.json.as_deref(),
            time: (preset == Preset::Quick).then_some(QUICK),
            stop,
            progress: io::stderr().is_terminal(),
        };
        run::run(&mut bench, &plan)?;
        self.output.write(&bench)?;
        if stop.load(Ordering::Relaxed) {
            let hint = match &self.output.json {
                Some(_) => "go on with --resume",
                None => "with --json FILE a run can be resumed",
            };
            return Err(Trouble::world("stopped; the report has what was measured").with(hint));
        }
        Ok(())
    }

    fn settings(&self, preset: Preset) -> Result<Settings, Trouble> {
        let (rounds, slice_ms) = match preset {
            Preset::Quick => (15, 40),
            Preset::Default => (11, 150),
            Preset::Full => (9, 200),
        };
        let file_bytes = self.pace.file_size;
        if file_bytes < 1 << 20 || !file_bytes.is_multiple_of(1 << 20) {
            return Err(Trouble::new(
                Exit::Usage,
                "--file-size is a whole number of MiB, at least one",
            ));
        }
        Ok(Settings {
            preset: preset.name().into(),
            rounds: self.pace.rounds.map_or(rounds, usize::from),
            slice_ms: self.pace.slice_ms.unwrap_or(slice_ms),
            file_bytes,
        })
    }

    /// A new run, or the unfinished one to go on with.
    fn begin(
        &self,
        machine: Machine,
        settings: Settings,
        cells: &[Cell],
    ) -> Result<Bench, Trouble> {
        let fresh = Bench::new(machine, settings, Vec::new(), cells);
        let Some(path) = self.output.json.as_deref().filter(|it| it.exists()) else {
            return Ok(fresh);
        };
        if !self.output.resume {
            return match Bench::load(path) {
                Ok(known) if !known.complete => {
                    let text = format!("{} holds an unfinished run", path.display());
                    Err(Trouble::new(Exit::Usage, text)
                        .with("give --resume to go on with it, or remove it"))
                }
                _ => Ok(fresh),
            };
        }
        let known = Bench::load(path).map_err(Trouble::world)?;
        let different = |what: &str| {
            let text = format!("{} is of another {what}", path.display());
            Err(Trouble::new(Exit::Usage, text)
                .with("resume with the same options, in the same place"))
        };
        if known.machine != fresh.machine {
            return different("machine or directory");
        }
        let specs =
            |bench: &Bench| bench.cells.iter().map(|row| row.cell.clone()).collect::<Vec<_>>();
        if known.settings != fresh.settings || specs(&known) != specs(&fresh) {
            return different("choice of cells or settings");
        }
        Ok(known)
    }
}

impl Output {
    fn write(&self, bench: &Bench) -> Result<(), Trouble> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| Trouble::world(format_args!("{path}: {error}"))
        };
        if let Some(path) = &self.csv {
            report::csv(bench, path).map_err(failed(path))?;
        }
        if let Some(path) = &self.html {
            fs::write(path, report::html(bench)).map_err(failed(path))?;
        }
        if let Some(dir) = &self.svg {
            fs::create_dir_all(dir).map_err(failed(dir))?;
            for (name, text) in report::svgs(bench) {
                let path = dir.join(name);
                fs::write(&path, text).map_err(failed(&path))?;
            }
        }
        let mut out = BufWriter::new(style::stdout());
        let shown = report::text(&mut out, bench).and_then(|()| out.flush());
        shown.or_else(quiet).map_err(|error| Trouble::output(&error))
    }
}
