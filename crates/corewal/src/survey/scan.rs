//! Scanning: what stands in every block of one segment, as it verifies at its own place. Nothing is judged here.

use std::io;

use corewal_disk::{BLOCK_ALIGN, Block};
use corewal_format::{
    BatchFault, BatchHeader, BatchNumber, BodyFault, LogId, SEGMENT_HEADER_LEN, SegmentFault,
    SegmentHeader,
};

use crate::error::{Doing, IoFault, Reason};
use crate::layout::Layout;
use crate::recovery::{OpenSegment, WINDOW_LEN, Window, is_zero};

/// What stands in a stretch of blocks.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A copy of the segment's header, or why there is none.
    Header(u8, Option<SegmentFault>),
    /// A batch of which every byte verifies, and its bytes.
    Batch(BatchHeader, &'a [u8]),
    /// A header that verifies, of a batch that does not; its promises hold.
    Headed(BatchHeader, Reason),
    /// Something was written, and does not verify.
    Bad(Reason),
    /// Nothing was written since an earlier life of the file.
    Older(BatchFault),
    /// Nothing was ever written.
    Zero,
}

/// A stretch that may go on with the next block.
#[derive(Debug, Clone)]
struct Pending {
    at: u64,
    len: u64,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Headed(Box<BatchHeader>, Reason),
    Bad(Reason),
    Older(BatchFault),
    Zero,
}

impl Pending {
    fn seen(&self) -> Seen<'static> {
        match &self.kind {
            Kind::Headed(header, reason) => Seen::Headed(**header, reason.clone()),
            Kind::Bad(reason) => Seen::Bad(reason.clone()),
            Kind::Older(fault) => Seen::Older(*fault),
            Kind::Zero => Seen::Zero,
        }
    }
}

/// Reads a segment from its first block to its last, and shows stretch after stretch with offset and length.
/// What the file has beyond the segment's length is not looked at.
pub(crate) fn scan(
    layout: &Layout,
    log: LogId,
    open: &OpenSegment,
    visit: &mut dyn FnMut(u64, u64, Seen<'_>),
) -> Result<(), IoFault> {
    let header = &open.header;
    let path = layout.segment(header.shard, header.segment);
    let block_len = u64::from(header.block_len);
    for copy in [0, 1] {
        let fault = copy_fault(open, copy).doing("read", &path)?;
        visit(header.copy_at(copy), block_len, Seen::Header(copy, fault));
    }
    let end = header.segment_len.min(open.file_len);
    let mut scanner = Scanner { log, open, window: Window::new(), end, pending: None, until: 0 };
    let mut at = header.first_batch_at();
    while at + block_len <= end {
        at += scanner.step(at, visit);
    }
    scanner.flush(visit);
    Ok(())
}

/// Why one copy of a segment's header does not verify, or is not the header that counts.
fn copy_fault(open: &OpenSegment, copy: u8) -> io::Result<Option<SegmentFault>> {
    let at = open.header.copy_at(copy);
    let start = at - at % BLOCK_ALIGN as u64;
    let mut block = Block::zeroed(BLOCK_ALIGN);
    let read = match open.file.read_at(&mut block, start) {
        Ok(read) => read,
        // The other copy was read, else there were no header.
        Err(_) => return Ok(Some(SegmentFault::Magic)),
    };
    let offset = usize::try_from(at - start).expect("inside a block");
    let bytes = block[..read].get(offset..).unwrap_or_default();
    if bytes.len() < SEGMENT_HEADER_LEN {
        return Ok(Some(SegmentFault::Magic));
    }
    Ok(match SegmentHeader::decode(copy, bytes) {
        Ok(found) if found == open.header => None,
        Ok(_) => Some(SegmentFault::CopiesDiffer),
        Err(fault) => Some(fault),
    })
}

struct Scanner<'a> {
    log: LogId,
    open: &'a OpenSegment,
    window: Window,
    /// Nothing is read from here on.
    end: u64,
    pending: Option<Pending>,
    /// Blocks up to here belong to the header that was seen last, if they say nothing else.
    until: u64,
}

impl Scanner<'_> {
    /// Looks at the block at `at`; returns how many bytes are done.
    fn step(&mut self, at: u64, visit: &mut dyn FnMut(u64, u64, Seen<'_>)) -> u64 {
        let header = &self.open.header;
        let block_len = header.block_len as usize;
        let block = u32::try_from(at / u64::from(header.block_len)).expect("at most 4 GiB");
        let bytes = match read(&mut self.window, self.open, at, block_len) {
            Ok(bytes) if bytes.len() == block_len => bytes,
            Ok(_) => return self.note(at, Kind::Bad(Reason::Unreadable("cut off".into())), visit),
            Err(error) => {
                return self.note(at, Kind::Bad(Reason::Unreadable(error.to_string())), visit);
            }
        };
        let (shard, segment, incarnation) = (header.shard, header.segment, header.incarnation);
        match BatchHeader::decode(self.log, shard, segment, incarnation, block, bytes) {
            Ok(found) => self.batch(at, found, visit),
            Err(BatchFault::Zero) if at >= self.until && is_zero(bytes) => {
                self.note(at, Kind::Zero, visit)
            }
            Err(fault @ BatchFault::OlderLife { .. }) => {
                if let Ok(older) = BatchHeader::decode_anywhere(self.log, bytes) {
                    self.until = at + older.disk_len();
                }
                self.note(at, Kind::Older(fault), visit)
            }
            Err(fault) => {
                let goes_on = self.pending.is_some()
                    && (at < self.until || matches!(fault, BatchFault::Magic));
                let older =
                    self.pending.as_ref().is_some_and(|it| matches!(it.kind, Kind::Older(_)));
                let zero = self.pending.as_ref().is_some_and(|it| it.kind == Kind::Zero);
                if goes_on && !zero && (!older || at < self.until) {
                    return self.extend();
                }
                let expected = BatchNumber(0);
                self.note(at, Kind::Bad(Reason::Batch { expected, fault }), visit)
            }
        }
    }

    /// A header stands here; whether the batch does.
    fn batch(
        &mut self,
        at: u64,
        found: BatchHeader,
        visit: &mut dyn FnMut(u64, u64, Seen<'_>),
    ) -> u64 {
        let len = found.disk_len();
        let batch = found.number;
        let cut = Reason::Body { batch, fault: BodyFault::Cut };
        if at + len > self.end || found.block_len != self.open.header.block_len {
            return self.headed(at, found, cut, visit);
        }
        let wanted = usize::try_from(len).expect("at most a segment");
        let reason = match read(&mut self.window, self.open, at, wanted) {
            Err(error) => Reason::Unreadable(error.to_string()),
            Ok(bytes) => match found.verify(self.log, bytes) {
                Err(fault) => Reason::Body { batch, fault },
                Ok(_) => {
                    flush(&mut self.pending, visit);
                    visit(at, len, Seen::Batch(found, self.window.held(at, wanted)));
                    self.until = at + len;
                    return len;
                }
            },
        };
        self.headed(at, found, reason, visit)
    }

    /// The blocks of a broken batch are looked at one by one: a promise may stand among them.
    fn headed(
        &mut self,
        at: u64,
        found: BatchHeader,
        reason: Reason,
        visit: &mut dyn FnMut(u64, u64, Seen<'_>),
    ) -> u64 {
        self.flush(visit);
        self.until = at + found.disk_len();
        self.note(at, Kind::Headed(Box::new(found), reason), visit)
    }

    /// Notes one block; equal neighbours become one stretch.
    fn note(&mut self, at: u64, kind: Kind, visit: &mut dyn FnMut(u64, u64, Seen<'_>)) -> u64 {
        let same = |pending: &Pending| match (&pending.kind, &kind) {
            (Kind::Older(_), Kind::Older(_)) => true,
            (one, other) => one == other && !matches!(one, Kind::Headed(..)),
        };
        if self.pending.as_ref().is_some_and(same) {
            return self.extend();
        }
        self.flush(visit);
        let len = u64::from(self.open.header.block_len);
        self.pending = Some(Pending { at, len, kind });
        len
    }

    fn extend(&mut self) -> u64 {
        let len = u64::from(self.open.header.block_len);
        if let Some(pending) = &mut self.pending {
            pending.len += len;
        }
        len
    }

    fn flush(&mut self, visit: &mut dyn FnMut(u64, u64, Seen<'_>)) {
        flush(&mut self.pending, visit);
    }
}

fn flush(pending: &mut Option<Pending>, visit: &mut dyn FnMut(u64, u64, Seen<'_>)) {
    if let Some(pending) = pending.take() {
        visit(pending.at, pending.len, pending.seen());
    }
}

/// A bad sector must not hide its neighbours: what cannot be read at once is read alone.
fn read<'a>(
    window: &'a mut Window,
    open: &OpenSegment,
    at: u64,
    len: usize,
) -> io::Result<&'a [u8]> {
    if window.bytes(&open.file, at, len).is_err() {
        *window = Window::new();
        window.read_ahead(len);
        window.bytes(&open.file, at, len)?;
        window.read_ahead(WINDOW_LEN);
    }
    window.bytes(&open.file, at, len)
}
