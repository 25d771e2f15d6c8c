//! The work that is measured, by name.

use std::fmt;
use std::str::FromStr;

/// Size of the records of all work that names no other, in bytes.
pub const RECORD_LEN: usize = 128;
/// Size of the entries of a log that is recovered, in bytes.
pub const RECOVERED_LEN: usize = 256;

/// A piece of work. Its name, as [`Display`](fmt::Display) gives it, is that of the command line and of the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Durable appends, one at a time.
    One,
    /// One thread with so many appends outstanding.
    Outstanding(u32),
    /// The same with a turn after each quarter of them.
    Sliced(u32),
    /// The same with a turn after each append.
    PerTurn(u32),
    /// So many threads; each waits for each of its appends.
    Threads(u32),
    /// So many async tasks on the thread that drives the shard; each awaits each of its appends.
    Tasks(u32),
    /// The same with the writer on another thread.
    RemoteTasks(u32),
    /// As many durable bytes as the device takes.
    Bytes {
        /// Size of an entry, in bytes.
        entry_len: u32,
        /// Threads, each with a shard of its own.
        shards: u32,
    },
    /// Lines of a real file with default options, dealt to so many shards.
    Lines(u32),
    /// Appends without waiting for any of them, in bursts.
    Burst,
    /// Processor time of an append.
    Cpu(Shape),
    /// Makes the log that a recovery reads, and leaves it.
    Build(Image),
    /// Recovers it.
    Recovery(Image),
    /// From opening a new log to its first durable append.
    First,
    /// One at a time over so many rotations.
    Rotations(u32),
    /// Requests that go to the kernel's io_uring workers.
    Punts,
}

/// What is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// Raw bytes.
    Bytes,
    /// A struct of fixed size.
    Fixed,
    /// A struct with strings.
    Strings,
}

/// A log on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Image {
    /// Size of its batches (in other logs: of the same number of entries), in MiB.
    pub mib: u32,
    /// How the entries lie.
    pub layout: Layout,
}

/// How entries lie in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// Many in a batch; the log was closed.
    Closed,
    /// Many in a batch; its process ended without a close.
    Open,
    /// One in a batch, padded to a block; its process ended without a close.
    Padded,
}

impl Image {
    /// Entries in it.
    #[must_use]
    pub fn entries(self) -> u64 {
        let each = match self.layout {
            Layout::Closed | Layout::Open => RECOVERED_LEN as u64 + 16,
            Layout::Padded => 4096,
        };
        (u64::from(self.mib) << 20) / each
    }
}

const SHAPES: [(&str, Shape); 3] =
    [("bytes", Shape::Bytes), ("fixed", Shape::Fixed), ("strings", Shape::Strings)];
const LAYOUTS: [(&str, Layout); 3] =
    [("closed", Layout::Closed), ("open", Layout::Open), ("padded", Layout::Padded)];

fn name_of<T: PartialEq>(table: &[(&'static str, T)], it: &T) -> &'static str {
    table.iter().find(|(_, of)| of == it).expect("the table has all").0
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Outstanding(count) => write!(f, "outstanding-{count}"),
            Self::Sliced(count) => write!(f, "sliced-{count}"),
            Self::PerTurn(count) => write!(f, "per-turn-{count}"),
            Self::Threads(count) => write!(f, "threads-{count}"),
            Self::Tasks(count) => write!(f, "tasks-{count}"),
            Self::RemoteTasks(count) => write!(f, "remote-tasks-{count}"),
            Self::Bytes { entry_len, shards } => write!(f, "bytes-{entry_len}-{shards}"),
            Self::Lines(shards) => write!(f, "lines-{shards}"),
            Self::Burst => f.write_str("burst"),
            Self::Cpu(shape) => write!(f, "cpu-{}", name_of(&SHAPES, shape)),
            Self::Build(Image { mib, layout }) => {
                write!(f, "build-{mib}-{}", name_of(&LAYOUTS, layout))
            }
            Self::Recovery(Image { mib, layout }) => {
                write!(f, "recovery-{mib}-{}", name_of(&LAYOUTS, layout))
            }
            Self::First => f.write_str("first"),
            Self::Rotations(count) => write!(f, "rotations-{count}"),
            Self::Punts => f.write_str("punts"),
        }
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let unknown = || format!("no work is called {name}");
        let number = |text: &str| text.parse::<u32>().ok().filter(|it| *it > 0).ok_or_else(unknown);
        let shape =
            |text: &str| SHAPES.iter().find(|it| it.0 == text).map(|it| it.1).ok_or_else(unknown);
        let image = |mib: &str, layout: &str| {
            let layout = LAYOUTS.iter().find(|it| it.0 == layout).ok_or_else(unknown)?.1;
            Ok::<_, String>(Image { mib: number(mib)?, layout })
        };
        let parts: Vec<&str> = name.split('-').collect();
        Ok(match parts[..] {
            ["one"] => Self::One,
            ["outstanding", count] => Self::Outstanding(number(count)?),
            ["sliced", count] => Self::Sliced(number(count)?),
            ["per", "turn", count] => Self::PerTurn(number(count)?),
            ["threads", count] => Self::Threads(number(count)?),
            ["tasks", count] => Self::Tasks(number(count)?),
            ["remote", "tasks", count] => Self::RemoteTasks(number(count)?),
            ["bytes", entry_len, shards] => {
                Self::Bytes { entry_len: number(entry_len)?, shards: number(shards)? }
            }
            ["lines", shards] => Self::Lines(number(shards)?),
            ["burst"] => Self::Burst,
            ["cpu", it] => Self::Cpu(shape(it)?),
            ["build", mib, layout] => Self::Build(image(mib, layout)?),
            ["recovery", mib, layout] => Self::Recovery(image(mib, layout)?),
            ["first"] => Self::First,
            ["rotations", count] => Self::Rotations(number(count)?),
            ["punts"] => Self::Punts,
            _ => return Err(unknown()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_name_work() {
        let image = Image { mib: 1024, layout: Layout::Padded };
        for work in [
            Work::One,
            Work::Outstanding(64),
            Work::Sliced(64),
            Work::PerTurn(64),
            Work::Threads(16),
            Work::Tasks(64),
            Work::RemoteTasks(64),
            Work::Bytes { entry_len: 1024, shards: 2 },
            Work::Lines(4),
            Work::Burst,
            Work::Cpu(Shape::Strings),
            Work::Build(image),
            Work::Recovery(image),
            Work::First,
            Work::Rotations(1000),
            Work::Punts,
        ] {
            assert_eq!(work.to_string().parse(), Ok(work));
        }
        for wrong in
            ["", "two", "outstanding", "outstanding-0", "outstanding-x", "one-1", "cpu-floats"]
        {
            assert!(wrong.parse::<Work>().is_err(), "{wrong}");
        }
    }
}
