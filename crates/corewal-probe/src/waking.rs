//! The ways to wake threads when their batch is durable: what a thread sleeps on, and what the writer does about it.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use corewal_disk::trial::{Address, LinkedWake, Mailbox, Messenger, Words};

use crate::Way;
use crate::floor::{CommitLoop, PreparedFile};
use crate::wake::{Batch, Shared, word_of};

/// How waiting threads are woken. All but [`Broadcast`](Self::Broadcast) write by io_uring, and are trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waking {
    /// One futex call wakes all that wait, those of the next batch too: the floor.
    Broadcast(Way),
    /// One futex call wakes those of the batch.
    Words,
    /// The same, by the kernel: the wake-up is linked to the write (`IORING_OP_FUTEX_WAKE`).
    FutexOp,
    /// Each thread waits on a ring of its own; the writer sends a message to those of the batch, all by one call
    /// (`IORING_OP_MSG_RING`).
    MsgRing,
}

impl Waking {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Broadcast(Way::Pwritev2),
        Self::Broadcast(Way::Uring),
        Self::Words,
        Self::FutexOp,
        Self::MsgRing,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Broadcast(way) => way.name(),
            Self::Words => "words",
            Self::FutexOp => "futex-op",
            Self::MsgRing => "msg-ring",
        }
    }

    /// What it is, for a report.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Broadcast(Way::Pwritev2) => "blocking dsync, one futex broadcast",
            Self::Broadcast(Way::Uring) => "uring dsync, one futex broadcast",
            Self::Words => "uring dsync, one futex call for the batch's threads",
            Self::FutexOp => "uring dsync, linked FUTEX_WAKE for the batch's threads",
            Self::MsgRing => "uring dsync, a MSG_RING to each of the batch's threads",
        }
    }

    /// A writer for commits of at most `len` bytes, and what each thread sleeps on.
    pub(crate) fn make(
        self,
        dir: &Path,
        threads: u16,
        len: usize,
        words: &Words,
    ) -> io::Result<(Writer, Vec<Sleeper>)> {
        let all = |sleeper: fn() -> Sleeper| (0..threads).map(|_| sleeper()).collect();
        match self {
            Self::Broadcast(way) => {
                let commits = CommitLoop::with_len(dir, way, len)?;
                Ok((Writer::Broadcast(commits), all(|| Sleeper::Count)))
            }
            Self::Words => {
                let commits = CommitLoop::with_len(dir, Way::Uring, len)?;
                Ok((Writer::Words(commits), all(|| Sleeper::Word)))
            }
            Self::FutexOp => {
                let file = PreparedFile::new(dir, self.name())?;
                let linked = LinkedWake::new(file.file(), len, words)?;
                Ok((Writer::FutexOp(linked, file), all(|| Sleeper::Word)))
            }
            Self::MsgRing => {
                let messenger = Messenger::new(usize::from(threads))?;
                let commits = CommitLoop::with_len(dir, Way::Uring, len)?;
                let mailboxes: Vec<Mailbox> =
                    (0..threads).map(|_| Mailbox::new()).collect::<io::Result<_>>()?;
                let addresses =
                    mailboxes.iter().map(Mailbox::address).collect::<io::Result<_>>()?;
                let sleepers =
                    mailboxes.into_iter().map(|it| Sleeper::Mailbox(it.into())).collect();
                Ok((Writer::MsgRing { commits, messenger, addresses }, sleepers))
            }
        }
    }
}

/// What a thread sleeps on.
#[derive(Debug)]
pub(crate) enum Sleeper {
    /// [`Shared::durable`].
    Count,
    /// The batch's word of [`Shared::pending`].
    Word,
    /// Woken once for each record.
    Mailbox(Box<Mailbox>),
}

impl Sleeper {
    /// Sleeps until `batch` is durable; false if it may not be, since the writer failed.
    pub(crate) fn wait(&mut self, shared: &Shared, batch: u32) -> io::Result<bool> {
        let has_failed = || shared.failed.load(Ordering::Acquire);
        match self {
            Self::Count => loop {
                let durable = shared.durable.load(Ordering::Acquire);
                if has_failed() {
                    return Ok(false);
                }
                if durable >= batch {
                    return Ok(true);
                }
                atomic_wait::wait(&shared.durable, durable);
            },
            Self::Word => {
                let word = &shared.pending[word_of(batch)];
                while word.load(Ordering::Acquire) == batch {
                    atomic_wait::wait(word, batch);
                }
                Ok(!has_failed())
            }
            Self::Mailbox(mailbox) => {
                // One message for each record, so this one is about this batch, or about the failure.
                Ok(mailbox.receive()? == u64::from(batch) && !has_failed())
            }
        }
    }
}

/// Who writes and wakes.
#[derive(Debug)]
pub(crate) enum Writer {
    Broadcast(CommitLoop),
    Words(CommitLoop),
    /// The ring first: it is done with the file when that is removed.
    FutexOp(LinkedWake, PreparedFile),
    MsgRing {
        commits: CommitLoop,
        messenger: Messenger,
        /// By the threads' numbers.
        addresses: Vec<Address>,
    },
}

/// A message that names no batch.
const FAILURE: u64 = 0;

impl Writer {
    /// Makes a batch durable, then wakes its threads.
    pub(crate) fn commit(&mut self, shared: &Shared, batch: &Batch) -> io::Result<()> {
        let word = word_of(batch.number);
        match self {
            Self::Broadcast(commits) => {
                commits.commit(&batch.bytes)?;
                shared.durable.store(batch.number, Ordering::Release);
                atomic_wait::wake_all(&shared.durable);
            }
            Self::Words(commits) => {
                commits.commit(&batch.bytes)?;
                shared.pending[word].store(0, Ordering::Release);
                atomic_wait::wake_all(&shared.pending[word]);
            }
            Self::FutexOp(linked, file) => {
                linked.commit(&batch.bytes, file.place(batch.bytes.len()), word)?;
            }
            Self::MsgRing { commits, messenger, addresses } => {
                commits.commit(&batch.bytes)?;
                let to = batch.from.iter().map(|&thread| &addresses[usize::from(thread)]);
                messenger.send(u64::from(batch.number), to)?;
            }
        }
        Ok(())
    }

    /// Nothing more will be durable: tells all threads.
    pub(crate) fn fail(&mut self, shared: &Shared) {
        shared.failed.store(true, Ordering::Release);
        shared.durable.fetch_add(1, Ordering::Release);
        atomic_wait::wake_all(&shared.durable);
        for word in shared.pending.iter() {
            word.store(0, Ordering::Release);
            atomic_wait::wake_all(word);
        }
        if let Self::MsgRing { messenger, addresses, .. } = self {
            messenger.send(FAILURE, &*addresses).expect("the mailboxes are there");
        }
    }
}

#[cfg(test)]
impl Writer {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Broadcast(commits) | Self::Words(commits) | Self::MsgRing { commits, .. } => {
                commits.path()
            }
            Self::FutexOp(_, file) => file.path(),
        }
    }

    /// From now on every write fails: it goes to a descriptor that only reads.
    pub(crate) fn forbid_writes(&mut self, words: &Words) {
        use corewal_disk::{Disk, Open, RealDisk};

        let file = RealDisk::new().open(self.path(), Open::READ.direct()).unwrap();
        match self {
            Self::Broadcast(commits) | Self::Words(commits) | Self::MsgRing { commits, .. } => {
                commits.redirect(&file);
            }
            Self::FutexOp(linked, _) => *linked = LinkedWake::new(&file, 4096, words).unwrap(),
        }
    }
}
