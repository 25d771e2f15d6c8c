//! The operations of a ring between push and completion: which part comes next, and what the
//! results add up to. Knows nothing of the kernel.

use std::io;

use super::tickets::Part;
use crate::inflight::PART_LEN;
use crate::{Block, Completion, Durability, Operation, Token};

/// One operation. It owns its block until its last part has completed.
#[derive(Debug)]
pub(super) struct Op {
    token: Token,
    /// Index in the table of files.
    pub(super) file: usize,
    /// `None` for a sync, which is a write of nothing.
    block: Option<Block>,
    len: usize,
    at: u64,
    dsync: bool,
    drains: bool,
    /// Bytes handed to the kernel.
    issued: usize,
    /// Parts in the kernel.
    outstanding: u32,
    /// Bytes that the kernel says it wrote.
    written: usize,
    short: bool,
    error: Option<io::Error>,
    sync: SyncState,
    /// Whether the operation waits in the queue of those with something to hand over.
    pub(super) ready: bool,
}

/// The way of an operation to its fdatasync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyncState {
    /// None is wanted.
    Unwanted,
    /// Goes with the only part, behind it: linked, or draining the ring.
    Linked,
    /// Goes when all parts have completed: an fsync covers completed writes only
    /// (io_uring_enter(2)).
    Owed,
    /// In the kernel, begun after all parts had completed.
    Running,
    /// Returned 0, and covers the write.
    Done,
}

/// What an operation hands to the kernel next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A write of a part of the block.
    Write { offset: usize, len: u32 },
    /// A write of the whole block, linked to an fdatasync.
    LinkedWrite { len: u32 },
    /// fdatasync.
    Sync,
    /// Nothing, or nothing until a completion.
    Nothing,
}

impl Op {
    /// `file` is the index of the operation's file.
    pub(super) fn new(operation: Operation, file: usize) -> Self {
        let (token, block, len, at, durability, sync) = match operation {
            Operation::Write { token, block, len, at, durability, .. } => {
                let sync = match durability {
                    Durability::LinkedSync | Durability::DrainedSync if len <= PART_LEN => {
                        SyncState::Linked
                    }
                    Durability::LinkedSync | Durability::DrainedSync => SyncState::Owed,
                    Durability::Written | Durability::Dsync => SyncState::Unwanted,
                };
                (token, Some(block), len, at, durability, sync)
            }
            Operation::Sync { token, .. } => {
                (token, None, 0, 0, Durability::Written, SyncState::Owed)
            }
        };
        Self {
            token,
            file,
            block,
            len,
            at,
            dsync: durability == Durability::Dsync,
            drains: durability == Durability::DrainedSync,
            issued: 0,
            outstanding: 0,
            written: 0,
            short: false,
            error: None,
            sync,
            ready: false,
        }
    }

    /// Whether nothing but one write is needed, and no part of it was handed over.
    pub(super) fn is_one_durable_write(&self) -> bool {
        self.dsync && self.issued == 0 && self.len <= PART_LEN
    }

    /// The whole write, done by the caller.
    pub(super) fn write_by(&mut self, write: impl FnOnce(&[u8], u64) -> io::Result<usize>) {
        let block = self.block.as_ref().expect("a write has a block");
        self.issued = self.len;
        match write(&block[..self.len], self.at) {
            Ok(written) => {
                self.written = written;
                self.short = written < self.len;
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// After a failure nothing more is handed over; above all no sync, which would bless a short
    /// write.
    pub(super) fn next_step(&self) -> Step {
        if self.failed() {
            return Step::Nothing;
        }
        if self.issued < self.len {
            let len = (self.len - self.issued).min(PART_LEN);
            let len = u32::try_from(len).expect("a part is short");
            return match self.sync {
                SyncState::Linked => Step::LinkedWrite { len },
                _ => Step::Write { offset: self.issued, len },
            };
        }
        if self.sync == SyncState::Owed && self.outstanding == 0 {
            return Step::Sync;
        }
        Step::Nothing
    }

    /// A step was taken.
    pub(super) fn issued(&mut self, step: Step) {
        match step {
            Step::Write { len, .. } => {
                self.issued += len as usize;
                self.outstanding += 1;
            }
            Step::LinkedWrite { len } => {
                self.issued += len as usize;
                self.outstanding += 2;
            }
            Step::Sync => {
                self.sync = SyncState::Running;
                self.outstanding += 1;
            }
            Step::Nothing => {}
        }
    }

    /// The kernel took the linked write without its fdatasync, which therefore will not wait for
    /// the write: links do not span submissions. The operation needs another one after both
    /// have completed.
    pub(super) fn link_broke(&mut self) {
        if self.sync == SyncState::Linked {
            self.sync = SyncState::Owed;
        }
    }

    /// A part completed with `result`: a count or a negative error number.
    ///
    /// # Panics
    /// If the kernel says that it wrote more than was asked for.
    pub(super) fn complete(&mut self, part: Part, result: i32) {
        self.outstanding = self.outstanding.checked_sub(1).expect("a part completes once");
        match (u32::try_from(result), part) {
            (Err(_), _) => self.keep_error(io::Error::from_raw_os_error(-result)),
            (Ok(written), Part::Write { len }) => {
                assert!(written <= len, "{written} of {len} bytes written");
                self.written += written as usize;
                self.short |= written < len;
            }
            (Ok(_), Part::Sync) => match self.sync {
                SyncState::Linked | SyncState::Running => self.sync = SyncState::Done,
                // Its link broke: it covers nothing.
                SyncState::Owed => {}
                SyncState::Unwanted | SyncState::Done => unreachable!("a sync too many"),
            },
        }
    }

    /// The first error stays, but for the cancelling of a linked sync, which only follows from
    /// another.
    fn keep_error(&mut self, error: io::Error) {
        match &self.error {
            Some(known) if !is_cancel(known) => {}
            _ => self.error = Some(error),
        }
    }

    fn failed(&self) -> bool {
        self.short || self.error.is_some()
    }

    /// Whether the kernel is through with the operation and gets nothing more of it.
    pub(super) fn is_finished(&self) -> bool {
        self.outstanding == 0 && self.next_step() == Step::Nothing
    }

    /// # Panics
    /// If the operation is not finished, or counts as durable without its sync.
    pub(super) fn into_completion(self) -> Completion {
        assert!(self.is_finished(), "an operation ends before its parts");
        let result = match self.error {
            // The count says it: the sync was cancelled because the write was short.
            Some(error) if self.short && is_cancel(&error) => Ok(self.written),
            Some(error) => Err(error),
            None => Ok(self.written),
        };
        if result.as_ref().is_ok_and(|&written| written == self.len) {
            let synced = matches!(self.sync, SyncState::Unwanted | SyncState::Done);
            assert!(synced, "a write without its sync counts as durable");
        }
        Completion { token: self.token, result, block: self.block }
    }

    /// The bytes of a part, at its offset in the block.
    pub(super) fn bytes(&self, offset: usize, len: u32) -> &[u8] {
        let block = self.block.as_ref().expect("only writes have parts");
        &block[offset..offset + len as usize]
    }

    pub(super) fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    /// Where in the file the byte at `offset` of the block goes.
    pub(super) fn position(&self, offset: usize) -> u64 {
        self.at + offset as u64
    }

    /// Whether each part is durable by itself.
    pub(super) fn is_dsync(&self) -> bool {
        self.dsync
    }

    /// Whether the sync behind the only part drains the ring, instead of being linked to it.
    pub(super) fn drains(&self) -> bool {
        self.drains
    }
}

fn is_cancel(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}

/// The operations of a ring, by index.
#[derive(Debug, Default)]
pub(super) struct Ops {
    ops: Vec<Option<Op>>,
    free: Vec<usize>,
}

impl Ops {
    pub(super) fn new(depth: usize) -> Self {
        Self { ops: (0..depth).map(|_| None).collect(), free: (0..depth).rev().collect() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// # Panics
    /// If it is full.
    pub(super) fn insert(&mut self, op: Op) -> usize {
        let index = self.free.pop().expect("the caller has seen that there is room");
        self.ops[index] = Some(op);
        index
    }

    pub(super) fn remove(&mut self, index: usize) -> Op {
        let op = self.ops[index].take().expect("an operation is removed once");
        self.free.push(index);
        op
    }

    pub(super) fn op(&self, index: usize) -> &Op {
        self.ops[index].as_ref().expect("an operation stays until it is removed")
    }

    pub(super) fn op_mut(&mut self, index: usize) -> &mut Op {
        self.ops[index].as_mut().expect("an operation stays until it is removed")
    }
}

#[cfg(test)]
mod tests {
    use super::{Op, Part, Step};
    use crate::{Block, Durability, FileSlot, Operation, Token};

    const LEN: usize = 4096;
    const PART: Part = Part::Write { len: 4096 };
    const EIO: i32 = -libc::EIO;
    const CANCELED: i32 = -libc::ECANCELED;

    fn write(len: usize, durability: Durability) -> Op {
        let (token, file, block) = (Token(1), FileSlot(0), Block::zeroed(len));
        Op::new(Operation::Write { token, file, block, len, at: 0, durability }, 0)
    }

    fn linked() -> Op {
        let mut op = write(LEN, Durability::LinkedSync);
        let step = op.next_step();
        assert_eq!(step, Step::LinkedWrite { len: 4096 });
        op.issued(step);
        assert_eq!(op.next_step(), Step::Nothing);
        op
    }

    /// The count, or the error's negative number.
    fn outcome(op: Op) -> i64 {
        let completion = op.into_completion();
        assert!(completion.block.is_some(), "the block comes back");
        match completion.result {
            Ok(written) => i64::try_from(written).unwrap(),
            Err(error) => -i64::from(error.raw_os_error().unwrap()),
        }
    }

    /// All results that a linked pair can have, in both orders of completion.
    #[test]
    fn a_linked_write_succeeds_only_whole_and_synced() {
        for (written, synced, expected) in [
            (4096, 0, 4096),
            (512, CANCELED, 512),
            (0, CANCELED, 0),
            (512, 0, 512),
            (512, EIO, -i64::from(libc::EIO)),
            (EIO, CANCELED, -i64::from(libc::EIO)),
            (4096, EIO, -i64::from(libc::EIO)),
            (4096, CANCELED, -i64::from(libc::ECANCELED)),
            (CANCELED, CANCELED, -i64::from(libc::ECANCELED)),
        ] {
            for write_first in [true, false] {
                let mut op = linked();
                let results = [(PART, written), (Part::Sync, synced)];
                let (first, second) = if write_first { (0, 1) } else { (1, 0) };
                op.complete(results[first].0, results[first].1);
                assert!(!op.is_finished());
                op.complete(results[second].0, results[second].1);
                assert!(op.is_finished());
                assert_eq!(outcome(op), expected, "{written} {synced} {write_first}");
            }
        }
    }

    /// The sync ran beside the write, so it says nothing about it.
    #[test]
    fn a_broken_link_needs_another_sync() {
        for (first, second) in [((PART, 4096), (Part::Sync, 0)), ((Part::Sync, 0), (PART, 4096))] {
            let mut op = linked();
            op.link_broke();
            op.complete(first.0, first.1);
            assert_eq!(op.next_step(), Step::Nothing);
            op.complete(second.0, second.1);
            assert!(!op.is_finished());
            assert_eq!(op.next_step(), Step::Sync);
            op.issued(Step::Sync);
            op.complete(Part::Sync, EIO);
            assert_eq!(outcome(op), -i64::from(libc::EIO));
        }
    }

    /// A mistake seen in other logs: a sync covers writes that are still in flight.
    #[test]
    fn a_split_write_is_synced_after_its_last_part() {
        let mut op = write(1024 * 1024 + LEN, Durability::LinkedSync);
        let lens = [524_288, 524_288, 4096];
        for len in lens {
            let step = op.next_step();
            assert!(matches!(step, Step::Write { len: found, .. } if found == len));
            op.issued(step);
        }
        for len in lens.into_iter().rev() {
            assert_eq!(op.next_step(), Step::Nothing);
            op.complete(Part::Write { len }, i32::try_from(len).unwrap());
        }
        assert_eq!(op.next_step(), Step::Sync);
        op.issued(Step::Sync);
        assert!(!op.is_finished());
        op.complete(Part::Sync, 0);
        assert_eq!(outcome(op), 1024 * 1024 + 4096);
    }

    /// A mistake seen in other logs: a sync blesses a short write.
    #[test]
    fn after_a_short_or_failed_part_nothing_follows() {
        for result in [4096, 0, EIO] {
            let mut op = write(1024 * 1024, Durability::LinkedSync);
            let step = op.next_step();
            op.issued(step);
            op.complete(Part::Write { len: 524_288 }, result);
            assert!(op.is_finished(), "{result}");
            assert_eq!(outcome(op), i64::from(result));
        }
    }

    #[test]
    #[should_panic(expected = "4097 of 4096 bytes")]
    fn more_written_than_asked_panics() {
        linked().complete(PART, 4097);
    }

    #[test]
    #[should_panic(expected = "ends before its parts")]
    fn an_unfinished_write_cannot_complete() {
        let mut op = linked();
        op.complete(PART, 4096);
        let _ = op.into_completion();
    }
}
