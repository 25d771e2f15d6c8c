//! Where a current run is judged from: a place near its end, below which everything is promised to be durable.
//!
//! Each batch names the last one that was durable when it was sealed. So whatever lies below the furthest promise
//! had been acknowledged: it must verify, and the stream finds out, as for a run whose end is recorded. Only what
//! lies above is judged, and that is near the end.
//!
//! The search is free to miss things: every batch that it may return is good, an earlier one only costs time.

use std::ops::Range;

use corewal_format::{BatchFault, BatchHeader, BatchNumber, MAX_BLOCK_LEN, SegmentNumber};

use crate::error::IoFault;
use crate::recovery::facts::{RunPlan, is_zero};
use crate::recovery::walk::{Cursor, OpenSegment, Opened, check_segment, open_segment};
use crate::recovery::window::Window;

/// How much is read at one place, in bytes.
const CHUNK: u64 = 64 << 10;
/// How many chunks in a row are tried for a header: larger batches than that are found by going back.
const MAX_CHUNKS: u64 = 16;

const _: () = assert!(CHUNK.is_multiple_of(MAX_BLOCK_LEN as u64));

/// The last batch among those that were looked at which is promised to be durable; none if there is no such.
pub(super) fn find(
    plan: &RunPlan<'_>,
    segments: &[SegmentNumber],
) -> Result<Option<Cursor>, IoFault> {
    let mut search = Search { plan: *plan, durable: plan.record.durable_batch, found: Vec::new() };
    for &number in segments.iter().rev() {
        if let Opened::Segment(open) = open_segment(plan.layout, plan.shard(), number)? {
            search.look_into(&open, number);
        }
        if let Some(anchor) = search.anchor() {
            return Ok(Some(anchor));
        }
    }
    Ok(None)
}

struct Search<'a> {
    plan: RunPlan<'a>,
    /// The furthest promise.
    durable: BatchNumber,
    /// The first batch and the last of each chunk.
    found: Vec<Cursor>,
}

impl Search<'_> {
    fn anchor(&self) -> Option<Cursor> {
        let promised = self.found.iter().filter(|it| it.expected <= self.durable);
        promised.max_by_key(|it| it.expected).copied()
    }

    /// Halves a segment until its last batches are found, then goes back to one that they promise.
    fn look_into(&mut self, open: &OpenSegment, number: SegmentNumber) {
        let RunPlan { log, incarnation, .. } = self.plan;
        if check_segment(&open.header, log, self.plan.shard(), number, incarnation).is_err() {
            return;
        }
        let mut place = Chunks { open, window: Window::new() };
        place.window.read_ahead(usize::try_from(CHUNK).expect("a small part"));
        let (mut low, mut high) = (0, place.count());
        if self.first_headed(&mut place, 0..high.min(1)).is_none() {
            return;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.first_headed(&mut place, middle..high) {
                Some(chunk) => low = chunk,
                None => high = middle,
            }
        }
        let mut back = 1;
        while low > 0 && self.anchor().is_none() {
            low = low.saturating_sub(back);
            back *= 2;
            self.first_headed(&mut place, low..low + MAX_CHUNKS);
        }
    }

    /// The first chunk in which batches begin. None where nothing seems to have been written.
    fn first_headed(&mut self, place: &mut Chunks<'_>, chunks: Range<u64>) -> Option<u64> {
        for chunk in chunks.take(usize::try_from(MAX_CHUNKS).expect("a few")) {
            match self.look_at(place, chunk) {
                Look::Batches { first, last } => {
                    self.found.extend([first, last]);
                    return Some(chunk);
                }
                Look::Unwritten => return None,
                Look::Inside => {}
            }
        }
        None
    }

    /// Tries every block of a chunk as a batch header, and takes the promises.
    fn look_at(&mut self, place: &mut Chunks<'_>, chunk: u64) -> Look {
        let RunPlan { log, incarnation, first_epoch, current, .. } = self.plan;
        let (shard, segment) = (self.plan.shard(), place.open.header.segment);
        let block_len = place.open.header.block_len;
        // What cannot be read is met again, and judged, by whoever needs it.
        let Some((at, bytes)) = place.read(chunk) else { return Look::Inside };
        let mut look = Look::Inside;
        let first_block = u32::try_from(at / u64::from(block_len)).expect("at most 4 GiB");
        for (block, header) in (first_block..).zip(bytes.chunks_exact(block_len as usize)) {
            let is_first = block == first_block;
            match BatchHeader::decode(log, shard, segment, incarnation, block, header) {
                Ok(header)
                    if header.block_len == block_len
                        && header.number >= current.first_batch
                        && header.first_seq >= current.first_seq
                        && header.epoch >= first_epoch =>
                {
                    self.durable = self.durable.max(header.durable_batch);
                    look = look.and(Cursor::before(&header));
                }
                Err(BatchFault::OlderLife { .. }) if is_first => look = Look::Unwritten,
                Err(BatchFault::Zero) if is_first && is_zero(bytes) => return Look::Unwritten,
                Ok(_) | Err(_) => {}
            }
        }
        look
    }
}

/// What a chunk looks like.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// Batches begin in it: the first and the last of them.
    Batches { first: Cursor, last: Cursor },
    /// It begins with zeros alone, or with an older life: it seems to lie behind the end.
    Unwritten,
    /// No batch begins in it, as inside of a large one.
    Inside,
}

impl Look {
    /// With one more batch.
    fn and(self, last: Cursor) -> Self {
        match self {
            Self::Batches { first, .. } => Self::Batches { first, last },
            Self::Unwritten | Self::Inside => Self::Batches { first: last, last },
        }
    }
}

/// A segment in chunks, from its first batch on.
struct Chunks<'a> {
    open: &'a OpenSegment,
    window: Window,
}

impl Chunks<'_> {
    fn end(&self) -> u64 {
        self.open.header.segment_len.min(self.open.file_len)
    }

    fn count(&self) -> u64 {
        self.end().saturating_sub(self.open.header.first_batch_at()).div_ceil(CHUNK)
    }

    /// Where a chunk begins, and its bytes; none if it cannot be read.
    fn read(&mut self, chunk: u64) -> Option<(u64, &[u8])> {
        let at = self.open.header.first_batch_at() + chunk * CHUNK;
        let len = usize::try_from(self.end().checked_sub(at)?.min(CHUNK)).ok()?;
        self.window.bytes(&self.open.file, at, len).ok().map(|bytes| (at, bytes))
    }
}
