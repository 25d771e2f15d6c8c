//! `corewal replay`: the merged stream on standard output.

use std::io::{self, BufWriter, Write};

use clap::{Args, ValueEnum};
use corewal::{Entry, Kind, Log, Options};

use crate::options::Place;
use crate::payload::{kind_name, write_escaped, write_json};
use crate::trouble::{Trouble, quiet};

/// Print the entries of a log in their merged order: by epoch, then sequence, then shard.
///
/// Reads without the log's lock and changes nothing, also beside a live writer. The entries that close epochs
/// (barriers) are the engine's own and are not printed.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Only entries whose epoch is committed
    #[arg(long)]
    committed: bool,

    /// What is printed for an entry
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "tsv")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// epoch, seq, shard and payload, with tabs between them
    Tsv,
    /// The payload alone, byte for byte, and a line end
    Raw,
    /// One JSON object with epoch, seq, shard, kind and payload
    Jsonl,
}

const HELP: &str = r#"Formats:
  tsv    the payload is escaped like the text of a JSON string; a byte that is not UTF-8 is \xHH
  jsonl  {"epoch":1,"seq":1,"shard":0,"kind":"put","payload":"text"}; `timestamp` before the
         payload where there is one; a payload that is not UTF-8 is {"base64":".."}

Examples:
  corewal replay --dir wal
  corewal replay --dir wal --committed --format raw > lines.txt
  corewal replay --dir wal --format jsonl | jq -r .payload

Exits 3 if damage is found, after the entries before it."#;

impl Replay {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
        let printed = self.print(&mut out);
        let flushed = out.flush().or_else(quiet).map_err(|error| Trouble::output(&error));
        printed.and(flushed)
    }

    fn print(&self, out: &mut impl Write) -> Result<(), Trouble> {
        let mut reader = Log::read(Options::new(&self.place.dir))?;
        while let Some(entry) = reader.next_entry()? {
            if entry.kind() == Kind::BARRIER || self.committed && !entry.is_committed() {
                continue;
            }
            if let Err(error) = self.format.write(out, &entry) {
                return quiet(error).map_err(|error| Trouble::output(&error));
            }
        }
        Ok(())
    }
}

impl Format {
    pub(crate) fn write(self, out: &mut impl Write, entry: &Entry<'_>) -> io::Result<()> {
        let stamp = entry.stamp();
        match self {
            Self::Tsv => {
                write!(out, "{}\t{}\t{}\t", stamp.epoch, stamp.seq, stamp.shard)?;
                write_escaped(out, entry.bytes())?;
            }
            Self::Raw => out.write_all(entry.bytes())?,
            Self::Jsonl => {
                let (epoch, seq, shard) = (stamp.epoch, stamp.seq, stamp.shard);
                write!(out, r#"{{"epoch":{epoch},"seq":{seq},"shard":{shard},"kind":"#)?;
                match kind_name(entry.kind()) {
                    Some(name) => write!(out, "\"{name}\"")?,
                    None => write!(out, "{}", entry.kind().0)?,
                }
                if let Some(timestamp) = entry.timestamp() {
                    write!(out, r#","timestamp":{timestamp}"#)?;
                }
                out.write_all(b",\"payload\":")?;
                write_json(out, entry.bytes())?;
                out.write_all(b"}")?;
            }
        }
        out.write_all(b"\n")
    }
}
