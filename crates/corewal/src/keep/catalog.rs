//! What a log keeps, segment by segment, and what of it may go. Pure: knows no file and no manifest's slot.

use std::collections::{BTreeMap, VecDeque};

use corewal_format::{
    BatchHeader, BatchNumber, Epoch, HEADER_BLOCKS, Run, SegmentNumber, Seq, ShardId, ShardRecord,
};

use crate::keep::pin::PinFrom;
use crate::prepare::Fill;
use crate::recovery::LastBatch;

/// Consecutive segments that nobody writes any more and that go together: one, unless a void ends inside the
/// second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) first: SegmentNumber,
    pub(crate) last: SegmentNumber,
    /// Size of each file, in bytes.
    pub(crate) len: u64,
    /// Whether every block of it is known to have been written once.
    pub(crate) fill: Fill,
    pub(crate) first_batch: BatchNumber,
    pub(crate) last_batch: BatchNumber,
    pub(crate) last_seq: Seq,
    /// The epoch of its last entry; 0 if it has none.
    pub(crate) last_epoch: Epoch,
}

impl Piece {
    /// Size of its files, in bytes.
    pub(crate) fn disk_len(&self) -> u64 {
        self.len.saturating_mul(self.last.0 - self.first.0 + 1)
    }
}

/// Adds a batch of a shard's stream to its pieces. Nothing of it above `last_kept_seq` is delivered.
pub(crate) fn gather(
    pieces: &mut Vec<Piece>,
    header: &BatchHeader,
    segment_len: u64,
    last_kept_seq: Seq,
) {
    let is_first = header.at() == u64::from(HEADER_BLOCKS) * u64::from(header.block_len);
    let follows = |piece: &Piece| piece.last == header.segment || !is_first;
    if pieces.last().is_none_or(|piece| !follows(piece)) {
        pieces.push(Piece {
            first: header.segment,
            last: header.segment,
            len: segment_len,
            fill: Fill::Allocated,
            first_batch: header.number,
            last_batch: header.number,
            last_seq: header.first_seq.before(),
            last_epoch: Epoch(0),
        });
    }
    let piece = pieces.last_mut().expect("one was pushed");
    piece.last = header.segment;
    piece.last_batch = header.number;
    piece.last_seq = piece.last_seq.max(header.last_seq().min(last_kept_seq));
    if header.entry_count > 0 {
        piece.last_epoch = header.epoch;
    }
}

/// What may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What is in this epoch and earlier ones, on every shard.
    UpTo(Epoch),
    /// What is below this seq of one shard.
    Below(ShardId, Seq),
}

/// What goes from the front of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) shard: ShardId,
    pub(crate) pieces: Vec<Piece>,
    /// The first segment that is left, and its first batch.
    pub(crate) first: (SegmentNumber, BatchNumber),
    /// The last seq that goes.
    pub(crate) released: Seq,
}

impl Cut {
    /// Takes what goes out of the shard's record, and returns the segments that are no part of it any more.
    pub(crate) fn apply(&self, record: &mut ShardRecord) -> Vec<SegmentNumber> {
        let first = self.first.0;
        let mut dropped = Vec::new();
        let mut drop_range = |from: SegmentNumber, until: SegmentNumber| {
            dropped.extend((from.0..until.0).map(SegmentNumber));
        };
        record.runs.retain_mut(|run| {
            if run.last_segment < first {
                drop_range(run.first_segment, run.last_segment.next());
                return false;
            }
            if run.first_segment < first {
                let from = run.first_segment;
                self.move_start(run);
                drop_range(from, run.first_segment);
            }
            true
        });
        if let Some(current) = &mut record.current
            && current.first_segment < first
        {
            drop_range(current.first_segment, first);
            current.first_segment = first;
            current.first_batch = self.first.1;
            current.first_seq = self.released.next();
        }
        record.released_seq = record.released_seq.max(self.released);
        dropped
    }

    /// The run goes on behind what goes, and behind a void that follows it: pieces end where voids end inside
    /// of a segment, so that the next one starts with its first batch.
    fn move_start(&self, run: &mut Run) {
        (run.first_segment, run.first_batch) = self.first;
        run.first_seq = self.released.next();
        run.voids.retain(|void| void.first_batch >= self.first.1);
        while let Some(void) = run.voids.first().copied()
            && void.first_batch == run.first_batch
        {
            run.first_segment = void.to_segment;
            run.first_batch = void.last_batch.next();
            run.first_seq = run.first_seq.max(void.last_seq.next());
            run.voids.remove(0);
        }
    }
}

/// The pieces of one shard, in order.
#[derive(Debug, Default)]
struct Shelf {
    pieces: VecDeque<Piece>,
    /// Entries up to this one are gone.
    released: Seq,
    /// Segments up to this one were taken by the archive.
    archived: SegmentNumber,
}

/// What is kept, of every shard, and who wants it to be.
#[derive(Debug)]
pub(crate) struct Kept {
    shelves: BTreeMap<ShardId, Shelf>,
    pins: BTreeMap<u64, (String, PinFrom)>,
    next_pin: u64,
    /// The epoch of the last checkpoint; 0 for none.
    checkpoint: Epoch,
    /// Whether a segment may go only after the archive has taken it.
    archives: Archives,
    /// The growth that was last told of has not ended.
    pub(super) is_growth_told: bool,
    pub(super) archive_fault: Option<String>,
}

/// Whether there is an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Archives {
    First,
    Never,
}

/// Asked for something that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) released: Seq,
}

impl Kept {
    pub(crate) fn new(checkpoint: Epoch, archives: Archives) -> Self {
        Self {
            shelves: BTreeMap::new(),
            pins: BTreeMap::new(),
            next_pin: 0,
            checkpoint,
            archives,
            is_growth_told: false,
            archive_fault: None,
        }
    }

    /// What a recovery has found of a shard.
    pub(crate) fn put(&mut self, shard: ShardId, released: Seq, pieces: Vec<Piece>) {
        let shelf = Shelf { pieces: pieces.into(), released, archived: SegmentNumber(0) };
        self.shelves.insert(shard, shelf);
    }

    /// A segment is full, and durable to its last batch.
    pub(crate) fn seal(&mut self, shard: ShardId, piece: Piece) {
        let shelf = self.shelves.entry(shard).or_default();
        let follows = shelf.pieces.back().is_none_or(|before| before.last < piece.first);
        assert!(follows, "segments are sealed in order");
        shelf.pieces.push_back(piece);
    }

    /// What is behind the end of a shard, the last batch that is kept, is void.
    pub(crate) fn lower(&mut self, shard: ShardId, last: Option<LastBatch>) {
        let Some(shelf) = self.shelves.get_mut(&shard) else { return };
        let end = last.map_or(BatchNumber(0), |last| last.number);
        shelf.pieces.retain(|piece| piece.first_batch <= end);
        // The epoch stays: it may be that of something void, and then the piece is only kept for longer.
        if let (Some(piece), Some(last)) = (shelf.pieces.back_mut(), last)
            && piece.last_batch >= last.number
        {
            piece.last = last.segment;
            piece.last_batch = last.number;
            piece.last_seq = last.last_seq;
        }
    }

    /// Takes out what may go: from the front of each shard the pieces that the rule covers, that are in
    /// committed epochs, and that neither a pin nor the archive wants.
    pub(crate) fn cut(&mut self, rule: Rule, committed: Epoch) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for (&shard, shelf) in &mut self.shelves {
            let pins = &self.pins;
            let goes = |piece: &Piece| {
                let is_covered = match rule {
                    Rule::UpTo(epoch) => piece.last_epoch <= epoch,
                    Rule::Below(of, seq) => shard == of && piece.last_seq < seq,
                };
                is_covered
                    && piece.last_epoch <= committed
                    && !pins.values().any(|(_, from)| from.holds(shard, piece))
                    && (self.archives == Archives::Never || piece.last <= shelf.archived)
            };
            let count = shelf.pieces.iter().take_while(|piece| goes(piece)).count();
            let pieces: Vec<Piece> = shelf.pieces.drain(..count).collect();
            let Some(last) = pieces.last() else { continue };
            let first = (last.last.next(), last.last_batch.next());
            shelf.released = shelf.released.max(last.last_seq);
            cuts.push(Cut { shard, first, released: shelf.released, pieces });
        }
        cuts
    }

    /// Puts back what could not go after all. Who has asked for it in between was told that it is gone.
    pub(crate) fn put_back(&mut self, cuts: Vec<Cut>) {
        for cut in cuts {
            let shelf = self.shelves.entry(cut.shard).or_default();
            for piece in cut.pieces.into_iter().rev() {
                shelf.pieces.push_front(piece);
            }
        }
    }

    pub(crate) fn set_checkpoint(&mut self, epoch: Epoch) {
        self.checkpoint = self.checkpoint.max(epoch);
    }

    /// Bytes of full segments with entries above the last checkpoint.
    pub(crate) fn growth(&self) -> u64 {
        let pieces = self.shelves.values().flat_map(|shelf| &shelf.pieces);
        let above = pieces.filter(|piece| piece.last_epoch > self.checkpoint);
        above.map(Piece::disk_len).sum()
    }

    /// Entries of the shard up to this one are gone.
    pub(crate) fn released(&self, shard: ShardId) -> Seq {
        self.shelves.get(&shard).map_or(Seq(0), |shelf| shelf.released)
    }

    /// Bytes of the shard's segments that nobody writes any more.
    pub(crate) fn sealed_len(&self, shard: ShardId) -> u64 {
        let shelf = self.shelves.get(&shard);
        shelf.map_or(0, |shelf| shelf.pieces.iter().map(Piece::disk_len).sum())
    }

    /// The next piece that the archive has not taken.
    pub(crate) fn next_to_archive(&self) -> Option<(ShardId, Piece)> {
        self.shelves.iter().find_map(|(&shard, shelf)| {
            let piece = shelf.pieces.iter().find(|piece| piece.last > shelf.archived)?;
            Some((shard, *piece))
        })
    }

    /// The archive has taken it.
    pub(crate) fn set_archived(&mut self, shard: ShardId, piece: &Piece) {
        self.archive_fault = None;
        if let Some(shelf) = self.shelves.get_mut(&shard) {
            shelf.archived = shelf.archived.max(piece.last);
        }
    }

    /// From here on nothing that `from` names goes, until [`unpin`](Self::unpin).
    pub(crate) fn pin(&mut self, name: String, from: PinFrom) -> Result<u64, Gone> {
        if let PinFrom::Seq(shard, seq) = from
            && seq <= self.released(shard)
        {
            return Err(Gone { released: self.released(shard) });
        }
        let pin = self.next_pin;
        self.next_pin += 1;
        self.pins.insert(pin, (name, from));
        Ok(pin)
    }

    pub(crate) fn unpin(&mut self, pin: u64) {
        self.pins.remove(&pin);
    }

    pub(crate) fn pins(&self) -> Vec<(String, PinFrom)> {
        self.pins.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use corewal_format::{CurrentRun, Incarnation, Void, VoidCause};

    use super::*;

    const SHARD: ShardId = ShardId(0);

    fn piece(number: u64, epoch: u64) -> Piece {
        Piece {
            first: SegmentNumber(number),
            last: SegmentNumber(number),
            len: 4096,
            fill: Fill::Written,
            first_batch: BatchNumber(number * 10),
            last_batch: BatchNumber(number * 10 + 9),
            last_seq: Seq(number * 100),
            last_epoch: Epoch(epoch),
        }
    }

    fn kept(epochs: &[u64]) -> Kept {
        let mut kept = Kept::new(Epoch(0), Archives::Never);
        let pieces = (1..).zip(epochs).map(|(number, &epoch)| piece(number, epoch));
        kept.put(SHARD, Seq(0), pieces.collect());
        kept
    }

    fn released(cuts: &[Cut]) -> u64 {
        cuts.first().map_or(0, |cut| cut.released.0)
    }

    #[test]
    fn only_a_whole_beginning_in_committed_epochs_goes() {
        for limit in 0..5 {
            for committed in 0..5 {
                let mut kept = kept(&[1, 2, 2, 4]);
                let gone = released(&kept.cut(Rule::UpTo(Epoch(limit)), Epoch(committed)));
                let expected = [0, 100, 300, 300, 400][usize::min(
                    usize::try_from(limit).unwrap(),
                    usize::try_from(committed).unwrap(),
                )];
                assert_eq!(gone, expected, "up to {limit}, committed {committed}");
            }
        }
        for below in [1, 100, 101, 250, 300, 301, 1000] {
            let gone = released(&kept(&[1, 1, 1]).cut(Rule::Below(SHARD, Seq(below)), Epoch(1)));
            assert_eq!(gone, ((below - 1) / 100 * 100).min(300), "below {below}");
        }
    }

    #[test]
    fn a_pin_holds_what_it_names_and_all_behind_it() {
        let all = |kept: &mut Kept| released(&kept.cut(Rule::UpTo(Epoch(9)), Epoch(9)));
        for (from, expected) in [
            (PinFrom::Oldest, 0),
            (PinFrom::Epoch(Epoch(2)), 100),
            (PinFrom::Epoch(Epoch(3)), 200),
            (PinFrom::Seq(SHARD, Seq(100)), 0),
            (PinFrom::Seq(SHARD, Seq(101)), 100),
            (PinFrom::Seq(ShardId(1), Seq(1)), 300),
        ] {
            let mut kept = kept(&[1, 2, 3]);
            let pin = kept.pin("reader".into(), from).unwrap();
            assert_eq!(all(&mut kept), expected, "{from:?}");
            kept.unpin(pin);
            if expected < 300 {
                assert_eq!(all(&mut kept), 300, "{from:?}, and let go");
            }
            let is_gone = kept.pin("late".into(), PinFrom::Seq(SHARD, Seq(300))).is_err();
            assert!(is_gone, "what is gone cannot be pinned");
            assert!(kept.pin("in time".into(), PinFrom::Seq(SHARD, Seq(301))).is_ok());
        }
    }

    #[test]
    fn nothing_goes_before_the_archive_has_it() {
        let mut kept = kept(&[1, 1]);
        kept.archives = Archives::First;
        assert!(kept.cut(Rule::UpTo(Epoch(1)), Epoch(1)).is_empty());
        let (shard, first) = kept.next_to_archive().unwrap();
        kept.set_archived(shard, &first);
        assert_eq!(released(&kept.cut(Rule::UpTo(Epoch(1)), Epoch(1))), 100);
        assert_eq!(kept.next_to_archive(), Some((SHARD, piece(2, 1))));
    }

    /// Two ended runs and the one that is being written, cut behind every segment.
    #[test]
    fn a_cut_moves_the_starts_of_the_runs() {
        let run = |first: u64, last: u64| Run {
            first_segment: SegmentNumber(first),
            last_segment: SegmentNumber(last),
            first_batch: BatchNumber(first * 10),
            last_batch: BatchNumber(last * 10 + 9),
            last_batch_at: 1024,
            first_seq: Seq(first * 100 - 99),
            last_kept_seq: Seq(last * 100),
            incarnation: Incarnation(first),
            first_epoch: Epoch(1),
            voids: Vec::new(),
        };
        let record = ShardRecord {
            runs: vec![run(1, 2), run(4, 5)],
            current: Some(CurrentRun {
                first_segment: SegmentNumber(7),
                first_batch: BatchNumber(70),
                first_seq: Seq(601),
            }),
            ..ShardRecord::new(SHARD)
        };
        let numbers = [1, 2, 4, 5, 7, 8];
        for count in 1..=numbers.len() {
            let mut kept = Kept::new(Epoch(0), Archives::Never);
            let all = numbers.iter().map(|&number| piece(number, number));
            kept.put(SHARD, Seq(0), all.collect());
            let limit = Epoch(numbers[count - 1]);
            let cuts = kept.cut(Rule::UpTo(limit), limit);
            let mut record = record.clone();
            let dropped = cuts[0].apply(&mut record);
            assert_eq!(dropped, numbers[..count].map_segments());
            let left: Vec<u64> = record.runs.iter().map(|run| run.first_segment.0).collect();
            let expected: &[u64] = [&[2, 4][..], &[4], &[5], &[], &[], &[]][count - 1];
            assert_eq!(left, expected, "{count} segments went");
            let current = record.current.unwrap();
            let first = [7, 7, 7, 7, 8, 9][count - 1];
            assert_eq!(current.first_segment, SegmentNumber(first));
            assert_eq!(current.first_batch, BatchNumber(first * 10));
            assert_eq!(record.released_seq, Seq(numbers[count - 1] * 100));
        }
    }

    /// What is void behind what goes, goes too.
    #[test]
    fn a_cut_in_front_of_a_void_goes_on_behind_it() {
        let void = Void {
            from_segment: SegmentNumber(1),
            from_at: 2048,
            to_segment: SegmentNumber(4),
            to_at: 1024,
            first_batch: BatchNumber(20),
            last_batch: BatchNumber(39),
            first_seq: Seq(101),
            last_seq: Seq(250),
            cause: VoidCause::Truncated,
        };
        let run = Run {
            first_segment: SegmentNumber(1),
            last_segment: SegmentNumber(4),
            first_batch: BatchNumber(10),
            last_batch: BatchNumber(49),
            last_batch_at: 1536,
            first_seq: Seq(1),
            last_kept_seq: Seq(400),
            incarnation: Incarnation(1),
            first_epoch: Epoch(1),
            voids: vec![void],
        };
        let mut record = ShardRecord { runs: vec![run], ..ShardRecord::new(SHARD) };
        let mut kept = Kept::new(Epoch(0), Archives::Never);
        kept.put(SHARD, Seq(0), vec![piece(1, 1), piece(4, 2)]);
        let dropped = kept.cut(Rule::UpTo(Epoch(1)), Epoch(1))[0].apply(&mut record);
        assert_eq!(dropped, [1, 2, 3].map_segments());
        let run = &record.runs[0];
        assert_eq!((run.first_segment, run.first_batch), (SegmentNumber(4), BatchNumber(40)));
        assert_eq!(run.first_seq, Seq(251));
        assert!(run.voids.is_empty());
    }

    trait Numbers {
        fn map_segments(&self) -> Vec<SegmentNumber>;
    }

    impl Numbers for [u64] {
        fn map_segments(&self) -> Vec<SegmentNumber> {
            self.iter().copied().map(SegmentNumber).collect()
        }
    }
}
