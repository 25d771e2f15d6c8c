//! Looking at every block of a segment, whatever state it is in. Nothing is decided here.

use std::collections::BTreeSet;
use std::ops::Range;

use corewal_disk::{BLOCK_ALIGN, Block, File};
use corewal_format::{
    BATCH_HEADER_LEN, BatchFault, BatchFlags, BatchHeader, BatchNumber, BodyFault, Epoch,
    HEADER_BLOCKS, Incarnation, LogId, MIN_BLOCK_LEN, Place, SegmentFault, SegmentHeader,
    SegmentNumber, ShardId,
};

use crate::error::{Doing, IoFault, Reason, Source};
use crate::layout::Layout;
use crate::recovery::facts::Seen;
use crate::recovery::walk::{Opened, check_segment, open_segment};
use crate::recovery::window::Window;

/// Whole batches, one behind the other, in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) first: BatchHeader,
    pub(super) last: BatchHeader,
    /// The last epoch that a barrier among them closes; 0 for none.
    pub(super) barrier: Epoch,
    pub(super) batches: u64,
    pub(super) entries: u64,
}

impl Stretch {
    pub(super) fn of(header: BatchHeader) -> Self {
        let mut stretch =
            Self { first: header, last: header, barrier: Epoch(0), batches: 0, entries: 0 };
        stretch.take(header);
        stretch
    }

    fn take(&mut self, header: BatchHeader) {
        self.last = header;
        self.batches += 1;
        self.entries += u64::from(header.entry_count);
        if header.flags.contains(BatchFlags::BARRIER) {
            self.barrier = header.epoch;
        }
    }

    /// Whether `header` is the next batch, at the next place.
    fn is_before(&self, header: &BatchHeader) -> bool {
        header.number == self.last.number.next()
            && header.at() == self.last.at() + self.last.disk_len()
            && header.first_seq > self.last.last_seq()
            && header.epoch >= self.last.epoch
            && header.incarnation == self.last.incarnation
    }
}

/// A range of a segment in which no whole batch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) bytes: Range<u64>,
    /// What is at its first block.
    pub(super) fault: BatchFault,
    /// Bytes of its blocks that hold anything but zeros or an older life.
    pub(super) written: u64,
}

/// A batch whose header verifies and whose entries do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) header: BatchHeader,
    pub(super) fault: BodyFault,
    /// Entries whose own checksums hold.
    pub(super) intact: u64,
}

/// All that stands in a segment.
#[derive(Debug, Clone)]
pub(super) struct SegmentScan {
    pub(super) number: SegmentNumber,
    /// The header, if it is that of this segment.
    pub(super) header: Option<SegmentHeader>,
    /// What is wrong with the segment as a whole.
    pub(super) fault: Option<Reason>,
    pub(super) file_len: u64,
    /// Of the header, or of the batches.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) stretches: Vec<Stretch>,
    pub(super) holes: Vec<Hole>,
    pub(super) broken: Vec<Broken>,
    /// The furthest promises, also of batches that are not whole.
    pub(super) durable: Option<(BatchNumber, Source)>,
    pub(super) committed: Option<(Epoch, Source)>,
    pub(super) seen: Seen,
}

/// Where to look, and after which batches a stretch ends though another batch follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) layout: &'a Layout,
    pub(super) log: LogId,
    pub(super) shard: ShardId,
    pub(super) ends: &'a BTreeSet<BatchNumber>,
}

/// Looks at all of a segment.
pub(super) fn scan(place: Spot<'_>, number: SegmentNumber) -> Result<SegmentScan, IoFault> {
    let mut scan = SegmentScan {
        number,
        header: None,
        fault: None,
        file_len: 0,
        incarnation: None,
        stretches: Vec::new(),
        holes: Vec::new(),
        broken: Vec::new(),
        durable: None,
        committed: None,
        seen: Seen { segment: number, ..Seen::default() },
    };
    let file = match open_segment(place.layout, place.shard, number)? {
        Opened::Missing => {
            scan.fault = Some(Reason::SegmentMissing);
            return Ok(scan);
        }
        Opened::Unreadable(fault, file) => {
            scan.fault = Some(Reason::SegmentHeader(fault));
            file
        }
        Opened::Segment(open) => {
            let fits = check_segment(
                &open.header,
                place.log,
                place.shard,
                number,
                open.header.incarnation,
            );
            match fits {
                Err(reason) => scan.fault = Some(reason),
                Ok(()) => {
                    scan.header = Some(open.header);
                    scan.incarnation = Some(open.header.incarnation);
                }
            }
            open.file
        }
    };
    let path = place.layout.segment(place.shard, number);
    scan.file_len = file.len().doing("stat", &path)?;
    if let Some(header) = &scan.header
        && header.segment_len != scan.file_len
    {
        let (found, stated) = (scan.file_len, header.segment_len);
        scan.fault = Some(Reason::SegmentLen { found, stated });
    }
    scan.look(place, &file)?;
    Ok(scan)
}

impl SegmentScan {
    /// Whether a batch of this segment was ever written to it, as far as can be seen.
    pub(super) fn was_used(&self) -> bool {
        self.seen.batch > BatchNumber(0)
    }

    /// Whether a crash while the segment was prepared can have left it so.
    pub(super) fn is_unprepared(&self) -> bool {
        let crash = matches!(
            self.fault,
            Some(
                Reason::SegmentHeader(
                    SegmentFault::Zero | SegmentFault::Magic | SegmentFault::Checksum
                ) | Reason::SegmentLen { .. }
            )
        );
        crash && !self.was_used()
    }

    /// Whether its batches can be read again once it has a header.
    pub(super) fn needs_header(&self) -> bool {
        self.header.is_none() && !self.stretches.is_empty()
    }

    fn look(&mut self, place: Spot<'_>, file: &File) -> Result<(), IoFault> {
        let path = place.layout.segment(place.shard, self.number);
        let mut window = Window::new();
        let end = self.header.map_or(self.file_len, |it| it.segment_len.min(self.file_len));
        // Without a header the smallest block is tried everywhere: batches name their own.
        let step = self.header.map_or(MIN_BLOCK_LEN, |it| it.block_len);
        let mut at = u64::from(HEADER_BLOCKS) * u64::from(step);
        let mut older_until = at;
        while at + u64::from(step) <= end {
            let bytes = window.bytes(file, at, step as usize).doing("read", &path)?;
            let found = self.header_at(place, at, bytes);
            let is_zero = bytes.iter().all(|&byte| byte == 0);
            if let Err(BatchFault::OlderLife { .. }) = found
                && let Ok(older) = BatchHeader::decode_anywhere(place.log, bytes)
            {
                older_until = at + older.disk_len();
            }
            let fault = match found {
                Ok(header) => {
                    self.promises(&header);
                    let len = usize::try_from(header.disk_len().min(end - at)).unwrap_or(0);
                    let bytes = window.bytes(file, at, len).doing("read", &path)?;
                    match header.verify(place.log, bytes) {
                        Ok(_) => {
                            self.whole(place, header);
                            at += header.disk_len();
                            continue;
                        }
                        Err(fault) => {
                            let intact = header.intact_entries(place.log, bytes).count() as u64;
                            self.broken.push(Broken { header, fault, intact });
                            BatchFault::Checksum
                        }
                    }
                }
                Err(fault) => fault,
            };
            let is_written = !is_zero && at >= older_until;
            self.hole(at, u64::from(step), fault, is_written);
            at += u64::from(step);
        }
        Ok(())
    }

    /// The batch header at `at`, if it belongs there.
    fn header_at(&self, place: Spot<'_>, at: u64, bytes: &[u8]) -> Result<BatchHeader, BatchFault> {
        let number = self.number;
        match &self.header {
            Some(segment) => {
                let block = u32::try_from(at / u64::from(segment.block_len)).unwrap_or(u32::MAX);
                let (shard, incarnation) = (place.shard, segment.incarnation);
                let header =
                    BatchHeader::decode(place.log, shard, number, incarnation, block, bytes)?;
                let fits = header.block_len == segment.block_len;
                if fits { Ok(header) } else { Err(BatchFault::Impossible("block size")) }
            }
            None => {
                let header = BatchHeader::decode_anywhere(place.log, bytes)?;
                let is_here = (header.shard, header.segment, header.at())
                    == (place.shard, number, at)
                    && self.incarnation.is_none_or(|it| it == header.incarnation);
                if is_here { Ok(header) } else { Err(BatchFault::Magic) }
            }
        }
    }

    fn promises(&mut self, header: &BatchHeader) {
        let at = Place { shard: header.shard, segment: header.segment, at: header.at() };
        let source = Source::Batch { number: header.number, at };
        if self.durable.is_none_or(|(batch, _)| batch < header.durable_batch) {
            self.durable = Some((header.durable_batch, source));
        }
        if self.committed.is_none_or(|(epoch, _)| epoch < header.committed_epoch) {
            self.committed = Some((header.committed_epoch, source));
        }
        self.seen.batch = self.seen.batch.max(header.number);
        self.seen.seq = self.seen.seq.max(header.last_seq());
        self.seen.epoch = self.seen.epoch.max(header.epoch);
    }

    fn whole(&mut self, place: Spot<'_>, header: BatchHeader) {
        self.incarnation.get_or_insert(header.incarnation);
        match self.stretches.last_mut() {
            Some(last) if last.is_before(&header) && !place.ends.contains(&last.last.number) => {
                last.take(header);
            }
            _ => self.stretches.push(Stretch::of(header)),
        }
    }

    fn hole(&mut self, at: u64, len: u64, fault: BatchFault, is_written: bool) {
        let written = if is_written { len } else { 0 };
        match self.holes.last_mut() {
            Some(hole) if hole.bytes.end == at => {
                hole.bytes.end = at + len;
                if hole.written == 0 && is_written {
                    hole.fault = fault;
                }
                hole.written += written;
            }
            _ => self.holes.push(Hole { bytes: at..at + len, fault, written }),
        }
    }
}

/// The bytes of a batch, as many of them as the file has.
pub(super) fn batch_bytes(layout: &Layout, header: &BatchHeader) -> Result<Block, IoFault> {
    let path = layout.segment(header.shard, header.segment);
    let open = corewal_disk::Open::READ.direct();
    let file = layout.disk.open(&path, open).doing("open", &path)?;
    let left = file.len().doing("stat", &path)?.saturating_sub(header.at());
    let len = usize::try_from(header.disk_len().min(left)).unwrap_or(0).max(BATCH_HEADER_LEN);
    let mut window = Window::new();
    let bytes = window.bytes(&file, header.at(), len).doing("read", &path)?;
    let mut block = Block::zeroed(len.next_multiple_of(BLOCK_ALIGN));
    block[..bytes.len()].copy_from_slice(bytes);
    Ok(block)
}
