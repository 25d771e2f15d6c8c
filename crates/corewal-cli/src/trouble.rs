//! Why the command ends without success: one line for people, one number for scripts.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use corewal::{CloseError, EpochError, Failure, OpenError, RecoverError, SitError, TailError};
use corewal_stream::JobError;

use crate::options::Place;

/// What went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    exit: Exit,
    text: String,
    /// `corewal repair` may help.
    is_repairable: bool,
}

/// The exit codes besides 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// I/O, a full disk, a lock, no log, bad input.
    World = 1,
    /// Options that cannot be.
    Usage = 2,
    /// What had been acknowledged is missing or broken.
    Damage = 3,
}

impl Trouble {
    pub(crate) fn new(exit: Exit, text: impl fmt::Display) -> Self {
        Self { exit, text: text.to_string(), is_repairable: false }
    }

    pub(crate) fn world(text: impl fmt::Display) -> Self {
        Self::new(Exit::World, text)
    }

    pub(crate) fn output(error: &io::Error) -> Self {
        Self::world(format_args!("cannot write to standard output: {error}"))
    }

    /// The same trouble, with more to say.
    #[must_use]
    pub(crate) fn with(self, more: impl fmt::Display) -> Self {
        Self { text: format!("{}; {more}", self.text), ..self }
    }

    /// The same trouble, of a log that nothing was done to and that can be repaired.
    #[must_use]
    pub(crate) fn repairable(self) -> Self {
        Self { is_repairable: true, ..self }
    }

    /// Prints the line, with what to do about it in the place that the command was about, and gives the number.
    pub(crate) fn report(&self, place: Option<&Place>) -> ExitCode {
        match place.filter(|_| self.is_repairable) {
            None => remark(self),
            Some(place) => remark(format_args!(
                "{self}; nothing was changed; `corewal repair {place} --dry-run` says what can be saved"
            )),
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.text.replace('\n', " "))
    }
}

impl From<RecoverError> for Trouble {
    fn from(error: RecoverError) -> Self {
        let trouble = Self::new(exit_of(&error), &error);
        match error {
            _ if error.unknown_version().is_some() => trouble.with(LATER_VERSION),
            RecoverError::Locked { .. } => trouble.with("wait for it to end, then try again"),
            RecoverError::NoLog { dir } => {
                trouble.with(format_args!("`corewal append {}` makes one", Place { dir }))
            }
            RecoverError::Damaged(_) | RecoverError::Manifest { .. } => trouble.repairable(),
            _ => trouble,
        }
    }
}

/// What to do about a log that this program is too old for.
pub(crate) const LATER_VERSION: &str =
    "it was written by a later version of this program: use that one, or a later one";

fn exit_of(error: &RecoverError) -> Exit {
    match error {
        _ if error.unknown_version().is_some() => Exit::World,
        RecoverError::Options(_) => Exit::Usage,
        RecoverError::Manifest { .. } | RecoverError::Damaged(_) => Exit::Damage,
        _ => Exit::World,
    }
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Recover(error) => error.into(),
            other => Self::world(other),
        }
    }
}

impl From<TailError> for Trouble {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Recover(error) => error.into(),
            other => Self::world(other).with("start again, from what is there now"),
        }
    }
}

impl From<SitError> for Trouble {
    fn from(error: SitError) -> Self {
        Self::world(error).with("`--engine auto` takes synchronous I/O where there is no io_uring")
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::world(failure)
    }
}

impl From<JobError> for Trouble {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Recover(error) => error.into(),
            JobError::Open(error) => error.into(),
            JobError::Sit(error) => error.into(),
            JobError::Options(text) => Self::new(Exit::Usage, text),
            JobError::Checkpointed { .. } => Self::new(Exit::Damage, error),
            other => Self::world(other),
        }
    }
}

impl From<EpochError> for Trouble {
    fn from(error: EpochError) -> Self {
        Self::world(error)
    }
}

impl From<CloseError> for Trouble {
    fn from(error: CloseError) -> Self {
        Self::world(error)
    }
}

/// A line on standard error. Where nobody can be told, that changes no result.
pub(crate) fn remark(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A reader of the output that has seen enough is no trouble.
pub(crate) fn quiet(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}
