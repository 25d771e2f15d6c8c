//! `corewal dump`: every entry that verifies, shard by shard, also of a damaged log.

use std::io::{self, BufWriter, Write};
use std::ops::RangeInclusive;

use clap::{Args, ValueEnum};
use corewal::inspect::{Content, EntryFlags, EntryView, Proof, Stretch, Survey, SurveyedSegment};
use corewal::{Kind, Options, RecoverError};

use crate::damage;
use crate::options::{Place, check_surveyed_shard};
use crate::payload::{kind_name, kind_text, write_escaped, write_json};
use crate::trouble::{Trouble, quiet, remark};
use crate::verify::found;

/// Print every entry that verifies, with where it stands: shard by shard, segment by segment.
///
/// Other than `replay`, it shows the engine's own entries too, does not merge, and goes on behind damage: standard error
/// says where something is missing. Reads without the log's lock and changes nothing.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) place: Place,

    /// What is printed for an entry
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "jsonl")]
    format: Format,

    /// Only this shard
    #[arg(long, value_name = "SHARD")]
    shard: Option<u16>,

    /// Only these epochs: `7`, `7..9`, `7..`, `..9`, both ends included
    #[arg(long, value_name = "RANGE", value_parser = parse_range)]
    epoch: Option<RangeInclusive<u64>>,

    /// Only these seqs, in the same way
    #[arg(long, value_name = "RANGE", value_parser = parse_range)]
    seq: Option<RangeInclusive<u64>>,

    /// Only this kind: put, delete, commit, checkpoint, barrier, or a number
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Option<Kind>,

    /// Only entries whose epoch is committed
    #[arg(long)]
    committed: bool,

    /// Also what verifies and does not count: void, behind the end of its run, or in no run
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object
    Jsonl,
    /// shard, segment, offset of the batch, batch, epoch, seq, kind, state and payload, with tabs between them
    Tsv,
    /// A line about the entry, then the bytes of its payload as `xxd` shows them
    Hex,
}

const HELP: &str = r#"Formats:
  jsonl  {"shard":0,"segment":1,"at":8192,"batch":1,"epoch":1,"seq":1,"kind":"put","state":"proven",
         "payload":"text"}; `timestamp` and `group_continues` where there are any; a payload that is not UTF-8
         is {"base64":".."}: archived records are shown as bytes
  tsv    the payload is escaped as by `replay`

Examples:
  corewal dump --dir wal --shard 0 --seq 100..110
  corewal dump --dir wal --kind commit --format hex
  corewal dump --dir wal --epoch 7.. --committed | jq -r .payload
  corewal dump --dir copy-of-a-damaged-log --all > everything.jsonl

Exits 3 if anything is damaged, after everything that verifies."#;

fn parse_range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str, open: u64| match text {
        "" => Ok(open),
        text => text.parse().map_err(|_| format!("{text:?} is not a whole number")),
    };
    let (first, last) = match text.split_once("..") {
        Some(_) if text == ".." => return Err("a range needs an end".to_owned()),
        Some((first, last)) => (number(first, 0)?, number(last, u64::MAX)?),
        None => {
            let only = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
            (only, only)
        }
    };
    if first > last { Err("the range is empty".to_owned()) } else { Ok(first..=last) }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let named = [Kind::PUT, Kind::DELETE, Kind::COMMIT, Kind::CHECKPOINT, Kind::BARRIER];
    match named.into_iter().find(|&kind| kind_name(kind) == Some(text)) {
        Some(kind) => Ok(kind),
        None => text.parse().map(Kind).map_err(|_| "not the name or number of a kind".to_owned()),
    }
}

impl Dump {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let survey = Survey::read(&Options::new(&self.place.dir))?;
        check_surveyed_shard(self.shard, &survey)?;
        let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
        let printed = self.print(&mut out, &survey);
        let flushed = out.flush().or_else(quiet).map_err(|error| Trouble::output(&error));
        printed.and(flushed)?;
        for finding in survey.findings() {
            let lost = finding.gap.as_ref().map(damage::loss);
            let lost = lost.map_or(String::new(), |lost| format!("; {lost}"));
            remark(format_args!("note: {}{lost}", finding.error));
        }
        if survey.manifest().is_none() && !self.all {
            remark("note: without a manifest nothing counts; --all shows what verifies");
        }
        found(&survey, &self.place)
    }

    fn print(&self, out: &mut impl Write, survey: &Survey) -> Result<(), Trouble> {
        let committed = survey.committed_epoch().0;
        for segment in survey.segments() {
            if self.shard.is_some_and(|shard| shard != segment.shard.0)
                || !self.all && !segment.is_in_run
            {
                continue;
            }
            let mut done = Ok(());
            survey
                .stretches(segment.shard, segment.number, &mut |stretch| {
                    if done.is_ok() {
                        done = self.stretch(out, segment, &stretch, committed);
                    }
                })
                .map_err(RecoverError::from)?;
            if let Err(error) = done {
                return quiet(error).map_err(|error| Trouble::output(&error));
            }
        }
        Ok(())
    }

    fn stretch(
        &self,
        out: &mut impl Write,
        segment: &SurveyedSegment,
        stretch: &Stretch<'_>,
        committed: u64,
    ) -> io::Result<()> {
        let Content::Batch { header, proof, last_kept_seq, .. } = &stretch.content else {
            return Ok(());
        };
        let state = match proof {
            Proof::Proven(_) => "proven",
            Proof::Intact => "intact",
            Proof::Void(_) => "void",
            _ => "beyond",
        };
        let epoch = header.epoch.0;
        let is_wanted = self.all || matches!(state, "proven" | "intact");
        if !is_wanted
            || self.committed && epoch > committed
            || self.epoch.as_ref().is_some_and(|range| !range.contains(&epoch))
        {
            return Ok(());
        }
        for entry in stretch.content.entries() {
            if self.kind.is_some_and(|kind| kind != entry.kind)
                || self.seq.as_ref().is_some_and(|range| !range.contains(&entry.stamp.seq.0))
            {
                continue;
            }
            let is_void = last_kept_seq.is_some_and(|last| entry.stamp.seq > last);
            if is_void && !self.all {
                continue;
            }
            let state = if is_void && state == "proven" { "void" } else { state };
            let place = (segment.number.0, stretch.at, header.number.0);
            self.format.write(out, place, state, &entry)?;
        }
        Ok(())
    }
}

impl Format {
    fn write(
        self,
        out: &mut impl Write,
        (segment, at, batch): (u64, u64, u64),
        state: &str,
        entry: &EntryView<'_>,
    ) -> io::Result<()> {
        let stamp = entry.stamp;
        let (shard, epoch, seq) = (stamp.shard, stamp.epoch, stamp.seq);
        match self {
            Self::Jsonl => {
                write!(
                    out,
                    r#"{{"shard":{shard},"segment":{segment},"at":{at},"batch":{batch},"epoch":{epoch},"seq":{seq},"kind":"#
                )?;
                match kind_name(entry.kind) {
                    Some(name) => write!(out, "\"{name}\"")?,
                    None => write!(out, "{}", entry.kind.0)?,
                }
                write!(out, r#","state":"{state}""#)?;
                if let Some(timestamp) = entry.timestamp() {
                    write!(out, r#","timestamp":{timestamp}"#)?;
                }
                if entry.flags.contains(EntryFlags::GROUP_CONTINUES) {
                    write!(out, r#","group_continues":true"#)?;
                }
                out.write_all(b",\"payload\":")?;
                write_json(out, entry.payload())?;
                out.write_all(b"}\n")
            }
            Self::Tsv => {
                let kind = kind_text(entry.kind);
                write!(
                    out,
                    "{shard}\t{segment}\t{at}\t{batch}\t{epoch}\t{seq}\t{kind}\t{state}\t"
                )?;
                write_escaped(out, entry.payload())?;
                out.write_all(b"\n")
            }
            Self::Hex => {
                let payload = entry.payload();
                let (kind, len) = (kind_text(entry.kind), payload.len());
                writeln!(
                    out,
                    "shard {shard} segment {segment} at {at} batch {batch} epoch {epoch} seq {seq} {kind} {state} \
                     {len} bytes"
                )?;
                payload.chunks(16).zip(0_u64..).try_for_each(|(row, line)| hex(out, line * 16, row))
            }
        }
    }
}

/// One line of a hex dump.
fn hex(out: &mut impl Write, at: u64, row: &[u8]) -> io::Result<()> {
    write!(out, "{at:08x}:")?;
    for index in 0..16 {
        if index % 2 == 0 {
            out.write_all(b" ")?;
        }
        match row.get(index) {
            Some(byte) => write!(out, "{byte:02x}")?,
            None => out.write_all(b"  ")?,
        }
    }
    let shown: String =
        row.iter().map(|&it| if (0x20..0x7f).contains(&it) { it.into() } else { '.' }).collect();
    writeln!(out, "  {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_of_its_ends() {
        assert_eq!(parse_range("7"), Ok(7..=7));
        assert_eq!(parse_range("7..9"), Ok(7..=9));
        assert_eq!(parse_range("7.."), Ok(7..=u64::MAX));
        assert_eq!(parse_range("..9"), Ok(0..=9));
        for wrong in ["", "..", "9..7", "a", "1..b", "-1"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_is_as_long_as_every_other() {
        let mut out = Vec::new();
        hex(&mut out, 16, b"ab\x00").expect("memory");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, format!("00000010:{:<40}  ab.\n", " 6162 00"));
    }
}
