//! What happened, for the one who looks at a failed test.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::FaultKind;

/// One thing that happened on a simulated disk. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceEvent {
    /// Operations until then, itself included if it is one.
    pub operation: u64,
    /// When.
    pub time: Duration,
    /// To which file or directory; empty if to none.
    pub path: Arc<str>,
    /// What.
    pub step: TraceStep,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceStep {
    /// A file was created.
    Create,
    /// A directory was created.
    CreateDirectory,
    /// The file got this name; the path is the old one.
    Rename(Arc<str>),
    /// A name was removed.
    Remove,
    /// The names of a directory were made durable.
    SyncDirectory,
    /// A lock was taken.
    Lock,
    /// Space was reserved up to this size.
    Allocate(u64),
    /// A write outside of rings, of so many bytes.
    Write {
        /// Offset in bytes.
        at: u64,
        /// Bytes.
        len: usize,
    },
    /// A sync outside of rings.
    Sync,
    /// A ring handed over so many operations.
    Submit {
        /// Number of the ring.
        ring: u64,
        /// How many operations.
        count: usize,
    },
    /// A write of a ring has landed.
    Land {
        /// Number of the ring.
        ring: u64,
        /// The operation's token.
        token: u64,
        /// Offset in bytes.
        at: u64,
        /// Bytes.
        len: usize,
        /// Whether it is durable.
        durable: bool,
    },
    /// A sync of a ring is done.
    LandSync {
        /// Number of the ring.
        ring: u64,
        /// The operation's token.
        token: u64,
    },
    /// Something went wrong, as was asked for.
    Fault(FaultKind),
    /// The disk was full.
    Full,
    /// The power was cut before; this is the next life.
    PowerCut,
    /// The process was killed before; this is the next life.
    Kill,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, time, path, step } = self;
        write!(f, "{operation:>5} {:>9} us  {step:?}", time.as_micros())?;
        if !path.is_empty() {
            write!(f, "  {path}")?;
        }
        Ok(())
    }
}

/// The last events.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    events: VecDeque<TraceEvent>,
}

impl Trace {
    pub(super) fn push(&mut self, limit: usize, event: TraceEvent) {
        if limit == 0 {
            return;
        }
        if self.events.len() >= limit {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn events(&self) -> Vec<TraceEvent> {
        self.events.iter().cloned().collect()
    }
}
