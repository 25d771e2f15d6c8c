//! Walking over the batches of a run: from place to place, by number, across segments.

use std::io;
use std::ops::RangeInclusive;

use corewal_disk::{BLOCK_ALIGN, Block, File, Open};
use corewal_format::{
    BatchFault, BatchHeader, BatchNumber, BodyFault, CurrentRun, Epoch, HEADER_BLOCKS, Incarnation,
    LogId, MAX_BLOCK_LEN, Place, SegmentFault, SegmentHeader, SegmentNumber, Seq, ShardId,
};

use crate::error::{Doing, IoFault, Reason};
use crate::layout::Layout;
use crate::recovery::window::{Reading, Window};

/// A segment that was opened for reading.
#[derive(Debug, Clone)]
pub(crate) struct OpenSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: File,
    /// Bytes that the file really has.
    pub(crate) file_len: u64,
    /// Whether reads of it come from the device.
    pub(crate) from_device: bool,
}

/// What opening a segment found.
#[derive(Debug)]
pub(crate) enum Opened {
    Segment(Box<OpenSegment>),
    /// No copy of the header is readable; the better reason of the two.
    Unreadable(SegmentFault, File),
    Missing,
}

/// Opens a segment and reads its header, either copy.
pub(crate) fn open_segment(
    layout: &Layout,
    shard: ShardId,
    number: SegmentNumber,
) -> Result<Opened, IoFault> {
    let path = layout.segment(shard, number);
    let file = match layout.disk.open(&path, Open::READ.direct()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Missing),
        Err(error) => return Err(IoFault::new("open", &path, error)),
    };
    let from_device = file.drop_cache().doing("drop from the cache", &path)?;
    let file_len = file.len().doing("stat", &path)?;
    // The second copy stands one block behind the first, and the block's size is in the header: look at
    // every size that there can be.
    let header_len = file_len.clamp(1, 2 * u64::from(MAX_BLOCK_LEN));
    let header_len = usize::try_from(header_len).expect("at most two blocks");
    let mut block = Block::zeroed(header_len.next_multiple_of(BLOCK_ALIGN));
    let read = file.read_at(&mut block, 0).doing("read", &path)?;
    let first = SegmentHeader::decode(0, &block[..read.min(BLOCK_ALIGN)]);
    let second = std::iter::successors(Some(512_usize), |len| Some(len * 2))
        .take_while(|&len| len <= MAX_BLOCK_LEN as usize)
        .filter_map(|at| SegmentHeader::decode(1, block[..read].get(at..)?).ok().zip(Some(at)))
        .find_map(|(header, at)| (header.copy_at(1) == at as u64).then_some(header));
    match (first, second) {
        (Ok(first), Some(second)) if first != second => {
            Ok(Opened::Unreadable(SegmentFault::CopiesDiffer, file))
        }
        (Ok(header), _) | (Err(_), Some(header)) => {
            Ok(Opened::Segment(Box::new(OpenSegment { header, file, file_len, from_device })))
        }
        (Err(fault), None) => Ok(Opened::Unreadable(fault, file)),
    }
}

/// Compares a segment's header with what must stand there.
pub(crate) fn check_segment(
    header: &SegmentHeader,
    log: LogId,
    shard: ShardId,
    number: SegmentNumber,
    incarnation: Incarnation,
) -> Result<(), Reason> {
    if header.log != log {
        return Err(Reason::OtherLog(header.log));
    }
    if (header.shard, header.segment) != (shard, number) {
        return Err(Reason::OtherSegment(header.shard, header.segment));
    }
    if header.incarnation != incarnation {
        return Err(Reason::OtherIncarnation { found: header.incarnation, known: incarnation });
    }
    Ok(())
}

/// The header of the first batch of a segment of a run, if there is one that verifies.
pub(crate) fn first_batch(
    layout: &Layout,
    log: LogId,
    shard: ShardId,
    number: SegmentNumber,
    incarnation: Incarnation,
) -> Result<Option<BatchHeader>, IoFault> {
    let Opened::Segment(open) = open_segment(layout, shard, number)? else { return Ok(None) };
    if check_segment(&open.header, log, shard, number, incarnation).is_err() {
        return Ok(None);
    }
    let (at, len) = (open.header.first_batch_at(), open.header.block_len as usize);
    let path = layout.segment(shard, number);
    let mut window = Window::new();
    window.read_ahead(len);
    let bytes = window.bytes(&open.file, at, len).doing("read", &path)?;
    Ok(BatchHeader::decode(log, shard, number, incarnation, HEADER_BLOCKS, bytes).ok())
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) segment: SegmentNumber,
    pub(crate) at: u64,
    /// The batch that must come next.
    pub(crate) expected: BatchNumber,
    /// The lowest seq that it may start with.
    pub(crate) least_seq: Seq,
    /// The lowest epoch that it may have.
    pub(crate) least_epoch: Epoch,
}

impl Cursor {
    /// Where a run that is being written begins.
    pub(crate) fn start(run: CurrentRun, first_epoch: Epoch) -> Self {
        Self {
            segment: run.first_segment,
            at: 0,
            expected: run.first_batch,
            least_seq: run.first_seq,
            least_epoch: first_epoch,
        }
    }

    /// Before a batch, as a walk comes to it.
    pub(crate) fn before(header: &BatchHeader) -> Self {
        Self {
            segment: header.segment,
            at: header.at(),
            expected: header.number,
            least_seq: header.first_seq,
            least_epoch: header.epoch,
        }
    }
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next batch, verified; its bytes are in the window until the next step.
    Batch(BatchHeader),
    /// The first place that does not verify.
    Stop(Stop),
}

/// Why a walk goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    /// What is at the walk's place.
    pub(crate) here: Reason,
    /// The start of the next segment, where the batch may have gone for want of room, and what is there.
    pub(crate) next: Option<(Place, Reason)>,
}

impl Stop {
    /// Whether nothing was written at the walk's place, so that the batch belongs into the next segment.
    pub(crate) fn is_nothing_here(&self) -> bool {
        let fault = match &self.here {
            Reason::Batch { fault, .. } => fault,
            _ => return false,
        };
        matches!(fault, BatchFault::Zero | BatchFault::OlderLife { .. })
    }
}

/// Walks over one run.
#[derive(Debug)]
pub(crate) struct Walker {
    layout: Layout,
    log: LogId,
    shard: ShardId,
    incarnation: Incarnation,
    /// Segments that belong to the run.
    segments: RangeInclusive<SegmentNumber>,
    cursor: Cursor,
    open: Option<OpenSegment>,
    window: Window,
}

impl Walker {
    pub(crate) fn new(
        layout: Layout,
        log: LogId,
        shard: ShardId,
        incarnation: Incarnation,
        segments: RangeInclusive<SegmentNumber>,
        first: Cursor,
    ) -> Self {
        let window = Window::new();
        let cursor = first;
        Self { layout, log, shard, incarnation, segments, cursor, open: None, window }
    }

    /// Reads so many bytes at once, unless one batch needs more.
    pub(crate) fn read_at_once(mut self, len: usize) -> Self {
        self.window.read_ahead(len);
        self
    }

    /// Says when the device is asked for what comes next.
    pub(crate) fn reading(mut self, reading: Reading) -> Self {
        self.window = self.window.reading(reading);
        self
    }

    /// Reads the place again at the next step.
    pub(crate) fn forget(&mut self) {
        self.window.forget();
    }

    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Goes on somewhere else: behind a void range.
    pub(crate) fn jump(&mut self, cursor: Cursor) {
        if cursor.segment != self.cursor.segment {
            self.open = None;
            self.window.forget();
        }
        self.cursor = cursor;
    }

    pub(crate) fn place(&self) -> Place {
        Place { shard: self.shard, segment: self.cursor.segment, at: self.cursor.at }
    }

    /// The segment that the walk is in, opened by the last step.
    pub(crate) fn segment(&self) -> Option<&OpenSegment> {
        self.open.as_ref()
    }

    /// The bytes of the batch that the last step returned, from its header on.
    pub(crate) fn held(&self, header: &BatchHeader) -> &[u8] {
        let len = usize::try_from(header.disk_len()).expect("the batch is in memory");
        self.window.held(header.at(), len)
    }

    /// The next batch of the run, or why there is none at this place.
    pub(crate) fn step(&mut self) -> Result<Step, IoFault> {
        let mut stop = match self.batch_here()? {
            Ok(header) => return Ok(Step::Batch(self.advance(header))),
            Err(here) => Stop { here, next: None },
        };
        // The batch may have been too large for the rest of the segment, and opened the next one.
        let next = self.cursor.segment.next();
        if self.segments.contains(&next) {
            let here = (self.cursor, self.open.take());
            self.cursor.segment = next;
            self.cursor.at = self.first_batch_at()?;
            self.window.forget();
            match self.batch_here()? {
                Ok(header) => return Ok(Step::Batch(self.advance(header))),
                // The next batch may be in there: what cannot be read is never an end.
                Err(here @ Reason::Unreadable(_)) => {
                    return Ok(Step::Stop(Stop { here, next: None }));
                }
                Err(reason) => stop.next = Some((self.place(), reason)),
            }
            (self.cursor, self.open) = here;
            self.window.forget();
        }
        Ok(Step::Stop(stop))
    }

    fn advance(&mut self, header: BatchHeader) -> BatchHeader {
        self.cursor.at = header.at() + header.disk_len();
        self.cursor.expected = header.number.next();
        self.cursor.least_seq = header.last_seq().next();
        self.cursor.least_epoch = header.epoch;
        header
    }

    /// Offset of the first batch of the segment at the cursor; 0 if its header cannot be read.
    fn first_batch_at(&mut self) -> Result<u64, IoFault> {
        Ok(self.open_here()?.map_or(0, |open| open.header.first_batch_at()))
    }

    fn open_here(&mut self) -> Result<Result<&OpenSegment, Reason>, IoFault> {
        if self.open.is_none() {
            match open_segment(&self.layout, self.shard, self.cursor.segment)? {
                Opened::Missing => return Ok(Err(Reason::SegmentMissing)),
                Opened::Unreadable(fault, _) => return Ok(Err(Reason::SegmentHeader(fault))),
                Opened::Segment(open) => {
                    let number = self.cursor.segment;
                    let fits =
                        check_segment(&open.header, self.log, self.shard, number, self.incarnation);
                    if let Err(reason) = fits {
                        return Ok(Err(reason));
                    }
                    self.open = Some(*open);
                }
            }
        }
        Ok(self.open.as_ref().ok_or(Reason::SegmentMissing))
    }

    /// Verifies the batch at the cursor.
    fn batch_here(&mut self) -> Result<Result<BatchHeader, Reason>, IoFault> {
        if let Err(reason) = self.open_here()? {
            return Ok(Err(reason));
        }
        let open = self.open.as_ref().expect("the segment was opened");
        if self.cursor.at < open.header.first_batch_at() {
            self.cursor.at = open.header.first_batch_at();
        }
        let Cursor { segment, at, expected, .. } = self.cursor;
        let path = || self.layout.segment(self.shard, segment);
        let block_len = open.header.block_len as usize;
        if at + u64::from(open.header.block_len) > open.header.segment_len {
            return Ok(Err(Reason::Batch { expected, fault: BatchFault::Zero }));
        }
        let block = u32::try_from(at / u64::from(open.header.block_len)).expect("at most 4 GiB");
        let bytes = match self.window.bytes(&open.file, at, block_len) {
            Ok(bytes) => bytes,
            Err(error) => {
                return unreadable(error).map_err(|error| IoFault::new("read", &path(), error));
            }
        };
        let header = match BatchHeader::decode(
            self.log,
            self.shard,
            segment,
            self.incarnation,
            block,
            bytes,
        ) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(Reason::Batch { expected, fault })),
        };
        if let Err(reason) = self.check_order(&header) {
            return Ok(Err(reason));
        }
        let batch = header.number;
        if at + header.disk_len() > open.header.segment_len.min(open.file_len)
            || header.block_len != open.header.block_len
        {
            return Ok(Err(Reason::Body { batch, fault: BodyFault::Cut }));
        }
        let len = usize::try_from(header.disk_len()).expect("at most a segment");
        let bytes = match self.window.bytes(&open.file, at, len) {
            Ok(bytes) => bytes,
            Err(error) => {
                return unreadable(error).map_err(|error| IoFault::new("read", &path(), error));
            }
        };
        match header.verify(self.log, bytes) {
            Ok(_) => Ok(Ok(header)),
            Err(fault) => Ok(Err(Reason::Body { batch, fault })),
        }
    }

    fn check_order(&self, header: &BatchHeader) -> Result<(), Reason> {
        let Cursor { expected, least_seq, least_epoch, .. } = self.cursor;
        let batch = header.number;
        if batch != expected {
            return Err(Reason::OtherBatch { expected, found: batch });
        }
        if header.first_seq < least_seq {
            return Err(Reason::Order { batch, what: "seq" });
        }
        if header.epoch < least_epoch {
            return Err(Reason::Order { batch, what: "epoch" });
        }
        Ok(())
    }
}

/// A device that cannot read a place is no end of the log: the reason is kept, and recovery refuses.
fn unreadable<T>(error: io::Error) -> io::Result<Result<T, Reason>> {
    Ok(Err(Reason::Unreadable(error.to_string())))
}
