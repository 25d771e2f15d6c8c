//! What a recorder wrote down: events in one order, with their bytes.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Durability;

/// A file over its whole life, whatever it is called: a rename does not change it, and a new file
/// under an old name is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// One thing that happened.
///
/// An operation has two events: it begins before it reaches the disk below, and ends after that
/// disk said so. What happened in between, nobody knows: a power cut there leaves any of its
/// effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation is about to be handed over.
    Begin(Action),
    /// An operation came back.
    End {
        /// The position of its [`Begin`](Event::Begin).
        begin: usize,
        /// What came back.
        outcome: Outcome,
    },
    /// A directory that was there, durably, before the recording.
    FoundDir(PathBuf),
    /// A file that was there, durably, before the recording.
    Found {
        /// Its identity from now on.
        file: FileId,
        /// Where it stands.
        path: PathBuf,
        /// What is in it.
        bytes: Bytes,
    },
    /// The program under test says something; what, is its own affair.
    Mark(u64),
}

/// An operation that changes a disk, or makes a change durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A directory that was not there is created.
    CreateDir(PathBuf),
    /// A file is created.
    Create {
        /// Its identity from now on.
        file: FileId,
        /// Where.
        path: PathBuf,
    },
    /// A write, through a ring or a handle.
    Write {
        /// To which file.
        file: FileId,
        /// The offset in bytes.
        at: u64,
        /// What.
        bytes: Bytes,
        /// What its success means.
        durability: Durability,
    },
    /// fsync or fdatasync, through a ring or a handle. Covers the writes to the file, and the
    /// changes of its size, that had ended before this begins.
    Sync {
        /// Of which file.
        file: FileId,
    },
    /// The file becomes at least so long.
    Allocate {
        /// Which file.
        file: FileId,
        /// The length in bytes.
        len: u64,
    },
    /// A file gets another name.
    Rename {
        /// Which file.
        file: FileId,
        /// Its name so far.
        from: PathBuf,
        /// Its new name; what stood there is gone.
        to: PathBuf,
    },
    /// A name is removed.
    Remove {
        /// Which file it stood for.
        file: FileId,
        /// The name.
        path: PathBuf,
    },
    /// fsync of a directory: covers the changes of its names that had ended before this begins.
    SyncDir(PathBuf),
    /// The lock is taken, by a file that is created if it is not there. Nothing else is recorded
    /// of that file.
    Lock(PathBuf),
}

/// What an operation came back with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success; for a write, with the bytes that were written.
    Done(usize),
    /// An error.
    Failed(String),
}

impl Outcome {
    pub(super) fn of<T>(result: &io::Result<T>, len: usize) -> Self {
        match result {
            Ok(_) => Self::Done(len),
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// The bytes of a write. Equal ones are kept once, zeros not at all.
#[derive(Clone, PartialEq, Eq)]
pub enum Bytes {
    /// So many zeros.
    Zeros(usize),
    /// Anything else.
    Stored(Arc<[u8]>),
}

impl Bytes {
    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Zeros(len) => *len,
            Self::Stored(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of them are zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Zeros(_))
    }

    /// Copies the bytes from `from` on into `to`.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn copy_to(&self, from: usize, to: &mut [u8]) {
        match self {
            Self::Zeros(len) => {
                assert!(from + to.len() <= *len, "{} bytes at {from} of {len}", to.len());
                to.fill(0);
            }
            Self::Stored(bytes) => to.copy_from_slice(&bytes[from..from + to.len()]),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros(len) => write!(f, "{len} zeros"),
            Self::Stored(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// Events in the order in which they were recorded. A position is an index into them; "before
/// position p" are the first p events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The events.
    pub events: Vec<Event>,
}

impl Trace {
    /// For each event, if it is the beginning of an operation that ended: the position of the end,
    /// and whether it was a success in full.
    #[must_use]
    pub fn ends(&self) -> Vec<Option<(usize, Success)>> {
        let mut ends = vec![None; self.events.len()];
        for (position, event) in self.events.iter().enumerate() {
            if let Event::End { begin, outcome } = event {
                let whole = match (&self.events[*begin], outcome) {
                    (Event::Begin(Action::Write { bytes, .. }), Outcome::Done(len)) => {
                        *len == bytes.len()
                    }
                    (_, Outcome::Done(_)) => true,
                    (_, Outcome::Failed(_)) => false,
                };
                ends[*begin] = Some((position, if whole { Success::Yes } else { Success::No }));
            }
        }
        ends
    }
}

/// Whether an operation did all that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// It did.
    Yes,
    /// It failed, or ended short.
    No,
}

/// Events and the contents that they share.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) trace: Trace,
    stored: HashSet<Arc<[u8]>>,
}

impl Log {
    pub(super) fn push(&mut self, event: Event) -> usize {
        self.trace.events.push(event);
        self.trace.events.len() - 1
    }

    pub(super) fn store(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.iter().all(|&byte| byte == 0) {
            return Bytes::Zeros(bytes.len());
        }
        if let Some(known) = self.stored.get(bytes) {
            return Bytes::Stored(Arc::clone(known));
        }
        let new: Arc<[u8]> = bytes.into();
        self.stored.insert(Arc::clone(&new));
        Bytes::Stored(new)
    }
}
