//! Where a seq is: by the first batches of the segments, then from header to header inside of one.
//!
//! Segments are in the order of their seqs, so finding one takes a logarithm of their number in reads of one
//! block. What was learnt is kept in a small index.

use std::collections::BTreeMap;

use corewal_format::{BatchHeader, LogId, SegmentNumber, Seq, ShardId};

use crate::error::{Doing, IoFault};
use crate::layout::Layout;
use crate::recovery::stream::Span;
use crate::recovery::walk::{self, Cursor, Opened, open_segment};
use crate::recovery::window::Window;

/// How much is read at once on the way from header to header, in bytes.
const HOP_LEN: usize = 64 << 10;
/// A place inside of a segment is remembered every so many bytes.
const MARK_EVERY: u64 = 1 << 20;
/// How many places are remembered; then the index begins anew.
const MAX_MARKS: usize = 4096;

/// Batches whose place is known, by their first seq.
#[derive(Debug, Default)]
pub(crate) struct SeqIndex {
    marks: BTreeMap<Seq, Cursor>,
    /// The first batch of each segment that was looked at; none if it has none, or cannot be read.
    firsts: BTreeMap<SegmentNumber, Option<Cursor>>,
}

impl SeqIndex {
    fn mark(&mut self, cursor: Cursor) {
        if self.marks.len() >= MAX_MARKS {
            self.marks.clear();
        }
        self.marks.insert(cursor.least_seq, cursor);
    }

    /// The place of the batch that holds `seq`, or of one before it from which a verified walk gets there.
    ///
    /// Only batch headers are read, and nothing is judged: a place that does not verify ends the search, and the
    /// walk from there says why.
    pub(crate) fn locate(
        &mut self,
        layout: &Layout,
        log: LogId,
        shard: ShardId,
        span: &Span,
        seq: Seq,
    ) -> Result<Cursor, IoFault> {
        let start = Cursor {
            segment: *span.segments.start(),
            at: 0,
            expected: span.first_batch,
            least_seq: span.first_seq,
            least_epoch: span.first_epoch,
        };
        let segment = self.segment_of(layout, log, shard, span, seq)?.unwrap_or(start);
        let known = self.marks.range(..=seq).next_back().map(|(_, cursor)| *cursor);
        let known = known.filter(|it| span.segments.contains(&it.segment));
        let from = known.map_or(segment, |known| {
            if known.least_seq > segment.least_seq { known } else { segment }
        });
        self.hop(layout, log, shard, span, from, seq)
    }

    /// The last segment of the span whose first batch is not above `seq`, by bisection.
    fn segment_of(
        &mut self,
        layout: &Layout,
        log: LogId,
        shard: ShardId,
        span: &Span,
        seq: Seq,
    ) -> Result<Option<Cursor>, IoFault> {
        let (first, last) = (span.segments.start().0, self.last_of(layout, shard, span)?.0);
        let (mut low, mut high) = (first, last + 1);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            // A segment without a readable first batch says nothing: the one before it does.
            let mut probed = middle;
            let probe = loop {
                let probe = self.first_of(layout, log, shard, span, SegmentNumber(probed))?;
                if probe.is_some() || probed == low {
                    break probe;
                }
                probed -= 1;
            };
            match probe {
                Some(cursor) if cursor.least_seq > seq => high = probed,
                Some(cursor) => {
                    found = Some(cursor);
                    low = middle + 1;
                }
                None => low = middle + 1,
            }
        }
        Ok(found)
    }

    /// The last segment of a span that is there; that of a run that is being written is not recorded.
    fn last_of(
        &self,
        layout: &Layout,
        shard: ShardId,
        span: &Span,
    ) -> Result<SegmentNumber, IoFault> {
        if span.last_batch != Span::OPEN_END {
            return Ok(*span.segments.end());
        }
        let listing = layout.list()?;
        let last = listing.segments(shard).last().copied().unwrap_or_default();
        Ok(last.max(*span.segments.start()))
    }

    fn first_of(
        &mut self,
        layout: &Layout,
        log: LogId,
        shard: ShardId,
        span: &Span,
        segment: SegmentNumber,
    ) -> Result<Option<Cursor>, IoFault> {
        if let Some(known @ Some(_)) = self.firsts.get(&segment) {
            return Ok(*known);
        }
        let first = first_batch(layout, log, shard, span, segment)?;
        if self.firsts.len() >= MAX_MARKS {
            self.firsts.clear();
        }
        self.firsts.insert(segment, first);
        Ok(first)
    }

    /// Goes from header to header until the batch that holds `seq`.
    fn hop(
        &mut self,
        layout: &Layout,
        log: LogId,
        shard: ShardId,
        span: &Span,
        from: Cursor,
        seq: Seq,
    ) -> Result<Cursor, IoFault> {
        let mut cursor = from;
        let Opened::Segment(open) = open_segment(layout, shard, cursor.segment)? else {
            return Ok(cursor);
        };
        let path = layout.segment(shard, cursor.segment);
        let block_len = u64::from(open.header.block_len);
        let mut window = Window::new();
        window.read_ahead(HOP_LEN);
        cursor.at = cursor.at.max(open.header.first_batch_at());
        let mut marked_at = cursor.at;
        while cursor.at + block_len <= open.header.segment_len.min(open.file_len) {
            let len = usize::try_from(block_len).expect("at most 64 KiB");
            let bytes = window.bytes(&open.file, cursor.at, len).doing("read", &path)?;
            let block = u32::try_from(cursor.at / block_len).expect("at most 4 GiB");
            let decoded =
                BatchHeader::decode(log, shard, cursor.segment, span.incarnation, block, bytes);
            let Ok(header) = decoded else { break };
            let is_next = header.number == cursor.expected && header.first_seq >= cursor.least_seq;
            if !is_next || header.last_seq() >= seq {
                break;
            }
            cursor.at += header.disk_len();
            cursor.expected = header.number.next();
            cursor.least_seq = header.last_seq().next();
            cursor.least_epoch = header.epoch;
            if cursor.at - marked_at >= MARK_EVERY {
                marked_at = cursor.at;
                self.mark(cursor);
            }
        }
        Ok(cursor)
    }
}

/// The first batch of a segment, if it is one of the span, and is not void.
fn first_batch(
    layout: &Layout,
    log: LogId,
    shard: ShardId,
    span: &Span,
    segment: SegmentNumber,
) -> Result<Option<Cursor>, IoFault> {
    let found = walk::first_batch(layout, log, shard, segment, span.incarnation)?;
    let is_kept = |header: &BatchHeader| {
        let mut voids = span.voids.iter();
        (span.first_batch..=span.last_batch).contains(&header.number)
            && !voids.any(|it| (it.first_batch..=it.last_batch).contains(&header.number))
    };
    Ok(found.filter(is_kept).as_ref().map(Cursor::before))
}
