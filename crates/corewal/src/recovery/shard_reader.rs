//! One shard, read from any seq on.

use std::collections::VecDeque;

use corewal_format::{Epoch, Generation, LogId, Manifest, Seq, ShardId, Stamp};

use crate::error::RecoverError;
use crate::layout::Layout;
use crate::recovery::Entry;
use crate::recovery::seek::SeqIndex;
use crate::recovery::stream::{ShardStream, Span};

/// How much a reader that goes from place to place reads at once, in bytes.
const AHEAD: usize = 64 << 10;

/// The entries of one shard, from any seq on. Takes no lock and changes nothing.
///
/// Made by [`LogReader::shard`](crate::LogReader::shard) for a log that may belong to another process, or by
/// [`Log::reader`](crate::Log::reader) for what is durable of a log that is open here. Reads go to the device,
/// past the page cache where the file system has direct I/O, and every batch is verified.
///
/// Finding a seq reads one block each of a few segments, then the headers of batches inside of one; memory is a
/// small index and a window of 64 KiB, or one batch if that is larger.
///
/// ```
/// # use corewal::{Kind, Log, Options, ShardId};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
/// # let mut writer = log.take_seats().remove(0).sit()?;
/// writer.append_bytes(Kind::PUT, b"one")?;
/// let two = writer.append_bytes(Kind::PUT, b"two")?;
/// writer.append_bytes(Kind::PUT, b"three")?;
/// writer.sync()?;
///
/// let mut reader = log.reader(ShardId(0)).expect("shard 0 is there");
/// assert_eq!(reader.read(two.seq)?.expect("it is durable").bytes(), b"two");
/// reader.seek(two.seq)?;
/// let mut from_two = Vec::new();
/// while let Some(entry) = reader.next_entry()? {
///     from_two.push(entry.bytes().to_vec());
/// }
/// assert_eq!(from_two, [b"two".to_vec(), b"three".to_vec()]);
/// # writer.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ShardReader {
    source: Spans,
    committed: Epoch,
    stream: ShardStream,
    index: SeqIndex,
    /// The stream stands on an entry that was not delivered.
    is_held: bool,
}

/// The runs of a shard, and where they are.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    pub(crate) layout: Layout,
    pub(crate) log: LogId,
    pub(crate) shard: ShardId,
    pub(crate) generation: Generation,
    pub(crate) spans: VecDeque<Span>,
}

impl Spans {
    /// The ended runs of a shard, and its current run up to `frontier`.
    pub(crate) fn live(
        layout: &Layout,
        manifest: &Manifest,
        shard: ShardId,
        frontier: Seq,
    ) -> Option<Self> {
        let record = manifest.shard(shard)?;
        let mut spans: VecDeque<Span> = record.runs.iter().map(Span::from).collect();
        spans.extend(record.current.map(|current| Span {
            incarnation: manifest.incarnation,
            first_epoch: manifest.first_epoch,
            segments: current.first_segment..=corewal_format::SegmentNumber(u64::MAX),
            first_batch: current.first_batch,
            first_seq: current.first_seq,
            last_batch: Span::OPEN_END,
            last_batch_at: 0,
            last_kept_seq: frontier.max(current.first_seq.before()),
            voids: VecDeque::new(),
            open: None,
        }));
        let (log, generation) = (manifest.log, manifest.generation);
        Some(Self { layout: layout.clone(), log, shard, generation, spans })
    }

    fn stream(&self, spans: VecDeque<Span>) -> ShardStream {
        ShardStream::new(self.layout.clone(), self.log, self.shard, self.generation, spans)
    }
}

impl ShardReader {
    pub(crate) fn new(source: Spans, committed: Epoch) -> Self {
        let stream = source.stream(source.spans.clone());
        Self { source, committed, stream, index: SeqIndex::default(), is_held: false }
    }

    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.source.shard
    }

    /// The next entry, borrowed from the reader's memory; `None` behind the last one that may be read.
    ///
    /// # Errors
    /// [`RecoverError::Damaged`] if a batch that must be there does not verify; [`RecoverError::Io`].
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, RecoverError> {
        Ok(self.move_on()?.map(|_| self.current()))
    }

    /// Goes to `seq`: the next entry is the one with it, or the first one above it.
    ///
    /// # Errors
    /// As for [`next_entry`](Self::next_entry).
    pub fn seek(&mut self, seq: Seq) -> Result<(), RecoverError> {
        self.is_held = false;
        let mut spans = self.source.spans.clone();
        while spans.len() > 1 && spans.front().is_some_and(|span| span.last_kept_seq < seq) {
            spans.pop_front();
        }
        self.stream = match spans.front() {
            Some(span) if span.first_seq < seq => {
                let Spans { layout, log, shard, .. } = &self.source;
                // Nothing behind what may be read is looked at.
                let wanted = seq.min(span.last_kept_seq.next());
                let cursor = self.index.locate(layout, *log, *shard, span, wanted)?;
                self.source.stream(spans).read_at_once(AHEAD).enter(cursor)
            }
            _ => self.source.stream(spans),
        };
        while let Some(stamp) = self.stream.advance()? {
            if stamp.seq >= seq {
                self.is_held = true;
                break;
            }
        }
        Ok(())
    }

    /// Reads the entry with this seq; `None` if the shard has none that may be read. The next entry is the one
    /// behind it.
    ///
    /// # Errors
    /// As for [`next_entry`](Self::next_entry).
    pub fn read(&mut self, seq: Seq) -> Result<Option<Entry<'_>>, RecoverError> {
        self.seek(seq)?;
        let is_there =
            self.is_held && self.stream.entry().is_some_and(|(entry, _)| entry.stamp.seq == seq);
        if is_there { self.next_entry() } else { Ok(None) }
    }

    /// The run that is being written may be read up to `seq`, and epochs up to `committed` are committed.
    pub(crate) fn extend(&mut self, seq: Seq, committed: Epoch) {
        self.stream.extend(seq);
        if let Some(span) = self.source.spans.back_mut()
            && span.last_batch == Span::OPEN_END
        {
            span.last_kept_seq = span.last_kept_seq.max(seq);
        }
        self.committed = self.committed.max(committed);
    }

    pub(crate) fn source(&self) -> &Spans {
        &self.source
    }

    /// Moves to the next entry and returns its stamp.
    pub(crate) fn move_on(&mut self) -> Result<Option<Stamp>, RecoverError> {
        if std::mem::take(&mut self.is_held) {
            return Ok(self.stream.entry().map(|(entry, _)| entry.stamp));
        }
        self.stream.advance()
    }

    /// The entry that the reader has moved to.
    pub(crate) fn current(&self) -> Entry<'_> {
        Entry::of(&self.stream, self.committed)
    }

    /// How far the run that is being written may be read.
    pub(crate) fn limit(&self) -> Seq {
        self.source.spans.back().map_or(Seq(0), |span| span.last_kept_seq)
    }

    pub(crate) fn committed(&self) -> Epoch {
        self.committed
    }
}
