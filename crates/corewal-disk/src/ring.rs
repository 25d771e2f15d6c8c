//! The submission queue of one shard.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::{Alarm, Block, File, Lock};

/// A queue of writes and syncs with owned buffers.
///
/// Operations have **no order among themselves**: only a completion that was reaped orders what is
/// submitted after it. A ring belongs to the thread that made it. Dropping a ring waits for what
/// was submitted, and forgets what was only pushed; what cannot be waited for is leaked, never
/// freed while the kernel may read it.
pub trait Ring: fmt::Debug {
    /// Makes `file` usable by [`Operation`]s of this ring. The ring holds the file until it is
    /// released and its last operation is reaped.
    ///
    /// # Errors
    /// Those of registering the file with the kernel; a full table falls back to plain descriptors.
    fn register(&mut self, file: &File) -> io::Result<FileSlot>;

    /// Ends the use of `slot`. Operations in flight keep the file until they are reaped.
    ///
    /// # Panics
    /// If the slot is not registered.
    fn release(&mut self, slot: FileSlot);

    /// Gives out the next block of the ring's pool, registered with the kernel where the memory
    /// limit allows; `None` when all are given out. The pool's size is set in [`RingConfig`].
    fn take_block(&mut self) -> Option<Block>;

    /// Queues `operation`; nothing reaches the kernel before [`submit`](Self::submit).
    ///
    /// # Errors
    /// A full queue gives the operation back.
    ///
    /// # Panics
    /// If the token is already in flight, the slot is not registered, or the length exceeds the
    /// block.
    fn push(&mut self, operation: Operation) -> Result<(), Operation>;

    /// Hands what was queued to the kernel: one system call, none when nothing is queued. The
    /// synchronous tenant executes it here.
    ///
    /// # Errors
    /// The queue could not be handed over. What the kernel did take still completes.
    fn submit(&mut self) -> io::Result<()>;

    /// Appends all completions that are there to `completions`. Makes a system call only when the
    /// kernel says that completions wait for one (`IORING_SETUP_TASKRUN_FLAG`), or when what
    /// was submitted goes on only now: the parts and the sync of a split write.
    ///
    /// # Errors
    /// Those of the call.
    ///
    /// # Panics
    /// On a completion with an unknown or repeated token: a bug here or in the kernel.
    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// Sleeps until a completion waits to be reaped, the alarm that it
    /// [listens](Self::listen) to is raised, or `timeout` is over (`None`: no limit). Returns at
    /// once when nothing is in flight. May return early.
    ///
    /// # Errors
    /// Those of the call; an interruption is not one.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// From now on `alarm`, when raised, ends a [`wait`](Self::wait). The ring never clears it.
    fn listen(&mut self, alarm: &Arc<Alarm>);

    /// From now on the alarm that the ring listens to is raised by completions too, also by some
    /// that were reaped already: whoever sleeps on it reaps after each wake-up. Whoever clears it
    /// does so before reaping.
    ///
    /// # Errors
    /// Those of registering the alarm with the kernel.
    ///
    /// # Panics
    /// If the ring listens to no alarm.
    fn announce(&mut self) -> io::Result<()>;

    /// [`submit`](Self::submit), then [`wait`](Self::wait) without limit: for a caller who would sleep
    /// next. A tenant may take a shorter way than the two: io_uring's writes a durable write that is alone with
    /// `pwritev2(2)` on the calling thread, and else submits and waits in one system call.
    ///
    /// # Errors
    /// Those of the two.
    fn submit_and_wait(&mut self) -> io::Result<()> {
        self.submit()?;
        self.wait(None)
    }

    /// Operations queued or in flight.
    fn in_flight(&self) -> usize;

    /// What this ring is, and why.
    fn facts(&self) -> RingFacts;

    /// [`RingFacts::calls`] alone; for a caller who asks often, a tenant allocates nothing for it.
    fn calls(&self) -> u64 {
        self.facts().calls
    }

    /// Submits what is queued, waits for everything in flight, then lets go of the lock.
    /// Completions that are reaped meanwhile are appended to `completions`.
    ///
    /// # Errors
    /// Those of waiting; the lock stays registered then.
    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()>;
}

/// Names an operation in flight; unique among those in flight on its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A file that is registered with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileSlot(pub u32);

/// Work for a ring.
#[derive(Debug)]
pub enum Operation {
    /// Write the first `len` bytes of `block` at offset `at`. The ring may split it into several
    /// writes of at most 512 KiB; it completes when the last one has.
    Write {
        /// Comes back with the completion.
        token: Token,
        /// Where to.
        file: FileSlot,
        /// What; owned by the ring until the completion is reaped.
        block: Block,
        /// How much of it, in bytes; not 0.
        len: usize,
        /// The offset in the file, in bytes.
        at: u64,
        /// What the completion says about durability.
        durability: Durability,
    },
    /// fdatasync: covers the writes whose completions were reaped before this was submitted, no
    /// others.
    Sync {
        /// Comes back with the completion.
        token: Token,
        /// Which file.
        file: FileSlot,
    },
}

/// What the completion of a write means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Written: handed to the device or the cache, not durable.
    Written,
    /// Durable: the write carried `RWF_DSYNC` (pwritev2(2)), or the synchronous tenant's nearest
    /// equal.
    Dsync,
    /// Durable: the write was linked to an fdatasync. A short write breaks the link: the result is
    /// then its count, and nothing was synced. A write that must be split is followed by its
    /// sync after the last part has completed.
    LinkedSync,
    /// Durable: the write was followed by an fdatasync that drains the ring: it starts after all that
    /// was submitted before has completed, and holds back all that is submitted after
    /// (`IOSQE_IO_DRAIN`). There to be measured. A short write is synced all the same; its count
    /// tells. The other tenants do as for [`LinkedSync`](Self::LinkedSync).
    DrainedSync,
}

/// The end of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation's token.
    pub token: Token,
    /// Bytes written, to be compared with what was asked; 0 for a sync. A linked sync that fails
    /// is an error of the write.
    pub result: io::Result<usize>,
    /// The block of a write.
    pub block: Option<Block>,
}

/// How a ring is made.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Which tenant.
    pub engine: Engine,
    /// Operations that may be queued or in flight at once; at least 1.
    pub depth: u32,
    /// Blocks in the pool.
    pub block_count: usize,
    /// Size of each, in bytes.
    pub block_len: usize,
    /// The lock of the log, registered so that it outlives a killed process until its last write
    /// has landed.
    pub lock: Option<Lock>,
}

/// Which tenant of [`Ring`] is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Engine {
    /// io_uring where it can be had, else the synchronous one.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// `pwritev2(2)` and `fdatasync(2)`, or what the platform has.
    Blocking,
}

/// What a ring is, and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingFacts {
    /// [`Engine::Uring`] or [`Engine::Blocking`].
    pub engine: Engine,
    /// Why it is not io_uring, if that was wanted.
    pub fallback: Option<String>,
    /// Names of the set-up flags in force, for example `SINGLE_ISSUER`.
    pub flags: Vec<&'static str>,
    /// Set-up flags that the kernel refused, in the order of trying.
    pub refused_flags: Vec<&'static str>,
    /// Files go by registered index.
    pub registered_files: bool,
    /// Blocks of the pool are registered; if not, why.
    pub registered_blocks: Result<(), String>,
    /// `io_uring_enter` calls so far, or system calls that wrote or synced for the synchronous
    /// tenant.
    pub calls: u64,
}
