//! `corewal repair`: what a damaged log still holds, kept; what it has lost, named; nothing deleted.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use corewal::salvage::{self, Lost, Origin, Report, Restored, Restoring, Salvage, SalvageError};
use corewal::{Kind, Options, RecoverError, inspect};
use serde_json::{Value, json};

use crate::confirm::{Consent, confirm};
use crate::options::Place;
use crate::payload::{kind_name, write_json};
use crate::trouble::{Exit, Trouble, quiet};

/// Save what a damaged log still holds: every batch that verifies stays, what is lost is named, nothing is deleted.
///
/// Damaged files are copied into a folder of the log, `salvage-<generation>`, before anything is changed; then one
/// manifest ends every run and leaves out what does not verify. The log can be replayed and appended to afterwards.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Repair {
    #[command(flatten)]
    place: Place,

    /// Say what would be done, and change nothing; exits 3 if there is damage
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    /// Write the entries of damaged batches whose own checksums hold to this new file, one JSON object each
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

const HELP: &str = "\
Exits 0 if the log is repaired or nothing is to be done, 1 if it was not agreed to, 2 if nobody could be asked, 3 if a
dry run found damage or damage remains.

Examples:
  corewal repair --dir wal --dry-run
  corewal repair --dir wal --export torn-entries.jsonl
  corewal repair --dir wal --yes --json > repair.json";

/// What became of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Sound,
    Planned,
    Repaired,
}

impl Repair {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        // Before the lock, which would leave its file in a directory that is no log.
        if let Ok(None) = inspect::manifest(&Options::new(&self.place.dir)) {
            return Err(RecoverError::NoLog { dir: self.place.dir.clone() }.into());
        }
        let plan = match salvage::plan(&Options::new(&self.place.dir)) {
            Ok(plan) => plan,
            Err(SalvageError::Sound) => return self.say(Outcome::Sound, None),
            Err(error) => return Err(error.into()),
        };
        if let Some(file) = &self.export {
            export(&plan, file)?;
        }
        if self.dry_run {
            self.say(Outcome::Planned, Some(plan.report()))?;
            return Err(Trouble::new(Exit::Damage, "the log is damaged")
                .with("nothing was changed; without --dry-run it is repaired as shown"));
        }
        if !self.consent.is_given() {
            // The document goes to scripts; people read the plan before they agree to it. If they cannot, they
            // cannot be asked either.
            let _ = show(&mut io::stderr().lock(), plan.report());
        }
        confirm(self.consent, "Repair the log as shown?")
            .map_err(|trouble| trouble.with("the log is still damaged"))?;
        let report = plan.carry_out()?;
        self.say(Outcome::Repaired, Some(&report))
    }

    fn say(&self, outcome: Outcome, report: Option<&Report>) -> Result<(), Trouble> {
        let mut out = BufWriter::new(io::stdout().lock());
        let said = if self.json {
            writeln!(out, "{:#}", document(outcome, report))
        } else {
            self.tell(&mut out, outcome, report)
        };
        said.and_then(|()| out.flush()).or_else(quiet).map_err(|error| Trouble::output(&error))
    }

    fn tell(
        &self,
        out: &mut impl Write,
        outcome: Outcome,
        report: Option<&Report>,
    ) -> io::Result<()> {
        let Some(report) = report else {
            return writeln!(out, "nothing to repair: the log recovers without damage");
        };
        if outcome == Outcome::Planned || self.consent.is_given() {
            show(out, report)?;
        }
        if outcome == Outcome::Repaired {
            writeln!(
                out,
                "repaired: the log is as generation {} of its manifest says; what was damaged is in {}",
                report.generation,
                report.folder.display()
            )?;
        }
        Ok(())
    }
}

/// Writes what can be read of damaged batches.
fn export(plan: &Salvage, path: &PathBuf) -> Result<(), Trouble> {
    let failed =
        |error: io::Error| Trouble::world(format_args!("cannot write {}: {error}", path.display()));
    let mut out = BufWriter::new(File::create_new(path).map_err(failed)?);
    for batch in plan.report().lost.iter().flat_map(|lost| &lost.broken) {
        let entries = plan.intact_entries(batch)?;
        for entry in entries.iter().filter(|it| it.kind != Kind::BARRIER) {
            let stamp = entry.stamp;
            let kind = match kind_name(entry.kind) {
                Some(name) => format!("\"{name}\""),
                None => entry.kind.0.to_string(),
            };
            let (epoch, seq, shard) = (stamp.epoch, stamp.seq, stamp.shard);
            let head = format!(
                r#"{{"epoch":{epoch},"seq":{seq},"shard":{shard},"kind":{kind},"payload":"#
            );
            out.write_all(head.as_bytes())
                .and_then(|()| write_json(&mut out, &entry.bytes))
                .and_then(|()| out.write_all(b"}\n"))
                .map_err(failed)?;
        }
    }
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed)
}

fn show(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "log {}", report.log)?;
    for trouble in &report.manifests {
        match &trouble.cause {
            None => writeln!(out, "manifest {}: missing", trouble.path.display())?,
            Some(cause) => writeln!(out, "manifest {}: {cause}", trouble.path.display())?,
        }
    }
    writeln!(out, "goes on from {}", origin(report.origin))?;
    for lost in &report.lost {
        show_lost(out, lost)?;
    }
    for Restored { shard, segment, fault, how, .. } in &report.restored {
        write!(out, "put right: segment {shard}-{:06}: {fault}: ", segment.0)?;
        match how {
            Restoring::Header { like: Some((shard, number)) } => {
                let number = number.0;
                writeln!(out, "header from its batches, schema from segment {shard}-{number:06}")?;
            }
            Restoring::Header { like: None } => {
                writeln!(out, "header from its batches, without a schema")?;
            }
            Restoring::Length => writeln!(out, "zeros up to its length")?,
            _ => writeln!(out)?,
        }
    }
    for kept in &report.kept {
        let (shard, entries, batches) = (kept.shard, kept.entries, kept.batches);
        writeln!(
            out,
            "kept: shard {shard}: {entries} entries in {batches} batches, up to seq {}",
            kept.last_seq
        )?;
    }
    let (before, after) = (report.committed_before, report.committed_after);
    if before == after {
        writeln!(out, "committed epoch {after}")?;
    } else {
        writeln!(
            out,
            "committed epoch {after}, was {before}: later ones are not complete any more"
        )?;
    }
    for copy in &report.copies {
        writeln!(out, "copied to {}: {}", report.folder.display(), copy.display())?;
    }
    Ok(())
}

fn show_lost(out: &mut impl Write, lost: &Lost) -> io::Result<()> {
    let (first, last) = lost.seqs;
    write!(out, "lost: shard {}, ", lost.shard())?;
    match last {
        Some(last) if last < first => write!(out, "no entry")?,
        Some(last) if last == first => write!(out, "seq {first}")?,
        Some(last) => write!(out, "seqs {first} to {last}")?,
        None => write!(out, "seqs from {first} on")?,
    }
    write!(out, ", {} bytes: {}: {}", lost.bytes, lost.at, lost.reason)?;
    match &lost.witness {
        Some(witness) => writeln!(out, ", though {witness}")?,
        None => writeln!(out)?,
    }
    for batch in &lost.broken {
        let header = &batch.header;
        writeln!(
            out,
            "  batch {}, seqs {} to {}, epoch {}: {}; {} of {} entries verify by themselves",
            header.number,
            header.first_seq,
            header.last_seq(),
            header.epoch,
            batch.fault,
            batch.intact,
            header.entry_count
        )?;
    }
    Ok(())
}

fn origin(origin: Origin) -> String {
    match origin {
        Origin::Newest(generation) => format!("generation {generation} of the manifest"),
        Origin::Survivor(generation) => format!(
            "generation {generation} of the manifest, the only one; what a later one recorded (a checkpoint, a \
             release, a truncation) is not known"
        ),
        _ => "what the segments tell, without a manifest; the last checkpoint is lost, and what was truncated or \
              left out may be back"
            .to_owned(),
    }
}

fn document(outcome: Outcome, report: Option<&Report>) -> Value {
    let outcome = match outcome {
        Outcome::Sound => "sound",
        Outcome::Planned => "planned",
        Outcome::Repaired => "repaired",
    };
    let Some(report) = report else { return json!({ "outcome": outcome }) };
    let manifests = report.manifests.iter().map(|it| {
        json!({
            "path": it.path.display().to_string(),
            "cause": it.cause.as_ref().map_or("missing".to_owned(), ToString::to_string),
        })
    });
    let lost = report.lost.iter().map(|it| {
        let broken = it.broken.iter().map(|batch| {
            json!({
                "batch": batch.header.number.0,
                "at": batch.header.at(),
                "first_seq": batch.header.first_seq.0,
                "last_seq": batch.header.last_seq().0,
                "epoch": batch.header.epoch.0,
                "entries": batch.header.entry_count,
                "intact": batch.intact,
                "fault": batch.fault.to_string(),
            })
        });
        json!({
            "shard": it.shard().0,
            "segment": it.at.segment.0,
            "at": it.at.at,
            "reason": it.reason.to_string(),
            "witness": it.witness.as_ref().map(ToString::to_string),
            "first_batch": it.batches.map(|(first, _)| first.0),
            "last_batch": it.batches.and_then(|(_, last)| last).map(|last| last.0),
            "first_seq": it.seqs.0.0,
            "last_seq": it.seqs.1.map(|last| last.0),
            "bytes": it.bytes,
            "broken": broken.collect::<Value>(),
        })
    });
    let restored = report.restored.iter().map(|it| {
        json!({
            "shard": it.shard.0,
            "segment": it.segment.0,
            "fault": it.fault.to_string(),
            "what": match it.how {
                Restoring::Header { .. } => "header",
                _ => "length",
            },
        })
    });
    let kept = report.kept.iter().map(|it| {
        json!({
            "shard": it.shard.0,
            "batches": it.batches,
            "entries": it.entries,
            "last_seq": it.last_seq.0,
        })
    });
    json!({
        "outcome": outcome,
        "log": report.log.to_string(),
        "from": origin(report.origin),
        "generation": report.generation.0,
        "manifests": manifests.collect::<Value>(),
        "lost": lost.collect::<Value>(),
        "restored": restored.collect::<Value>(),
        "kept": kept.collect::<Value>(),
        "committed_before": report.committed_before.0,
        "committed_after": report.committed_after.0,
        "folder": report.folder.display().to_string(),
        "copies": report.copies.iter().map(|it| it.display().to_string()).collect::<Value>(),
    })
}

impl From<SalvageError> for Trouble {
    fn from(error: SalvageError) -> Self {
        match error {
            SalvageError::Recover(error) => error.into(),
            SalvageError::Options(_) => Self::new(Exit::Usage, error),
            SalvageError::NoEvidence
            | SalvageError::Contradiction(_)
            | SalvageError::Remains(_)
            | SalvageError::ManifestTooLarge(_) => Self::new(Exit::Damage, error),
            _ => Self::world(error),
        }
    }
}
