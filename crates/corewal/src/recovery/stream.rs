//! One shard's entries in order: its ended runs up to their exact ends, then the intact beginning of its
//! current run. Every batch is verified on the way.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use corewal_format::{
    BatchHeader, BatchNumber, EntryView, Epoch, Generation, Incarnation, LogId, Run, SegmentNumber,
    Seq, ShardId, Stamp, Void,
};

use crate::error::{Claim, Damage, IoFault, Reason, RecoverError, Source, Witness};
use crate::keep::{Piece, catalog};
use crate::layout::Layout;
use crate::recovery::facts::{Intact, LastBatch};
use crate::recovery::open_run::OpenRun;
use crate::recovery::report::LeftOut;
use crate::recovery::walk::{Cursor, Step, Walker, first_batch};
use crate::recovery::window::{Reading, WINDOW_LEN};

/// A stretch of a shard whose end is known.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) incarnation: Incarnation,
    pub(crate) first_epoch: Epoch,
    pub(crate) segments: RangeInclusive<SegmentNumber>,
    pub(crate) first_batch: BatchNumber,
    pub(crate) first_seq: Seq,
    pub(crate) last_batch: BatchNumber,
    pub(crate) last_batch_at: u64,
    pub(crate) last_kept_seq: Seq,
    pub(crate) voids: VecDeque<Void>,
    /// How it was judged where it ends, if that is not recorded.
    pub(crate) open: Option<Box<OpenRun>>,
}

impl Span {
    /// The last batch of a run that is still being written: its end is known by seq alone.
    pub(crate) const OPEN_END: BatchNumber = BatchNumber(u64::MAX);

    /// Whether nothing more of the span may be read, with the walk at `cursor`.
    fn is_over(&self, cursor: Cursor) -> bool {
        if self.last_batch == Self::OPEN_END {
            cursor.least_seq > self.last_kept_seq
        } else {
            cursor.expected > self.last_batch
        }
    }
}

impl From<&Run> for Span {
    fn from(run: &Run) -> Self {
        Self {
            incarnation: run.incarnation,
            first_epoch: run.first_epoch,
            segments: run.first_segment..=run.last_segment,
            first_batch: run.first_batch,
            first_seq: run.first_seq,
            last_batch: run.last_batch,
            last_batch_at: run.last_batch_at,
            last_kept_seq: run.last_kept_seq,
            voids: run.voids.iter().copied().collect(),
            open: None,
        }
    }
}

impl Span {
    /// The part of `run` from its last segment on that begins at or below `seq`: enough to find where `seq`
    /// is, without reading what lies before.
    pub(crate) fn entered(
        layout: &Layout,
        log: LogId,
        shard: ShardId,
        run: &Run,
        seq: Seq,
    ) -> Result<Self, IoFault> {
        let mut span = Self::from(run);
        let later = run.first_segment.0 + 1..=run.last_segment.0;
        for number in later.rev().map(SegmentNumber) {
            let Some(header) = first_batch(layout, log, shard, number, run.incarnation)? else {
                continue;
            };
            let is_void =
                |void: &Void| (void.first_batch..=void.last_batch).contains(&header.number);
            let is_inside = (run.first_batch..=run.last_batch).contains(&header.number);
            if is_inside && header.first_seq <= seq && !run.voids.iter().any(is_void) {
                span.segments = number..=run.last_segment;
                span.first_batch = header.number;
                span.first_seq = header.first_seq;
                span.first_epoch = header.epoch;
                span.voids.retain(|void| void.first_batch > header.number);
                break;
            }
        }
        Ok(span)
    }
}

/// What is delivered of a stream. All of it is read and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Nothing up to this stamp.
    pub(crate) above: Option<Stamp>,
    /// Nothing of a later epoch.
    pub(crate) until: Option<Epoch>,
}

impl Selection {
    pub(crate) const ALL: Self = Self { above: None, until: None };
}

/// The entries of one shard.
#[derive(Debug)]
pub(crate) struct ShardStream {
    layout: Layout,
    log: LogId,
    shard: ShardId,
    generation: Generation,
    spans: VecDeque<Span>,
    walker: Option<Walker>,
    batch: Option<OpenBatch>,
    /// The epoch of the last batch: epochs ascend over all runs of a shard, or the merge has no order.
    epoch: Epoch,
    /// Bytes of the batches that were read.
    read_len: u64,
    /// What was read of the run that was being written.
    open_run: Intact,
    /// The segments of the batches that were read.
    pieces: Vec<Piece>,
    selection: Selection,
    reading: Reading,
    /// How much is read at once, in bytes.
    window_len: usize,
    /// The last batch that was read and is not of a later epoch than is wanted, and its last kept seq.
    last: Option<LastBatch>,
    /// What is of a later epoch than is wanted.
    left_out: LeftOut,
    /// The entry that the stream stands on was not delivered: the next advance stays there.
    is_held: bool,
    /// The stream ends here: whoever goes on gets the same error again, and never takes it for the end.
    broken: Option<RecoverError>,
}

/// The batch that the stream is in; its bytes are in the walker's window.
#[derive(Debug, Clone, Copy)]
struct OpenBatch {
    header: BatchHeader,
    /// Offset of the current entry in the body.
    at: usize,
    /// Offset behind it.
    next_at: usize,
    /// Nothing above is delivered.
    last_kept_seq: Seq,
}

impl ShardStream {
    pub(crate) fn new(
        layout: Layout,
        log: LogId,
        shard: ShardId,
        generation: Generation,
        spans: VecDeque<Span>,
    ) -> Self {
        Self {
            layout,
            log,
            shard,
            generation,
            spans,
            walker: None,
            batch: None,
            epoch: Epoch(0),
            read_len: 0,
            open_run: Intact::default(),
            pieces: Vec::new(),
            selection: Selection::ALL,
            reading: Reading::Inline,
            window_len: WINDOW_LEN,
            last: None,
            left_out: LeftOut::default(),
            is_held: false,
            broken: None,
        }
    }

    /// Delivers only what is selected.
    pub(crate) fn select(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Says when the device is asked for what comes next.
    pub(crate) fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Reads so many bytes at once, unless one batch needs more.
    pub(crate) fn read_at_once(mut self, len: usize) -> Self {
        self.window_len = len;
        self
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// The last batch of the selected epochs among those that were read, with the last seq that is kept.
    pub(crate) fn last(&self) -> Option<LastBatch> {
        self.last
    }

    /// What was read of the run that was being written.
    pub(crate) fn open_run(&self) -> Intact {
        self.open_run
    }

    /// What was read of later epochs than the selected ones.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The next advance stays on the entry that the stream stands on.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    /// The lowest seq that the next batch may start with; none at the end.
    pub(crate) fn next_seq(&self) -> Option<Seq> {
        let span = self.spans.front()?;
        Some(self.walker.as_ref().map_or(span.first_seq, |walker| walker.cursor().least_seq))
    }

    /// What of the shard stands in which segment, as far as it was read.
    pub(crate) fn take_pieces(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    /// Begins inside of the first span, at `cursor`.
    pub(crate) fn enter(mut self, cursor: Cursor) -> Self {
        if let Some(span) = self.spans.front_mut() {
            span.voids.retain(|void| void.first_batch >= cursor.expected);
            let segments = cursor.segment..=*span.segments.end();
            let walker = Walker::new(
                self.layout.clone(),
                self.log,
                self.shard,
                span.incarnation,
                segments,
                cursor,
            );
            self.walker = Some(walker.read_at_once(self.window_len));
        }
        self
    }

    /// The run that is being written may be read up to `seq`.
    pub(crate) fn extend(&mut self, seq: Seq) {
        if let Some(span) = self.spans.back_mut()
            && span.last_batch == Span::OPEN_END
            && span.last_kept_seq < seq
        {
            span.last_kept_seq = seq;
            if let Some(walker) = &mut self.walker
                && self.batch.is_none()
            {
                // What was read of the place may be older than what stands there.
                walker.forget();
            }
        }
    }

    pub(crate) fn read_len(&self) -> u64 {
        self.read_len
    }

    /// Moves to the next entry and returns its stamp.
    pub(crate) fn advance(&mut self) -> Result<Option<Stamp>, RecoverError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        if std::mem::take(&mut self.is_held) {
            return Ok(self.entry().map(|(entry, _)| entry.stamp));
        }
        self.next_selected().inspect_err(|error| self.broken = Some(error.clone()))
    }

    /// The next entry that is wanted.
    fn next_selected(&mut self) -> Result<Option<Stamp>, RecoverError> {
        loop {
            match self.next_kept()? {
                Some(stamp) if self.selection.above.is_some_and(|fence| stamp <= fence) => {}
                next => return Ok(next),
            }
        }
    }

    /// The next entry of the epochs that are wanted.
    fn next_kept(&mut self) -> Result<Option<Stamp>, RecoverError> {
        loop {
            if let Some(batch) = &mut self.batch {
                batch.at = batch.next_at;
                if let Some(stamp) = self.settle() {
                    return Ok(Some(stamp));
                }
                self.batch = None;
            }
            if !self.next_batch()? {
                return Ok(None);
            }
            let Some(batch) = self.batch else { continue };
            if self.selection.until.is_some_and(|until| batch.header.epoch > until) {
                self.leave_out();
                continue;
            }
            let OpenBatch { header, last_kept_seq, .. } = batch;
            let segment_len = self.segment().map_or(0, |segment| segment.segment_len);
            catalog::gather(&mut self.pieces, &header, segment_len, last_kept_seq);
            self.last = Some(LastBatch {
                number: header.number,
                segment: header.segment,
                at: header.at(),
                last_seq: header.last_seq().min(last_kept_seq),
                epoch: header.epoch,
            });
            if let Some(stamp) = self.settle() {
                return Ok(Some(stamp));
            }
            self.batch = None;
        }
    }

    /// Moves to the next batch, whatever entries it has, and returns its header.
    pub(crate) fn advance_batch(&mut self) -> Result<Option<BatchHeader>, RecoverError> {
        let moved = self.next_batch()?;
        Ok(self.batch.filter(|_| moved).map(|batch| batch.header))
    }

    /// The bytes of the batch that the stream is in, from its header on.
    pub(crate) fn held(&self, header: &BatchHeader) -> &[u8] {
        self.walker.as_ref().expect("the stream is in a batch").held(header)
    }

    /// Counts the batch that the stream is in, which is of a later epoch than is wanted.
    fn leave_out(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        let mut left_out = self.left_out;
        for entry in self.entries_of(batch) {
            let seq = entry.stamp.seq;
            left_out.entries += 1;
            left_out.seqs = Some((left_out.seqs.map_or(seq, |(first, _)| first), seq));
        }
        left_out.bytes += batch.header.disk_len();
        self.left_out = left_out;
    }

    /// The entries of the batch that the stream is in, as far as they are kept.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryView<'_>> {
        self.batch.into_iter().flat_map(|batch| self.entries_of(batch))
    }

    fn entries_of(&self, batch: OpenBatch) -> impl Iterator<Item = EntryView<'_>> {
        let mut at = 0;
        let next = move || {
            let (entry, next_at) = self.entry_at(&OpenBatch { at, ..batch })?;
            at = next_at;
            (entry.stamp.seq <= batch.last_kept_seq).then_some(entry)
        };
        std::iter::from_fn(next)
    }

    /// The stamp of the entry at the batch's offset, if it has one that is kept.
    fn settle(&mut self) -> Option<Stamp> {
        let mut batch = self.batch?;
        let (entry, next_at) = self.entry_at(&batch)?;
        let stamp = entry.stamp;
        if stamp.seq > batch.last_kept_seq {
            return None;
        }
        batch.next_at = next_at;
        self.batch = Some(batch);
        Some(stamp)
    }

    /// The entry that the stream stands on.
    pub(crate) fn entry(&self) -> Option<(EntryView<'_>, BatchHeader)> {
        let batch = self.batch.as_ref()?;
        self.entry_at(batch).map(|(entry, _)| (entry, batch.header))
    }

    fn entry_at(&self, batch: &OpenBatch) -> Option<(EntryView<'_>, usize)> {
        let bytes = self.walker.as_ref()?.held(&batch.header);
        batch.header.entry_at(bytes, batch.at)
    }

    /// The schema and layout of the segment that the current entry stands in.
    pub(crate) fn segment(&self) -> Option<&corewal_format::SegmentHeader> {
        Some(&self.walker.as_ref()?.segment()?.header)
    }

    /// Moves to the next batch of the span, or of the next span.
    fn next_batch(&mut self) -> Result<bool, RecoverError> {
        loop {
            let Some(span) = self.spans.front_mut() else { return Ok(false) };
            let walker = self.walker.get_or_insert_with(|| {
                let cursor = Cursor {
                    segment: *span.segments.start(),
                    at: 0,
                    expected: span.first_batch,
                    least_seq: span.first_seq,
                    least_epoch: span.first_epoch.max(self.epoch),
                };
                Walker::new(
                    self.layout.clone(),
                    self.log,
                    self.shard,
                    span.incarnation,
                    span.segments.clone(),
                    cursor,
                )
                .reading(self.reading)
                .read_at_once(self.window_len)
            });
            if span.is_over(walker.cursor()) {
                if span.last_batch == Span::OPEN_END {
                    // It goes on here when more of it may be read.
                    return Ok(false);
                }
                self.spans.pop_front();
                self.walker = None;
                continue;
            }
            if let Some(void) = span.voids.front()
                && walker.cursor().expected == void.first_batch
            {
                walker.jump(behind(void, walker.cursor()));
                span.voids.pop_front();
                continue;
            }
            let place = walker.place();
            let header = match walker.step()? {
                Step::Batch(header) => header,
                Step::Stop(stop) => {
                    let is_elsewhere = stop.is_nothing_here();
                    let (place, reason) =
                        stop.next.filter(|_| is_elsewhere).unwrap_or((walker.place(), stop.here));
                    let refusal = match &span.open {
                        Some(run) => run.refusal(&self.layout, self.log, walker.cursor())?,
                        None => None,
                    };
                    return Err(match refusal {
                        Some(damage) => RecoverError::Damaged(damage),
                        None => below_end(span, place, reason, self.generation),
                    });
                }
            };
            if header.number == span.last_batch
                && (header.segment, header.at()) != (*span.segments.end(), span.last_batch_at)
            {
                let found = header.number;
                let reason = Reason::OtherBatch { expected: span.last_batch, found };
                return Err(below_end(span, place, reason, self.generation));
            }
            self.read_len += header.disk_len();
            if span.open.is_some() {
                self.open_run.take(&header);
            }
            self.epoch = header.epoch;
            let last_kept_seq = span.last_kept_seq;
            self.batch = Some(OpenBatch { header, at: 0, next_at: 0, last_kept_seq });
            return Ok(true);
        }
    }
}

fn behind(void: &Void, before: Cursor) -> Cursor {
    Cursor {
        segment: void.to_segment,
        at: void.to_at,
        expected: void.last_batch.next(),
        least_seq: void.last_seq.next(),
        least_epoch: before.least_epoch,
    }
}

/// A bad place below a recorded end is damage: the record is the proof. The end of a run that was being written is
/// recorded nowhere; that it was there when it was judged proves nothing to others.
fn below_end(
    span: &Span,
    at: corewal_format::Place,
    reason: Reason,
    generation: Generation,
) -> RecoverError {
    let claim = Claim::RunEnd(span.last_batch);
    let recorded = Witness { claim, source: Source::Manifest(generation) };
    let witness = span.open.is_none().then_some(recorded);
    RecoverError::Damaged(Box::new(Damage { at, reason, witness }))
}
