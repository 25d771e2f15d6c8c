//! Gathering: what stands in a shard's current run. Nothing is judged here.

use corewal_disk::File;
use corewal_format::{
    BatchFault, BatchFlags, BatchHeader, BatchNumber, CurrentRun, Epoch, HEADER_BLOCKS,
    Incarnation, LogId, MAX_BLOCK_LEN, MIN_BLOCK_LEN, Place, SegmentFault, SegmentNumber, Seq,
    ShardId, ShardRecord,
};

use crate::error::{Damage, Doing, IoFault, Reason, Source};
use crate::layout::Layout;
use crate::recovery::anchor;
use crate::recovery::walk::{
    Cursor, OpenSegment, Opened, Step, Walker, check_segment, open_segment,
};
use crate::recovery::window::{Reading, Window};

/// How much is looked at once behind the end, in bytes: a small part of a window, so that little of it is kept
/// when the next one is read.
const LOOK_LEN: u64 = 64 << 10;

const _: () = assert!(LOOK_LEN >= MAX_BLOCK_LEN as u64);

/// What was found in a shard's current run.
#[derive(Debug, Clone)]
pub(crate) struct RunFacts {
    pub(crate) shard: ShardId,
    /// The last batch of the intact beginning.
    pub(crate) last: Option<LastBatch>,
    /// The batch that would have come next: the first that is missing or broken.
    pub(crate) expected: BatchNumber,
    /// The first place that does not verify, and what is there. The start of a segment if the batch went there
    /// because nothing was written at the end of the one before.
    pub(crate) stop: Place,
    pub(crate) reason: Reason,
    /// The last epoch that the shard closed in the intact beginning; 0 for none.
    pub(crate) barrier: Epoch,
    /// The furthest promise about this shard's batches, wherever in the run it stands.
    pub(crate) durable: Option<(BatchNumber, Source)>,
    /// The furthest promise about committed epochs, wherever in the run it stands.
    pub(crate) committed: Option<(Epoch, Source)>,
    /// Numbers that were seen, also beyond the end; none is ever given out again.
    pub(crate) seen: Seen,
    /// Bytes of blocks behind the end that something was written to.
    pub(crate) torn_len: u64,
    /// What is damage whatever the promises say.
    pub(crate) damage: Option<Damage>,
    /// Whether all reads came from the device.
    pub(crate) from_device: bool,
}

/// The end of an intact beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastBatch {
    pub(crate) number: BatchNumber,
    pub(crate) segment: SegmentNumber,
    pub(crate) at: u64,
    pub(crate) last_seq: Seq,
    pub(crate) epoch: Epoch,
}

/// Size of an intact beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Intact {
    pub(crate) batches: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Intact {
    pub(crate) fn take(&mut self, header: &BatchHeader) {
        self.batches += 1;
        self.entries += u64::from(header.entry_count);
        self.bytes += header.disk_len();
    }
}

/// The highest numbers that were seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) segment: SegmentNumber,
    pub(crate) batch: BatchNumber,
    pub(crate) seq: Seq,
    pub(crate) epoch: Epoch,
}

impl Seen {
    fn take(&mut self, header: &BatchHeader) {
        self.batch = self.batch.max(header.number);
        self.seq = self.seq.max(header.last_seq());
        self.epoch = self.epoch.max(header.epoch);
    }
}

/// What a run is looked at for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunPlan<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) log: LogId,
    pub(crate) incarnation: Incarnation,
    pub(crate) first_epoch: Epoch,
    pub(crate) record: &'a ShardRecord,
    pub(crate) current: CurrentRun,
    /// The shard's files, in order.
    pub(crate) segments: &'a [SegmentNumber],
    /// When they are read.
    pub(crate) reading: Reading,
}

/// Where the walk over a current run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With the run: all of it is verified here.
    Run,
    /// Near its end, with a batch that is promised to be durable. What lies before it must be verified by
    /// reading the run as a stream.
    Anchor,
    /// Here.
    At(Cursor),
}

impl RunPlan<'_> {
    pub(super) fn shard(&self) -> ShardId {
        self.record.shard
    }

    fn place(&self, segment: SegmentNumber) -> Place {
        Place { shard: self.shard(), segment, at: 0 }
    }
}

/// Reads the current run of a shard from `begin` on, and everything behind it.
pub(crate) fn gather(plan: RunPlan<'_>, begin: Begin) -> Result<RunFacts, IoFault> {
    let first = plan.current.first_segment;
    let segments: Vec<SegmentNumber> =
        plan.segments.iter().copied().filter(|&number| number >= first).collect();
    let mut facts = empty(&plan);
    facts.seen.segment = segments.last().copied().unwrap_or_default();
    facts.damage = damaged_segment(&plan, &segments, &mut facts.from_device)?;
    if facts.damage.is_some() {
        return Ok(facts);
    }
    let last = segments.last().copied().unwrap_or(first);
    let cursor = match begin {
        Begin::Run => None,
        Begin::Anchor => anchor::find(&plan, &segments)?,
        Begin::At(cursor) => Some(cursor),
    };
    let cursor = cursor.unwrap_or_else(|| Cursor::start(plan.current, plan.first_epoch));
    facts.barrier = closed_before(&plan, cursor);
    let mut walker = Walker::new(
        plan.layout.clone(),
        plan.log,
        plan.shard(),
        plan.incarnation,
        first..=last,
        cursor,
    )
    .reading(plan.reading);
    let mut behind = Window::new().reading(plan.reading);
    let mut tried_twice = None;
    loop {
        let stop = loop {
            match walker.step()? {
                Step::Batch(header) => facts.take_intact(&header),
                Step::Stop(stop) => break stop,
            }
        };
        let end = walker.place();
        facts.expected = walker.cursor().expected;
        facts.torn_len = 0;
        let mut is_rest_unwritten = stop.is_nothing_here();
        for &number in segments.iter().filter(|&&number| number >= end.segment) {
            look_behind(&plan, number, end, &mut behind, &mut facts)?;
            is_rest_unwritten &= number != end.segment || facts.torn_len == 0;
        }
        (facts.stop, facts.reason) = match stop.next {
            Some((start, reason)) if is_rest_unwritten && tells(&reason, facts.expected) => {
                (start, reason)
            }
            _ => (end, stop.here),
        };
        // Beside a live writer the place may have been in flight when it was read, and the promise written
        // since: only what is bad when read again after its witness is bad.
        let is_promised = facts.durable.is_some_and(|(batch, _)| batch >= facts.expected);
        if !is_promised || tried_twice == Some(facts.stop) {
            break;
        }
        tried_twice = Some(facts.stop);
        walker.forget();
    }
    Ok(facts)
}

/// The last epoch that the shard closed below a place; 0 for none in this incarnation. Its epochs go up by one
/// each, and only by a barrier: with the first of another epoch, the one before is closed.
fn closed_before(plan: &RunPlan<'_>, cursor: Cursor) -> Epoch {
    if cursor.least_epoch > plan.first_epoch { cursor.least_epoch.before() } else { Epoch(0) }
}

/// Whether what is at the start of a segment speaks of the batch that is expected, and not of a later one or
/// of nothing at all.
fn tells(reason: &Reason, expected: BatchNumber) -> bool {
    match reason {
        Reason::Batch { fault, .. } => {
            !matches!(fault, BatchFault::Zero | BatchFault::OlderLife { .. })
        }
        Reason::Body { batch, .. } | Reason::Order { batch, .. } => *batch == expected,
        Reason::Unreadable(_) => true,
        _ => false,
    }
}

fn empty(plan: &RunPlan<'_>) -> RunFacts {
    RunFacts {
        shard: plan.shard(),
        last: None,
        expected: plan.current.first_batch,
        stop: plan.place(plan.current.first_segment),
        reason: Reason::SegmentMissing,
        barrier: Epoch(0),
        durable: None,
        committed: None,
        seen: Seen::default(),
        torn_len: 0,
        damage: None,
        from_device: true,
    }
}

impl RunFacts {
    fn take_intact(&mut self, header: &BatchHeader) {
        self.last = Some(LastBatch {
            number: header.number,
            segment: header.segment,
            at: header.at(),
            last_seq: header.last_seq(),
            epoch: header.epoch,
        });
        if header.flags.contains(BatchFlags::BARRIER) {
            self.barrier = header.epoch;
        }
        self.take_promises(header);
    }

    fn take_promises(&mut self, header: &BatchHeader) {
        let at = Place { shard: header.shard, segment: header.segment, at: header.at() };
        let source = Source::Batch { number: header.number, at };
        if self.durable.is_none_or(|(batch, _)| batch < header.durable_batch) {
            self.durable = Some((header.durable_batch, source));
        }
        if self.committed.is_none_or(|(epoch, _)| epoch < header.committed_epoch) {
            self.committed = Some((header.committed_epoch, source));
        }
        self.seen.take(header);
    }
}

/// A missing file below an existing one, or the unreadable header of a segment that was used: since a
/// segment is durable before the next one is created and before any batch goes into it, neither is ever
/// left by a power cut.
fn damaged_segment(
    plan: &RunPlan<'_>,
    segments: &[SegmentNumber],
    from_device: &mut bool,
) -> Result<Option<Damage>, IoFault> {
    let damage =
        |segment, reason| Ok(Some(Damage { at: plan.place(segment), reason, witness: None }));
    let mut number = plan.current.first_segment;
    for &segment in segments {
        if segment != number {
            return damage(number, Reason::SegmentMissing);
        }
        number = number.next();
        match open_segment(plan.layout, plan.shard(), segment)? {
            Opened::Missing => return damage(segment, Reason::SegmentMissing),
            Opened::Unreadable(fault, file) => {
                // What a crash while preparing can leave; anything else was never the header of a segment
                // that this program may take for an unused one.
                let unprepared = matches!(
                    fault,
                    SegmentFault::Zero | SegmentFault::Magic | SegmentFault::Checksum
                );
                let is_last = segments.last() == Some(&segment);
                if !is_last || !unprepared || was_used(plan, segment, &file)? {
                    return damage(segment, Reason::SegmentHeader(fault));
                }
            }
            Opened::Segment(open) => {
                *from_device &= open.from_device;
                let found = open.header.incarnation;
                if found > plan.incarnation && open.header.log == plan.log {
                    let known = plan.incarnation;
                    return damage(segment, Reason::LaterIncarnation { found, known });
                }
                let fits =
                    check_segment(&open.header, plan.log, plan.shard(), segment, plan.incarnation);
                if let Err(reason) = fits {
                    return damage(segment, reason);
                }
                let (found, stated) = (open.file_len, open.header.segment_len);
                let is_last = segments.last() == Some(&segment);
                if found != stated && (!is_last || was_used(plan, segment, &open.file)?) {
                    return damage(segment, Reason::SegmentLen { found, stated });
                }
            }
        }
    }
    Ok(None)
}

/// Whether any batch stands in a segment whose header says nothing, not even the size of a block.
fn was_used(plan: &RunPlan<'_>, segment: SegmentNumber, file: &File) -> Result<bool, IoFault> {
    let path = || plan.layout.segment(plan.shard(), segment);
    let mut window = Window::new();
    let file_len = file.len().doing("stat", &path())?;
    let step = u64::from(MIN_BLOCK_LEN);
    let mut at = 0;
    while at < file_len {
        let len = usize::try_from((file_len - at).min(step)).expect("at most a block");
        let bytes = window.bytes(file, at, len).doing("read", &path())?;
        if let Ok(header) = BatchHeader::decode_anywhere(plan.log, bytes)
            && (header.shard, header.segment, header.at()) == (plan.shard(), segment, at)
            && header.incarnation == plan.incarnation
        {
            return Ok(true);
        }
        at += step;
    }
    Ok(false)
}

/// Tries every block of a segment from `end` on as a batch header, for promises only.
fn look_behind(
    plan: &RunPlan<'_>,
    number: SegmentNumber,
    end: Place,
    window: &mut Window,
    facts: &mut RunFacts,
) -> Result<(), IoFault> {
    let Opened::Segment(open) = open_segment(plan.layout, plan.shard(), number)? else {
        return Ok(());
    };
    window.forget();
    let block_len = open.header.block_len as usize;
    let file_end = open.header.segment_len.min(open.file_len);
    let mut at = if number == end.segment { end.at } else { 0 };
    at = at.max(u64::from(HEADER_BLOCKS) * u64::from(open.header.block_len));
    let mut older_until = at;
    while at + block_len as u64 <= file_end {
        let len = usize::try_from((file_end - at).min(LOOK_LEN)).expect("a small part");
        let chunk = match window.bytes(&open.file, at, len) {
            Ok(chunk) => chunk,
            Err(error) => {
                let place = Place { at, ..plan.place(number) };
                let reason = Reason::Unreadable(error.to_string());
                facts.damage = Some(Damage { at: place, reason, witness: None });
                return Ok(());
            }
        };
        let whole = chunk.len() - chunk.len() % block_len;
        if whole == 0 {
            return Ok(());
        }
        for bytes in chunk[..whole].chunks_exact(block_len) {
            look_at_block(plan, &open, at, bytes, &mut older_until, facts);
            at += block_len as u64;
        }
    }
    Ok(())
}

fn look_at_block(
    plan: &RunPlan<'_>,
    open: &OpenSegment,
    at: u64,
    bytes: &[u8],
    older_until: &mut u64,
    facts: &mut RunFacts,
) {
    let block = u32::try_from(at / u64::from(open.header.block_len)).expect("at most 4 GiB");
    let segment = open.header.segment;
    match BatchHeader::decode(plan.log, plan.shard(), segment, plan.incarnation, block, bytes) {
        Ok(header) if header.block_len == open.header.block_len => facts.take_promises(&header),
        Err(BatchFault::Zero) if is_zero(bytes) => return,
        Err(BatchFault::OlderLife { .. }) => {
            if let Ok(older) = BatchHeader::decode_anywhere(plan.log, bytes) {
                *older_until = at + older.disk_len();
            }
        }
        Ok(_) | Err(_) => {}
    }
    if at >= *older_until {
        facts.torn_len += bytes.len() as u64;
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    rest.iter().all(|&byte| byte == 0) && words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
}
