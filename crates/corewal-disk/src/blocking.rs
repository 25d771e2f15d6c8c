//! The synchronous tenant of [`Ring`]: operations run, in order, in [`Ring::submit`].

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::files::FileTable;
use crate::inflight::{PART_LEN, Tokens};
use crate::real::RealFile;
use crate::{
    Alarm, Block, Completion, Durability, Engine, File, FileSlot, Lock, Operation, Ring,
    RingConfig, RingFacts, sys,
};

/// A ring without a kernel behind it.
#[derive(Debug)]
pub(crate) struct BlockingRing {
    depth: usize,
    /// With the index of the operation's file.
    queued: VecDeque<(usize, Operation)>,
    done: VecDeque<Completion>,
    tokens: Tokens,
    files: FileTable,
    pool: Vec<Block>,
    /// Held until [`Ring::drain`] or drop. The kernel finishes a system call of a killed process
    /// before it closes the process's files, so nothing lands after the lock is gone.
    lock: Option<Lock>,
    fallback: Option<String>,
    writer: Writer,
    alarm: Option<Arc<Alarm>>,
    announces: bool,
}

impl BlockingRing {
    /// `fallback` says why it is not io_uring, if that was wanted.
    pub(crate) fn new(config: RingConfig, fallback: Option<String>) -> Self {
        let depth = config.depth as usize;
        Self {
            depth,
            queued: VecDeque::with_capacity(depth),
            done: VecDeque::with_capacity(depth),
            tokens: Tokens::with_capacity(depth),
            files: FileTable::default(),
            pool: config.pool(),
            lock: config.lock,
            fallback,
            writer: Writer::default(),
            alarm: None,
            announces: false,
        }
    }

    fn execute(&mut self, index: usize, operation: Operation) -> Completion {
        let file = RealFile::of(self.files.file(index)).expect("checked when it was registered");
        match operation {
            Operation::Write { token, block, len, at, durability, .. } => {
                let result = self.writer.write(file, &block[..len], at, durability);
                Completion { token, result, block: Some(block) }
            }
            Operation::Sync { token, .. } => {
                let result = self.writer.sync(file).map(|()| 0);
                Completion { token, result, block: None }
            }
        }
    }
}

impl Ring for BlockingRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        RealFile::of(file)?;
        Ok(self.files.insert(file.clone()))
    }

    fn release(&mut self, slot: FileSlot) {
        self.files.release(slot);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.pool.pop()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        operation.assert_valid();
        if self.tokens.len() == self.depth {
            return Err(operation);
        }
        let index = self.files.begin(operation.file());
        self.tokens.begin(operation.token());
        self.queued.push_back((index, operation));
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        while let Some((index, operation)) = self.queued.pop_front() {
            let completion = self.execute(index, operation);
            self.done.push_back(completion);
            self.files.end(index);
        }
        if self.announces
            && !self.done.is_empty()
            && let Some(alarm) = &self.alarm
        {
            alarm.raise();
        }
        Ok(())
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        for completion in self.done.drain(..) {
            self.tokens.end(completion.token);
            completions.push(completion);
        }
        Ok(())
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn listen(&mut self, alarm: &Arc<Alarm>) {
        self.alarm = Some(Arc::clone(alarm));
    }

    fn announce(&mut self) -> io::Result<()> {
        let alarm = self.alarm.as_ref().expect("the ring listens to an alarm");
        if !self.done.is_empty() {
            alarm.raise();
        }
        self.announces = true;
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.tokens.len()
    }

    fn calls(&self) -> u64 {
        self.writer.calls
    }

    fn facts(&self) -> RingFacts {
        RingFacts {
            engine: Engine::Blocking,
            fallback: self.fallback.clone(),
            flags: Vec::new(),
            refused_flags: Vec::new(),
            registered_files: false,
            registered_blocks: Err("a synchronous ring registers nothing".into()),
            calls: self.writer.calls,
        }
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.submit()?;
        self.reap(completions)?;
        self.lock = None;
        Ok(())
    }
}

/// The system calls of a blocking ring, counted.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    dsync: Dsync,
    pub(crate) calls: u64,
}

/// How [`Durability::Dsync`] is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dsync {
    /// `RWF_DSYNC`, until it is refused.
    #[default]
    Flag,
    /// A write and a sync.
    WriteThenSync,
}

impl Writer {
    /// Bytes written. A sync follows only a complete write: it must not bless a short one.
    pub(crate) fn write(
        &mut self,
        file: &fs::File,
        bytes: &[u8],
        at: u64,
        durability: Durability,
    ) -> io::Result<usize> {
        if durability == Durability::Dsync && self.dsync == Dsync::Flag {
            match self.write_parts(file, bytes, at, sys::write_dsync_at) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.dsync = Dsync::WriteThenSync;
                }
                result => return result,
            }
        }
        let written = self.write_parts(file, bytes, at, sys::write_at)?;
        if durability != Durability::Written && written == bytes.len() {
            self.sync(file)?;
        }
        Ok(written)
    }

    /// Stops at the first short part.
    fn write_parts(
        &mut self,
        file: &fs::File,
        bytes: &[u8],
        at: u64,
        write: fn(&fs::File, &[u8], u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut written = 0;
        for part in bytes.chunks(PART_LEN) {
            let len = self.retry(|| write(file, part, at + written as u64))?;
            written += len;
            if len < part.len() {
                break;
            }
        }
        Ok(written)
    }

    /// fdatasync(2) or its equal. A failed sync is never repeated: the second one would lie.
    fn sync(&mut self, file: &fs::File) -> io::Result<()> {
        self.calls += 1;
        file.sync_data()
    }

    fn retry(&mut self, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            self.calls += 1;
            match call() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}
