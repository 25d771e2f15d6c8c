//! The io_uring tenant of [`Ring`].
//!
//! The way of an operation: `push` gives it a place in [`Ops`]; `submit` moves it to the ready
//! ones, stages their parts in the submission queue with one [ticket](Tickets) each, and enters the
//! kernel; `reap` takes completions, redeems their tickets, and hands over what only now may
//! follow. The operation, and with it its block and its file, leaves its place when the last ticket
//! was redeemed.

mod entry;
mod ops;
mod setup;
mod tickets;
pub(crate) mod trial;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, squeue};

use crate::block::PoolId;
use crate::blocking::Writer;
use crate::files::FileTable;
use crate::inflight::Tokens;
use crate::real::RealFile;
use crate::{
    Alarm, Block, Completion, Durability, Engine, File, FileSlot, Lock, Operation, Ring,
    RingConfig, RingFacts,
};
use entry::Target;
use ops::{Op, Ops, Step};
use setup::{Kernel, LOCK_PLACE, Made, NO_FILE, Refusal, Running};
use tickets::{NO_TICKET, Part, Tickets, Work};

/// So often in a row may the kernel put off a submission (`EAGAIN`, `EBUSY`) before that counts as
/// an error.
const MAX_DEFERRALS: u32 = 100_000;
/// The longest that one call waits; a longer wait returns early.
const MAX_WAIT: Duration = Duration::from_secs(1 << 20);

/// A ring of the kernel.
pub(crate) struct UringRing {
    ring: IoUring,
    /// Everything that the kernel may still read; see the drop.
    ops: Ops,
    /// Files of operations; see the drop.
    files: FileTable,
    /// Places of the kernel's table that hold the file of the same place minus one.
    registered: Vec<bool>,
    tokens: Tokens,
    /// Pushed, not submitted.
    queued: VecDeque<usize>,
    /// Submitted, with something to hand over. Each operation is here at most once: see
    /// [`Op::ready`].
    ready: VecDeque<usize>,
    /// `user_data` of the entries in the submission queue that the kernel has not consumed.
    staged: VecDeque<u64>,
    /// Completed on this thread, past the kernel's queue.
    done: VecDeque<Completion>,
    /// For a write that is alone; see [`UringRing::write_alone`].
    writer: Writer,
    tickets: Tickets,
    pool: Vec<Block>,
    pool_id: PoolId,
    /// Registered at [`LOCK_PLACE`], so that it outlives a killed process until its last write has
    /// landed.
    lock: Option<Lock>,
    facts: RingFacts,
    alarm: Option<Arc<Alarm>>,
    /// An entry that watches the alarm is staged, or in the kernel; it stays there until the alarm
    /// is raised, so most waits have nothing to do for it.
    watched: bool,
    /// Completions raise the alarm, so a sleep is on the alarm itself.
    announces: bool,
    /// How often in a row the kernel put off a submission.
    deferrals: u32,
}

impl UringRing {
    /// Makes a ring on the calling thread, which alone may use it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn new(config: &RingConfig) -> io::Result<Self> {
        Ok(Self::with_kernel(&Running, config)?)
    }

    fn with_kernel(kernel: &impl Kernel, config: &RingConfig) -> Result<Self, Refusal> {
        static POOLS: AtomicU64 = AtomicU64::new(0);
        let pool_id = POOLS.fetch_add(1, Ordering::Relaxed);
        Ok(Self::from_made(setup::make(kernel, config, pool_id)?, config))
    }

    fn from_made(made: Made, config: &RingConfig) -> Self {
        let depth = config.depth as usize;
        let submissions = made.ring.params().sq_entries() as usize;
        let completions = made.ring.params().cq_entries();
        let facts = RingFacts {
            engine: Engine::Uring,
            fallback: None,
            flags: made.flags,
            refused_flags: made.refused_flags,
            registered_files: made.file_count > 1,
            registered_blocks: made.registered_blocks,
            calls: 0,
        };
        Self {
            ring: made.ring,
            ops: Ops::new(depth),
            files: FileTable::default(),
            registered: vec![false; made.file_count],
            tokens: Tokens::with_capacity(depth),
            queued: VecDeque::with_capacity(depth),
            ready: VecDeque::with_capacity(depth),
            staged: VecDeque::with_capacity(submissions),
            done: VecDeque::with_capacity(1),
            writer: Writer::default(),
            // One place is for the completion of the watch.
            tickets: Tickets::new(completions - 1),
            pool: made.pool,
            pool_id: made.pool_id,
            lock: config.lock.clone(),
            facts,
            alarm: None,
            watched: false,
            announces: false,
            deferrals: 0,
        }
    }

    /// Hands over all that the ready operations have: one call, more only for more entries than the
    /// queue holds. What the kernel puts off stays staged, and the next call of any kind tries
    /// it again; whoever sleeps on the alarm is woken for that, since nothing else may be in flight.
    fn hand_over(&mut self) -> io::Result<()> {
        loop {
            self.stage();
            let before = self.staged.len();
            if before == 0 {
                return Ok(());
            }
            self.enter(0, None)?;
            if self.staged.len() == before {
                if let Some(alarm) = self.alarm.as_ref().filter(|_| self.announces) {
                    alarm.raise();
                }
                return Ok(());
            }
        }
    }

    /// Moves steps of ready operations into the submission queue while there is room for them, and
    /// for their completions.
    fn stage(&mut self) {
        while let Some(&index) = self.ready.front() {
            let step = self.ops.op(index).next_step();
            let entries = match step {
                Step::Nothing => {
                    self.ready.pop_front();
                    self.ops.op_mut(index).ready = false;
                    continue;
                }
                // A link must not span two submissions, so both go or none.
                Step::LinkedWrite { .. } => 2,
                Step::Write { .. } | Step::Sync => 1,
            };
            let queue = self.ring.submission();
            let room = queue.capacity() - queue.len();
            drop(queue);
            if room.min(self.tickets.free()) < entries {
                return;
            }
            self.stage_step(index, step);
            self.ops.op_mut(index).issued(step);
        }
    }

    fn stage_step(&mut self, index: usize, step: Step) {
        let target = self.target(self.ops.op(index).file);
        match step {
            Step::Write { offset, len } => {
                let entry = self.write_entry(target, index, offset, len);
                self.stage_entry(entry, Work { op: index, part: Part::Write { len } });
            }
            Step::LinkedWrite { len } => {
                let write = self.write_entry(target, index, 0, len);
                let (write, sync) = match self.ops.op(index).drains() {
                    true => (write, entry::drain(entry::sync(target))),
                    false => (entry::link(write), entry::sync(target)),
                };
                self.stage_entry(write, Work { op: index, part: Part::Write { len } });
                self.stage_entry(sync, Work { op: index, part: Part::Sync });
            }
            Step::Sync => {
                self.stage_entry(entry::sync(target), Work { op: index, part: Part::Sync });
            }
            Step::Nothing => {}
        }
    }

    fn write_entry(&self, target: Target, index: usize, offset: usize, len: u32) -> squeue::Entry {
        let op = self.ops.op(index);
        let buffer = op.block().and_then(|block| block.registered_with(self.pool_id));
        let rw_flags = if op.is_dsync() { libc::RWF_DSYNC } else { 0 };
        entry::write(target, op.bytes(offset, len), buffer, op.position(offset), rw_flags)
    }

    fn stage_entry(&mut self, entry: squeue::Entry, work: Work) {
        let user_data = self.tickets.issue(work);
        // SAFETY: `ops` keeps the operation with its block, and `files` its file, until all tickets
        // of the operation were redeemed; dropping the ring waits for that or leaks both.
        unsafe { entry::push(&mut self.ring, &entry.user_data(user_data)) }
        self.staged.push_back(user_data);
    }

    fn target(&self, file: usize) -> Target {
        let place = file + 1;
        if self.registered.get(place).copied().unwrap_or(false) {
            Target::Registered(u32::try_from(place).expect("a table is small"))
        } else {
            let file = RealFile::of(self.files.file(file));
            Target::Plain(file.expect("checked when it was registered").as_raw_fd())
        }
    }

    /// One io_uring_enter(2), which also consumes what is staged. Being put off is no error here.
    fn enter(&mut self, want: usize, args: Option<&SubmitArgs<'_, '_>>) -> io::Result<()> {
        self.facts.calls += 1;
        let submitter = self.ring.submitter();
        let result = match args {
            None => submitter.submit_and_wait(want),
            Some(args) => submitter.submit_with_args(want, args),
        };
        self.settle();
        match result {
            Ok(_) => Ok(()),
            Err(error) => self.judge(error),
        }
    }

    /// Accounts for what the kernel consumed. Its head of the queue says that, not the result of
    /// the call: an error does not mean that nothing was consumed.
    fn settle(&mut self) {
        let left = self.ring.submission().len();
        let consumed =
            self.staged.len().checked_sub(left).expect("the head does not pass the tail");
        if consumed > 0 {
            self.deferrals = 0;
            self.staged.drain(..consumed);
        }
        if let Some(&next) = self.staged.front()
            && next != NO_TICKET
        {
            let work = self.tickets.work(next).expect("a staged ticket is out");
            if work.part == Part::Sync {
                self.ops.op_mut(work.op).link_broke();
            }
        }
    }

    fn judge(&mut self, error: io::Error) -> io::Result<()> {
        match error.raw_os_error() {
            Some(libc::EINTR | libc::ETIME) => Ok(()),
            // No memory for requests just now, or completions that must be taken first.
            Some(libc::EAGAIN | libc::EBUSY) if self.deferrals < MAX_DEFERRALS => {
                self.deferrals += 1;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// The only operation there is, if it is a write that is durable by itself and one part long.
    fn lone_write(&self) -> Option<usize> {
        let index = *self.queued.front()?;
        (self.tokens.len() == 1 && self.ops.op(index).is_one_durable_write()).then_some(index)
    }

    /// Writes with `pwritev2(2)` on this thread, which is faster than the way through the ring for a caller
    /// who waits for this one write. A killed process ends after its system calls have, and its lock with it.
    fn write_alone(&mut self, index: usize) {
        self.queued.clear();
        let mut op = self.ops.remove(index);
        let file = op.file;
        let target = RealFile::of(self.files.file(file)).expect("checked when it was registered");
        let before = self.writer.calls;
        op.write_by(|bytes, at| self.writer.write(target, bytes, at, Durability::Dsync));
        self.facts.calls += self.writer.calls - before;
        self.done.push_back(op.into_completion());
        if self.files.end(file).is_some() {
            self.unregister(file);
        }
    }

    /// Whether completions wait for a call.
    fn call_is_due(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Takes all completions that are there.
    ///
    /// # Errors
    /// A completion that belongs to nothing.
    fn harvest(&mut self, completions: &mut Vec<Completion>) -> Result<(), UnknownCompletion> {
        for completion in self.done.drain(..) {
            self.tokens.end(completion.token);
            completions.push(completion);
        }
        loop {
            // Bound first: the borrow of the queue must end before the ring is used again.
            let next = self.ring.completion().next();
            let Some(entry) = next else { return Ok(()) };
            let user_data = entry.user_data();
            if user_data == NO_TICKET && mem::take(&mut self.watched) {
                continue;
            }
            let work = self.tickets.redeem(user_data).ok_or(UnknownCompletion { user_data })?;
            self.complete(work, entry.result(), completions);
        }
    }

    fn complete(&mut self, work: Work, result: i32, completions: &mut Vec<Completion>) {
        let op = self.ops.op_mut(work.op);
        op.complete(work.part, result);
        if !op.is_finished() {
            if !op.ready && op.next_step() != Step::Nothing {
                op.ready = true;
                self.ready.push_back(work.op);
            }
            return;
        }
        if op.ready {
            // It failed with parts left, which are not handed over any more.
            self.ready.retain(|&index| index != work.op);
        }
        let op = self.ops.remove(work.op);
        let file = op.file;
        let completion = op.into_completion();
        self.tokens.end(completion.token);
        completions.push(completion);
        if self.files.end(file).is_some() {
            self.unregister(file);
        }
    }

    /// Empties the place of a file that nothing uses. If the kernel refuses, it keeps the file open
    /// until the place is taken again; no entry names it meanwhile.
    fn unregister(&mut self, file: usize) {
        let place = file + 1;
        if let Some(registered) = self.registered.get_mut(place)
            && mem::take(registered)
        {
            let place = u32::try_from(place).expect("a table is small");
            let _ = self.ring.submitter().register_files_update(place, &[NO_FILE]);
        }
    }

    /// Stages an entry that completes when the alarm is raised.
    fn watch(&mut self) -> io::Result<()> {
        let Some(alarm) = self.alarm.as_ref().filter(|_| !self.watched) else {
            return Ok(());
        };
        let entry = entry::watch(alarm.as_fd().as_raw_fd()).user_data(NO_TICKET);
        if self.ring.submission().is_full() {
            self.enter(0, None)?;
        }
        if self.ring.submission().is_full() {
            // The kernel puts everything off; the wait returns early, and the next one tries again.
            return Ok(());
        }
        // SAFETY: names no memory; the kernel holds the alarm's descriptor while it watches.
        unsafe { entry::push(&mut self.ring, &entry) }
        self.staged.push_back(NO_TICKET);
        self.watched = true;
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.tickets.issued() == 0 && self.ready.is_empty()
    }

    /// Waits for all that was submitted, and lets go of the lock's registration.
    fn finish(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        loop {
            self.harvest(completions).map_err(io::Error::other)?;
            self.hand_over()?;
            if self.is_idle() {
                break;
            }
            // For a completion, whatever the alarm says: nobody is left to clear it, or to turn when it is raised.
            self.enter(1, None)?;
        }
        if self.lock.is_some() {
            self.ring.submitter().register_files_update(LOCK_PLACE, &[NO_FILE])?;
            self.lock = None;
        }
        Ok(())
    }

    /// Waits on the ring's descriptor, for kernels whose calls take no timeout (before 5.11). They
    /// have no deferred completions, of which the descriptor would not tell.
    fn poll(&mut self, timeout: Duration) -> io::Result<()> {
        self.hand_over()?;
        let millis = timeout.as_millis().saturating_add(u128::from(timeout.subsec_nanos() > 0));
        let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
        let mut poll = libc::pollfd { fd: self.ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one `pollfd`, borrowed for the call.
        let result = unsafe { libc::poll(&raw mut poll, 1, millis) };
        if result >= 0 { Ok(()) } else { self.judge(io::Error::last_os_error()) }
    }
}

impl Ring for UringRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        let fd = RealFile::of(file)?.as_raw_fd();
        let slot = self.files.insert(file.clone());
        let place = self.files.index(slot) + 1;
        if let Some(registered) = self.registered.get_mut(place) {
            let place = u32::try_from(place).expect("a table is small");
            match self.ring.submitter().register_files_update(place, &[fd]) {
                Ok(_) => *registered = true,
                Err(error) => {
                    self.files.release(slot);
                    return Err(error);
                }
            }
        }
        Ok(slot)
    }

    fn release(&mut self, slot: FileSlot) {
        let index = self.files.index(slot);
        if self.files.release(slot).is_some() {
            self.unregister(index);
        }
    }

    fn take_block(&mut self) -> Option<Block> {
        self.pool.pop()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        operation.assert_valid();
        if self.ops.is_full() {
            return Err(operation);
        }
        let file = self.files.begin(operation.file());
        self.tokens.begin(operation.token());
        let index = self.ops.insert(Op::new(operation, file));
        self.queued.push_back(index);
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        for index in self.queued.drain(..) {
            self.ops.op_mut(index).ready = true;
            self.ready.push_back(index);
        }
        self.hand_over()
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        if self.call_is_due() {
            self.enter(0, None)?;
        }
        if let Err(unknown) = self.harvest(completions) {
            panic!("{unknown}");
        }
        self.hand_over()
    }

    fn submit_and_wait(&mut self) -> io::Result<()> {
        if let Some(index) = self.lone_write() {
            self.write_alone(index);
            return Ok(());
        }
        for index in self.queued.drain(..) {
            self.ops.op_mut(index).ready = true;
            self.ready.push_back(index);
        }
        self.wait(None)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if !self.done.is_empty() || self.is_idle() || !self.ring.completion().is_empty() {
            return Ok(());
        }
        // Waiting with nothing in the kernel would never end.
        self.stage();
        if self.announces
            && let Some(alarm) = self.alarm.clone()
        {
            self.hand_over()?;
            return if self.call_is_due() { Ok(()) } else { alarm.wait(timeout) };
        }
        self.watch()?;
        let Some(timeout) = timeout else { return self.enter(1, None) };
        let timeout = timeout.min(MAX_WAIT);
        if !self.ring.params().is_feature_ext_arg() {
            return self.poll(timeout);
        }
        let timeout = Timespec::from(timeout);
        self.enter(1, Some(&SubmitArgs::new().timespec(&timeout)))
    }

    fn listen(&mut self, alarm: &Arc<Alarm>) {
        assert!(self.alarm.is_none(), "a ring listens to one alarm");
        self.alarm = Some(Arc::clone(alarm));
    }

    fn announce(&mut self) -> io::Result<()> {
        let alarm = self.alarm.as_ref().expect("the ring listens to an alarm");
        if !self.announces {
            self.ring.submitter().register_eventfd(alarm.as_fd().as_raw_fd())?;
            // What had completed before the registration has not raised it.
            alarm.raise();
            self.announces = true;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.tokens.len()
    }

    fn facts(&self) -> RingFacts {
        self.facts.clone()
    }

    fn calls(&self) -> u64 {
        self.facts.calls
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.submit()?;
        self.finish(completions)
    }
}

impl Drop for UringRing {
    /// Waits for what was submitted. If that fails, the kernel may go on reading the blocks and
    /// writing the files for as long as it likes: both are leaked, and the lock with them.
    fn drop(&mut self) {
        if self.finish(&mut Vec::new()).is_err() {
            mem::forget(mem::take(&mut self.ops));
            mem::forget(mem::take(&mut self.files));
            mem::forget(self.lock.take());
        }
    }
}

impl fmt::Debug for UringRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringRing")
            .field("in_flight", &self.tokens.len())
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// The kernel completed what was not in flight, or was completed before: a bug here or there.
#[derive(Debug)]
struct UnknownCompletion {
    user_data: u64,
}

impl fmt::Display for UnknownCompletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a completion {:#x} that belongs to nothing in flight", self.user_data)
    }
}

impl std::error::Error for UnknownCompletion {}
