//! Why a job ends early.

use std::io;
use std::path::{Path, PathBuf};

use corewal::{
    AccessError, AppendError, CheckpointError, CloseError, Failure, Kind, OpenError, RecoverError,
    SitError, Stamp,
};

/// Why a job ends early. What it had committed is there when it is resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The options cannot be.
    #[error("{0}")]
    Options(&'static str),
    /// The log cannot be recovered.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The log cannot be opened for writing.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A core has no ring.
    #[error(transparent)]
    Sit(#[from] SitError),
    /// An entry was not accepted.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A shard has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The log could not be closed.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// A file beside the log: of the sink or of a snapshot.
    #[error(transparent)]
    File(#[from] FileError),
    /// An entry of the log is none that this job writes.
    #[error("entry {stamp} is not of this job: {cause}")]
    Entry {
        /// Which entry.
        stamp: Stamp,
        /// What is wrong with it.
        cause: AccessError,
    },
    /// A state that cannot be archived, or read back.
    #[error("state cannot be archived: {0}")]
    Archive(rkyv::rancor::Error),
    /// A file that a checkpoint speaks of is not what it was.
    #[error("{}: {what}", path.display())]
    Checkpointed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The cores stopped because another one failed.
    #[error("stopped because another core failed")]
    Halted,
    /// A checkpoint could not be recorded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An entry of the log is of a kind that this job does not write.
    #[error("entry {stamp} is not of this job: its kind is {}", kind.0)]
    Kind {
        /// Which entry.
        stamp: Stamp,
        /// Its kind.
        kind: Kind,
    },
    /// A core's thread panicked.
    #[error("core {0} panicked")]
    Panicked(usize),
    /// The thread that makes checkpoints panicked.
    #[error("the thread that makes checkpoints panicked")]
    Keeper,
}

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {cause}", path.display())]
pub struct FileError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

/// Says what was tried when an I/O error ends it.
pub(crate) trait Trying<T> {
    fn trying(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> Trying<T> for io::Result<T> {
    fn trying(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|cause| FileError { action, path: path.to_path_buf(), cause })
    }
}
