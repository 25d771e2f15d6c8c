//! Preparing segments off the hot path: created or recycled, allocated, filled with zeros, header durable.
//!
//! One preparer serves all shards, and numbers ascend without a gap; so segment N is durable before N+1 is
//! created.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use corewal_disk::{Block, File, Open};
use corewal_format::{
    HEADER_BLOCKS, Incarnation, LogId, RkyvLayout, SchemaId, SegmentHeader, SegmentNumber, ShardId,
};

use crate::access::SegmentAccess;
use crate::error::{Doing, IoFault};
use crate::events;
use crate::layout::Layout;
use crate::meter::Tally;
use crate::options::AccessWish;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::wakeup::Wakeup;

/// How much is zeroed by one write, in bytes, while nothing is ready.
const FILL_LEN: usize = 256 << 10;

/// And while something is: a commit waits behind such a write, and flushes what it has written.
const GENTLE_FILL_LEN: usize = 64 << 10;

/// How long the preparer rests before it tries again what failed.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// A segment with a durable header and no batch.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: SegmentNumber,
    pub(crate) file: File,
    pub(crate) len: u64,
    pub(crate) fill: Fill,
}

/// What the blocks of a prepared segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Written once, so that a write changes no metadata.
    Written,
    /// Allocated, and perhaps not all of them written: taken before it was filled, because the writer was
    /// waiting, or of an earlier incarnation.
    Allocated,
}

/// A file that belongs to no run any more and can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) number: SegmentNumber,
    /// Its size, in bytes.
    pub(crate) len: u64,
    /// What is known of its blocks.
    pub(crate) fill: Fill,
}

/// The prepared segments of one shard.
#[derive(Debug)]
pub(crate) struct SegmentQueue {
    shard: ShardId,
    /// The first segment of the run; it is short, so that opening never waits.
    first: SegmentNumber,
    state: Mutex<QueueState>,
    /// Wakes the shard's writer.
    wakeup: Arc<Wakeup>,
    /// Held while a segment is prepared: two at once would make one number, and one file take the other's name.
    preparing: Mutex<()>,
    /// The writer has no next segment: a segment is handed over unfilled rather than late.
    wanted: AtomicBool,
    /// Bytes for batches in the queue.
    ready_len: AtomicU64,
    /// Bytes that were written to prepare; counted under `preparing`.
    written: Tally,
}

#[derive(Debug)]
struct QueueState {
    ready: VecDeque<Prepared>,
    next: SegmentNumber,
    leftovers: Vec<Leftover>,
    /// Why the last preparing failed.
    fault: Option<IoFault>,
    recycled: u64,
    /// Bytes of all files of the shard.
    disk_len: u64,
    /// The writer stands still for want of a segment; it is woken when there is one, or a fault.
    is_awaited: bool,
    /// A file whose preparing failed and that could not be removed; its number is free only without it.
    unremoved: Option<SegmentNumber>,
    /// Of the segment that was opened last.
    access: Option<SegmentAccess>,
}

impl SegmentQueue {
    /// With `run_len` bytes in the files of earlier runs.
    pub(crate) fn new(
        shard: ShardId,
        first: SegmentNumber,
        leftovers: Vec<Leftover>,
        run_len: u64,
        wakeup: Arc<Wakeup>,
    ) -> Self {
        let disk_len = run_len + leftovers.iter().map(|it| it.len).sum::<u64>();
        let state = QueueState {
            disk_len,
            ready: VecDeque::new(),
            next: first,
            leftovers,
            fault: None,
            recycled: 0,
            is_awaited: false,
            unremoved: None,
            access: None,
        };
        Self {
            shard,
            first,
            state: Mutex::new(state),
            wakeup,
            preparing: Mutex::new(()),
            wanted: AtomicBool::new(false),
            ready_len: AtomicU64::new(0),
            written: Tally::default(),
        }
    }

    /// The next prepared segment.
    pub(crate) fn take(&self) -> Option<Prepared> {
        if self.ready_len() == 0 {
            return None;
        }
        let taken = self.lock().ready.pop_front()?;
        self.ready_len.fetch_sub(taken.len, Ordering::AcqRel);
        Some(taken)
    }

    /// The writer stands still for want of a segment: rather an unfilled one than none. One that became ready
    /// since it looked is taken in its next turn.
    pub(crate) fn hurry(&self) {
        let mut state = self.lock();
        let is_empty = state.ready.is_empty();
        self.wanted.store(is_empty, Ordering::Release);
        state.is_awaited |= is_empty;
        drop(state);
        if !is_empty {
            self.wakeup.raise();
        }
    }

    /// Nobody will use the segment that is being prepared: it need not be filled.
    pub(crate) fn interrupt(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Bytes of the segments that are ready.
    pub(crate) fn ready_len(&self) -> u64 {
        self.ready_len.load(Ordering::Acquire)
    }

    /// Whether so many segments are ready: nothing is being prepared.
    pub(crate) fn is_stocked(&self, count: usize) -> bool {
        self.lock().ready.len() >= count
    }

    /// Why there is nothing, if the last preparing failed.
    pub(crate) fn fault(&self) -> Option<IoFault> {
        self.lock().fault.clone()
    }

    /// Nothing is prepared any more: who waits for a segment is told.
    fn abandon(&self, dir: &Path) {
        let cause = io::Error::other("the log was closed or dropped");
        self.lock().fault = Some(IoFault::new("prepare segments in", dir, cause));
        self.wakeup.raise();
    }

    /// Above every number that was prepared, is being prepared, or may still name a file.
    pub(crate) fn next(&self) -> SegmentNumber {
        let state = self.lock();
        state.unremoved.map_or(state.next, |number| state.next.max(number.next()))
    }

    /// How many files were used again.
    pub(crate) fn access(&self) -> Option<SegmentAccess> {
        self.lock().access
    }

    pub(crate) fn recycled(&self) -> u64 {
        self.lock().recycled
    }

    /// Bytes that were written to prepare: headers, and zeros.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written.read()
    }

    /// Takes files that belong to no run any more, and gives those back that are above the limit.
    pub(crate) fn spare(&self, mut files: Vec<Leftover>, limit: usize) -> Vec<Leftover> {
        let mut state = self.lock();
        let room = limit.saturating_sub(state.leftovers.len()).min(files.len());
        let excess = files.split_off(room);
        state.leftovers.extend(files);
        excess
    }

    /// A file of so many bytes was removed.
    pub(crate) fn forget(&self, len: u64) {
        let mut state = self.lock();
        state.disk_len = state.disk_len.saturating_sub(len);
    }

    /// Bytes of all files of the shard.
    pub(crate) fn disk_len(&self) -> u64 {
        self.lock().disk_len
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every segment of this incarnation has in common.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) layout: Layout,
    pub(crate) log: LogId,
    pub(crate) incarnation: Incarnation,
    pub(crate) block_len: u32,
    pub(crate) segment_len: u64,
    pub(crate) first_segment_len: u64,
    pub(crate) rkyv: RkyvLayout,
    pub(crate) schema: SchemaId,
    pub(crate) ahead: usize,
    pub(crate) access: AccessWish,
    /// What segments are filled with; nothing where every write goes to a new place anyway.
    pub(crate) zeros: Option<Block>,
}

/// Zeros to fill segments of so many bytes with.
pub(crate) fn zeros(segment_len: u64) -> Block {
    Block::zeroed(usize::try_from(segment_len).map_or(FILL_LEN, |len| len.min(FILL_LEN)))
}

/// What one step of preparing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A segment was prepared.
    Prepared,
    /// Enough is prepared.
    Enough,
    /// It failed, and is to be tried again.
    Failed,
}

impl Recipe {
    /// Prepares one segment for `queue` if it has fewer than it should.
    pub(crate) fn step(&self, queue: &SegmentQueue) -> Progress {
        let mut news = None;
        let progress = self.prepare_next(queue, &mut news);
        // With no lock held.
        if let Some(fault) = &news {
            events::preparing_failed(queue.shard, fault);
        }
        progress
    }

    /// Leaves the first fault of a row in `news`.
    fn prepare_next(&self, queue: &SegmentQueue, news: &mut Option<IoFault>) -> Progress {
        let _preparing = queue.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, len, leftover) = {
            let mut state = queue.lock();
            if state.ready.len() >= self.ahead {
                return Progress::Enough;
            }
            let is_first = state.next == queue.first;
            let len = if is_first { self.first_segment_len } else { self.segment_len };
            let is_stuck = state.fault.is_some();
            let reusable = state.leftovers.iter().position(|it| it.len == len);
            // Where no new file can be made, because the disk is full, rather a larger old one than none.
            let reusable =
                reusable.or_else(|| state.leftovers.iter().position(|it| is_stuck && it.len > len));
            let leftover = reusable.map(|index| state.leftovers.swap_remove(index));
            (state.next, leftover.map_or(len, |it| it.len), leftover)
        };
        let prepared = match leftover {
            Some(old) => self.recycle(queue, old, number),
            None => self.create(queue, number, len),
        };
        let mut state = queue.lock();
        let was_awaited = std::mem::take(&mut state.is_awaited);
        let progress = match prepared {
            Ok(prepared) => {
                state.next = number.next();
                state.fault = None;
                match leftover {
                    Some(_) => state.recycled += 1,
                    None => state.disk_len += prepared.len,
                }
                queue.ready_len.fetch_add(prepared.len, Ordering::AcqRel);
                state.ready.push_back(prepared);
                queue.wanted.store(false, Ordering::Release);
                Progress::Prepared
            }
            Err(fault) => {
                state.disk_len -= leftover.map_or(0, |it| it.len);
                if state.fault.is_none() {
                    *news = Some(fault.clone());
                }
                state.fault = Some(fault);
                Progress::Failed
            }
        };
        drop(state);
        if was_awaited {
            queue.wakeup.raise();
        }
        progress
    }

    /// Removes a file whose preparing failed, so that its number can be prepared again.
    fn remove(&self, shard: ShardId, number: SegmentNumber) -> Result<(), IoFault> {
        let path = self.layout.segment(shard, number);
        self.layout.disk.remove(&path).doing("remove", &path)?;
        self.sync_folder(shard)
    }

    fn sync_folder(&self, shard: ShardId) -> Result<(), IoFault> {
        let folder = self.layout.shard(shard);
        self.layout.disk.sync_dir(&folder).doing("sync", &folder)
    }

    /// Opens a segment for writing: directly if that is wanted and the blocks are large enough for it.
    fn open(&self, queue: &SegmentQueue, path: &Path, open: Open) -> io::Result<File> {
        let first = match self.access {
            AccessWish::Direct => open.direct(),
            AccessWish::Buffered => open,
        };
        let file = self.layout.disk.open(path, first)?;
        let access = SegmentAccess::of(self.access, file.access(), self.block_len);
        queue.lock().access = Some(access);
        match access {
            SegmentAccess::Misaligned { .. } => self.layout.disk.open(path, Open::WRITE),
            _ => Ok(file),
        }
    }

    /// Removes what an earlier preparing has left under the next number.
    fn clear(&self, queue: &SegmentQueue) -> Result<(), IoFault> {
        // Taken in a statement of its own: in the condition, the state would stay locked.
        let unremoved = queue.lock().unremoved.take();
        if let Some(number) = unremoved
            && let Err(fault) = self.remove(queue.shard, number)
        {
            queue.lock().unremoved = Some(number);
            return Err(fault);
        }
        Ok(())
    }

    /// The number is prepared again, in another file: none is skipped inside a run.
    fn give_up(&self, queue: &SegmentQueue, number: SegmentNumber) {
        if self.remove(queue.shard, number).is_err() {
            queue.lock().unremoved = Some(number);
        }
    }

    /// A new file.
    fn create(
        &self,
        queue: &SegmentQueue,
        number: SegmentNumber,
        len: u64,
    ) -> Result<Prepared, IoFault> {
        self.clear(queue)?;
        let path = self.layout.segment(queue.shard, number);
        let file = self.open(queue, &path, Open::CREATE).doing("create", &path)?;
        let made = file
            .allocate(len)
            .doing("allocate", &path)
            .and_then(|()| self.write(queue, number, len, Fill::Allocated, &file, &path))
            .and_then(|fill| self.sync_folder(queue.shard).map(|()| fill));
        match made {
            Ok(fill) => Ok(Prepared { number, file, len, fill }),
            Err(fault) => {
                drop(file);
                self.give_up(queue, number);
                Err(fault)
            }
        }
    }

    /// Zeros, where a block may not have been written yet, and the header. One sync makes both durable: each costs a
    /// commit of the file system's journal, and the batches beside it wait for that.
    fn write(
        &self,
        queue: &SegmentQueue,
        number: SegmentNumber,
        len: u64,
        fill: Fill,
        file: &File,
        path: &Path,
    ) -> Result<Fill, IoFault> {
        let fill = match fill {
            Fill::Written => Fill::Written,
            Fill::Allocated => self.fill(queue, file, len).doing("fill", path)?,
        };
        self.write_header(queue, number, len, file, path)?;
        file.sync_data().doing("sync", path)?;
        Ok(fill)
    }

    /// A file that belongs to no run any more under a new number. Its headers are zero, durably, before it gets
    /// the new name; so nothing of its earlier life is ever taken for the new one.
    fn recycle(
        &self,
        queue: &SegmentQueue,
        old: Leftover,
        number: SegmentNumber,
    ) -> Result<Prepared, IoFault> {
        self.clear(queue)?;
        let shard = queue.shard;
        let old_path = self.layout.segment(shard, old.number);
        let path = self.layout.segment(shard, number);
        let wiped = self.wipe(queue, &old_path);
        let file = match wiped {
            Ok(file) => file,
            Err(fault) => {
                // It is no use any more, and belongs to nobody; the next opening looks after it if it stays.
                let _ = self.layout.disk.remove(&old_path);
                return Err(fault);
            }
        };
        let renewed = self
            .layout
            .disk
            .rename(&old_path, &path)
            .doing("rename", &old_path)
            .and_then(|()| self.sync_folder(shard))
            .and_then(|()| self.write(queue, number, old.len, old.fill, &file, &path));
        match renewed {
            Ok(fill) => Ok(Prepared { number, file, len: old.len, fill }),
            Err(fault) => {
                drop(file);
                self.give_up(queue, number);
                Err(fault)
            }
        }
    }

    /// Zeroes both copies of the header, durably.
    fn wipe(&self, queue: &SegmentQueue, path: &Path) -> Result<File, IoFault> {
        let file = self.open(queue, path, Open::WRITE).doing("open", path)?;
        let headers = Block::zeroed((HEADER_BLOCKS * self.block_len) as usize);
        queue.written.add(headers.len() as u64);
        file.write_at(&headers, 0).doing("write", path)?;
        file.sync_data().doing("sync", path)?;
        Ok(file)
    }

    fn write_header(
        &self,
        queue: &SegmentQueue,
        number: SegmentNumber,
        len: u64,
        file: &File,
        path: &Path,
    ) -> Result<(), IoFault> {
        let header = SegmentHeader {
            log: self.log,
            shard: queue.shard,
            segment: number,
            incarnation: self.incarnation,
            segment_len: len,
            block_len: self.block_len,
            rkyv: self.rkyv,
            schema: self.schema,
        };
        let block_len = self.block_len as usize;
        let mut blocks = Block::zeroed(HEADER_BLOCKS as usize * block_len);
        header.encode(0, &mut blocks[..block_len]);
        header.encode(1, &mut blocks[block_len..]);
        queue.written.add(blocks.len() as u64);
        file.write_at(&blocks, 0).doing("write", path)
    }

    /// Writes every block once, so that later writes change no metadata; stops early when the writer waits.
    fn fill(&self, queue: &SegmentQueue, file: &File, len: u64) -> io::Result<Fill> {
        let Some(zeros) = &self.zeros else { return Ok(Fill::Written) };
        let mut at = u64::from(HEADER_BLOCKS * self.block_len);
        while at < len {
            if queue.wanted.load(Ordering::Acquire) {
                return Ok(Fill::Allocated);
            }
            let most = if queue.ready_len() > 0 { GENTLE_FILL_LEN } else { FILL_LEN };
            let left = usize::try_from(len - at).unwrap_or(usize::MAX);
            let part = &zeros[..left.min(most).min(zeros.len())];
            file.write_at(part, at)?;
            queue.written.add(part.len() as u64);
            at += part.len() as u64;
        }
        Ok(Fill::Written)
    }
}

/// Wakes and stops the preparing thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    work: bool,
    stop: bool,
}

impl Bell {
    /// There may be something to prepare.
    pub(crate) fn ring(&self) {
        self.lock().work = true;
        self.rung.notify_one();
    }

    /// The thread is to end.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.rung.notify_one();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    fn lock(&self) -> MutexGuard<'_, BellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, at most `patience`; false when the thread is to end.
    pub(crate) fn wait(&self, patience: Option<Duration>) -> bool {
        let mut state = self.lock();
        loop {
            if state.stop {
                return false;
            }
            if state.work {
                state.work = false;
                return true;
            }
            state = match patience {
                None => self.rung.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let (mut state, _) = self
                        .rung
                        .wait_timeout(state, patience)
                        .unwrap_or_else(PoisonError::into_inner);
                    state.work = true;
                    state
                }
            };
        }
    }
}

/// The preparing thread: one segment for each shard in turn, until all have enough.
pub(crate) fn run<'a, Queues>(recipe: &Recipe, bell: &Bell, queues: impl Fn() -> Queues)
where
    Queues: Iterator<Item = &'a SegmentQueue>,
{
    // Where that cannot be had, it competes with the writers like any other thread.
    let _ = corewal_disk::give_way();
    loop {
        let mut patience = None;
        let mut again = false;
        for queue in queues() {
            if bell.is_stopped() {
                break;
            }
            match recipe.step(queue) {
                Progress::Prepared => again = true,
                Progress::Failed => patience = Some(RETRY_AFTER),
                Progress::Enough => {}
            }
        }
        let goes_on = if again { !bell.is_stopped() } else { bell.wait(patience) };
        if !goes_on {
            queues().for_each(|queue| queue.abandon(&recipe.layout.dir));
            return;
        }
    }
}
