//! `corewal inspect`: what stands in a log, and what is damaged.

mod json;
mod page;
mod text;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use corewal::inspect::{Inspection, Remembered, SegmentState, Survey};
use corewal::{Options, RecoverError};

use crate::options::Place;
use crate::trouble::{Trouble, quiet};
use crate::verify::found;

/// Show a log's manifest and segments, its batches and entries, and what is damaged.
///
/// Reads without the log's lock and changes nothing, also beside a live writer. Does not stop at damage: it
/// prints what can be read, names what cannot, and exits 3.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Show every batch: place, seqs, epoch, promises
    #[arg(long)]
    batches: bool,

    /// Show every entry, in its batch
    #[arg(long)]
    entries: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    /// Write a page that draws every block into this file, instead; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "batches", "entries"])]
    html: Option<PathBuf>,
}

const HELP: &str = "\
A segment is `ended` (of a run whose exact end is recorded), `current` (of the run that is being written),
`prepared` (for that run, without a batch yet), `leftover` (of no run; will be used again) or `unknown` (no
manifest tells).

Examples:
  corewal inspect --dir wal
  corewal inspect --dir wal --batches | grep barrier
  corewal inspect --dir wal --html wal.html
  corewal inspect --dir wal --json | jq .manifest.committed_epoch";

/// What is shown of the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    None,
    Batches,
    Entries,
}

/// Why showing ended early.
enum Broken {
    Out(io::Error),
    Log(RecoverError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

impl Inspect {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        if let Some(file) = &self.html {
            return self.write_page(file);
        }
        let inspection = Inspection::read(&Options::new(&self.place.dir))?;
        let detail = match (self.entries, self.batches) {
            (true, _) => Detail::Entries,
            (false, true) => Detail::Batches,
            (false, false) => Detail::None,
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let shown = match self.json {
            true => json::show(&mut out, &inspection, detail),
            false => text::show(&mut out, &inspection, detail),
        };
        let shown = shown.and_then(|()| Ok(out.flush()?));
        match shown {
            Ok(()) => {}
            Err(Broken::Log(error)) => return Err(error.into()),
            Err(Broken::Out(error)) => quiet(error).map_err(|error| Trouble::output(&error))?,
        }
        match inspection.damage() {
            [] => Ok(()),
            [only] => Err(only.clone().into()),
            [first, more @ ..] => Err(Trouble::from(first.clone())
                .with(format_args!("and {} more that were listed", more.len()))),
        }
    }
}

impl Inspect {
    fn write_page(&self, file: &Path) -> Result<(), Trouble> {
        let survey = Survey::read(&Options::new(&self.place.dir))?;
        let page = page::html(&survey, &self.place.dir)?;
        if file == Path::new("-") {
            let mut out = io::stdout().lock();
            let shown = out.write_all(page.as_bytes()).and_then(|()| out.flush());
            shown.or_else(quiet).map_err(|error| Trouble::output(&error))?;
        } else {
            std::fs::write(file, page).map_err(|error| {
                Trouble::world(format_args!("cannot write {}: {error}", file.display()))
            })?;
        }
        found(&survey, &self.place)
    }
}

/// `after-write, measured on 8:1 ...: dsync 190/s alone and 210/s at once, after-write 184/s alone and 640/s at once`
pub(crate) fn remembered_text(answer: &Remembered) -> String {
    let speeds: Vec<String> = answer.speeds.iter().map(ToString::to_string).collect();
    format!("{}, measured on {}: {}", answer.method, answer.device, speeds.join(", "))
}

fn state_name(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Ended => "ended",
        SegmentState::Current => "current",
        SegmentState::Prepared => "prepared",
        SegmentState::Leftover => "leftover",
        _ => "unknown",
    }
}
