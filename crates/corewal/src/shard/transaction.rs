//! Atomic groups: entries that are recovered together or not at all.
//!
//! A batch counts only whole, so a group is atomic by standing inside one; its entries carry a flag that ties
//! each to the next, for readers and for truncation. `append_batch` serializes a group right into the open
//! batch. A [`Transaction`] is filled apart from the log, beside other appends, turns and transactions, and gets
//! its stamps when it is committed.

use std::fmt;

use corewal_disk::Block;
use corewal_format::{BATCH_HEADER_LEN, ENTRY_HEADER_LEN, EntryFlags, Kind, Seq, Stamp, padded};
use rkyv::ser::allocator::Arena;

use crate::Options;
use crate::error::AppendError;
use crate::record::{EncodeError, Record, Room};
use crate::shard::batch::{Mark, OpenBatch};
use crate::shard::intake::Intake;
use crate::shard::payload::{Coded, Payload, Raw, Timed, Typed};
use crate::shard::space::{Purpose, Space};
use crate::shard::writer::ShardWriter;

/// The stamps of an atomic group: one epoch, one shard, consecutive seqs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    first: Stamp,
    last_seq: Seq,
}

impl Group {
    /// The stamp of its first entry.
    #[must_use]
    pub fn first(&self) -> Stamp {
        self.first
    }

    /// The stamp of its last entry. When that is durable, the group is.
    #[must_use]
    pub fn last(&self) -> Stamp {
        Stamp { seq: self.last_seq, ..self.first }
    }

    /// The stamps of its entries, in order.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + use<> {
        let first = self.first;
        (first.seq.0..=self.last_seq.0).map(move |seq| Stamp { seq: Seq(seq), ..first })
    }
}

/// Entries that will be appended together.
///
/// Made by [`ShardWriter::begin`] and taken in by [`ShardWriter::commit`], which gives the stamps: the group
/// stands in the order of the log where it was committed, in the epoch that is open then. Until then nothing of
/// it is in the log; dropping it, or [`abort`](Self::abort), leaves nothing. It does not hold the writer, can be
/// sent to other threads, and several can be open at once.
///
/// A transaction is serialized into a buffer of its own. One that is larger than the write size is written from
/// there. A smaller one is copied into a block at its commit, so that it shares a batch with others:
/// [`ShardStats::recopied_bytes`](crate::ShardStats::recopied_bytes) counts that, and
/// [`append_batch`](ShardWriter::append_batch) has no such copy. The buffer grows up to `max_batch`.
///
/// It belongs to no log: the writer that commits it may be of another shard, or of a log with other options, and asks
/// for its own limits.
///
/// ```
/// use corewal::{Kind, Log, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// let mut log = Log::recover(Options::new(&dir))?.open()?;
/// let mut writer = log.take_seats().remove(0).sit()?;
/// let mut transaction = writer.begin();
/// transaction.append_bytes(Kind::PUT, b"debit")?;
/// writer.append_bytes(Kind::PUT, b"something else")?;
/// transaction.append_bytes(Kind::PUT, b"credit")?;
/// let group = writer.commit(&mut transaction)?;
/// writer.wait(group.last())?; // both are durable, behind something else
/// assert_eq!(group.stamps().count(), 2);
/// # writer.close()?;
/// # log.close()?;
/// # Ok(())
/// # }
/// ```
pub struct Transaction {
    max_record: usize,
    max_batch: usize,
    block_len: usize,
    /// Laid out as a batch: room for its header, then each entry. None before the first entry, and after it
    /// was handed to the log.
    block: Option<Block>,
    /// Bytes in use, the batch's header included.
    len: usize,
    entries: Vec<Item>,
    scratch: Arena,
    /// Bytes that were copied because the buffer had to grow.
    grown_bytes: u64,
}

/// What a batch needs to know of an entry besides its payload.
#[derive(Clone, Copy, Debug)]
struct Item {
    kind: Kind,
    /// Without those that follow from its place in the group.
    flags: EntryFlags,
    len: u32,
}

/// The first size of a buffer, in bytes, unless blocks are larger.
const FIRST_BUFFER_LEN: usize = 4096;

impl Transaction {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            max_record: options.max_record,
            max_batch: options.max_batch,
            block_len: options.block_len as usize,
            block: None,
            len: BATCH_HEADER_LEN,
            entries: Vec::new(),
            scratch: Arena::new(),
            grown_bytes: 0,
        }
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the batch that it takes, without the padding to whole blocks.
    #[must_use]
    pub fn batch_len(&self) -> usize {
        self.len
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`], [`AppendError::GroupTooLarge`], [`AppendError::Encode`] or
    /// [`AppendError::Kind`]; the transaction is then as it was before.
    pub fn append<T: Record>(&mut self, record: &T) -> Result<(), AppendError> {
        self.add(&mut Typed(record))
    }

    /// Adds raw bytes.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn append_bytes(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), AppendError> {
        self.add(&mut Raw(kind, bytes))
    }

    /// Adds a record with a timestamp; see [`ShardWriter::append_at`].
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn append_at<T: Record>(&mut self, timestamp: i64, record: &T) -> Result<(), AppendError> {
        self.add(&mut Timed(timestamp, Typed(record)))
    }

    /// Adds raw bytes with a timestamp; see [`ShardWriter::append_at`].
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn append_bytes_at(
        &mut self,
        kind: Kind,
        timestamp: i64,
        bytes: &[u8],
    ) -> Result<(), AppendError> {
        self.add(&mut Timed(timestamp, Raw(kind, bytes)))
    }

    /// Adds what `encode` writes into the slice of `max_len` bytes that it is given, and whose length it
    /// returns; see [`ShardWriter::append_with`].
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn append_with(
        &mut self,
        kind: Kind,
        max_len: usize,
        encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), AppendError> {
        if max_len > self.max_record {
            return Err(self.too_large(max_len));
        }
        self.add(&mut Coded(kind, max_len, encode))
    }

    /// Forgets all entries. The buffer stays, for the next ones.
    pub fn abort(&mut self) {
        self.entries.clear();
        self.len = BATCH_HEADER_LEN;
        self.grown_bytes = 0;
    }

    fn too_large(&self, len: usize) -> AppendError {
        AppendError::TooLarge { len, max: self.max_record }
    }

    fn add<P: Payload>(&mut self, payload: &mut P) -> Result<(), AppendError> {
        if !payload.kind().is_appendable() {
            return Err(AppendError::Kind(payload.kind()));
        }
        loop {
            let start = self.len + ENTRY_HEADER_LEN;
            let end = self.block.as_ref().map_or(0, |block| block.len()).min(self.max_batch);
            let room = match &mut self.block {
                Some(block) => &mut block[start.min(end)..end],
                None => &mut [][..],
            };
            match payload.encode(Room::new(room), &mut self.scratch) {
                Ok(len) if len > self.max_record => return Err(self.too_large(len)),
                Ok(len) if start + padded(len) <= end => {
                    self.push(payload, len);
                    return Ok(());
                }
                Err(error) if !error.is_no_room() => return Err(error.into()),
                Ok(_) | Err(_) => self.grow(payload)?,
            }
        }
    }

    fn push<P: Payload>(&mut self, payload: &P, len: usize) {
        self.len += ENTRY_HEADER_LEN + padded(len);
        let len = u32::try_from(len).expect("records are bounded by max_record");
        self.entries.push(Item { kind: payload.kind(), flags: payload.flags(), len });
    }

    /// Makes room for the entry that did not fit, unless it never will.
    #[cold]
    fn grow<P: Payload>(&mut self, payload: &mut P) -> Result<(), AppendError> {
        let len = payload.encode(Room::counting(), &mut self.scratch)?;
        if len > self.max_record {
            return Err(self.too_large(len));
        }
        let needed = self.len + ENTRY_HEADER_LEN + padded(len);
        if needed > self.max_batch {
            return Err(AppendError::GroupTooLarge { len: needed, max: self.max_batch });
        }
        let held = self.block.as_ref().map_or(0, |block| block.len());
        if held >= needed {
            // There is room for what was counted: what is encoded now is not what was counted.
            return Err(EncodeError::custom("it grew while it was encoded").into());
        }
        self.reserve(needed.max(2 * held));
        let held = self.block.as_ref().map_or(0, |block| block.len());
        assert!(held >= needed, "what a batch has room for, its buffer has");
        Ok(())
    }

    /// Makes the buffer at least so long, but no longer than the largest batch.
    fn reserve(&mut self, len: usize) {
        let len = len.max(FIRST_BUFFER_LEN).min(self.max_batch).next_multiple_of(self.block_len);
        let mut larger = Block::zeroed(len);
        if let Some(block) = self.block.take() {
            let used = BATCH_HEADER_LEN..self.len;
            larger[used.clone()].copy_from_slice(&block[used.clone()]);
            self.grown_bytes += used.len() as u64;
        }
        self.block = Some(larger);
    }

    /// Makes the buffer as long as its batch will be in a log with blocks of this length.
    fn fit(&mut self, block_len: usize) {
        let batch_len = self.len.next_multiple_of(block_len);
        if self.block.as_ref().is_some_and(|block| block.len() < batch_len) {
            self.block_len = block_len;
            self.reserve(batch_len);
        }
    }

    /// Takes over the entries that a group has put into an open batch since `mark`.
    fn take_over(&mut self, open: &OpenBatch, mark: Mark) {
        let body = open.since(mark);
        assert_eq!(self.len - BATCH_HEADER_LEN, body.len(), "they were counted one by one");
        let len = std::mem::replace(&mut self.len, BATCH_HEADER_LEN);
        if self.block.as_ref().is_none_or(|block| block.len() < len) {
            self.block = None;
            self.reserve(2 * len);
        }
        self.len = len;
        if let Some(block) = &mut self.block {
            block[BATCH_HEADER_LEN..len].copy_from_slice(body);
        }
        self.grown_bytes += body.len() as u64;
    }

    /// The payloads, in order.
    fn payloads(&self) -> impl Iterator<Item = (Item, &[u8])> {
        let bytes = self.block.as_deref().unwrap_or_default();
        let mut at = BATCH_HEADER_LEN;
        self.entries.iter().map(move |&item| {
            let start = at + ENTRY_HEADER_LEN;
            at = start + padded(item.len as usize);
            (item, &bytes[start..start + item.len as usize])
        })
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("entries", &self.entries.len())
            .field("batch_len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The flags of the entry at `index` of a group of `count`.
fn flags(index: usize, count: usize) -> EntryFlags {
    if index + 1 < count { EntryFlags::GROUP_CONTINUES } else { EntryFlags::NONE }
}

impl Intake {
    /// Appends a group, serialized into the open batch; through a buffer of its own if it outgrows that.
    pub(super) fn append_group<P: Payload>(
        &mut self,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Group, AppendError> {
        self.check_latch()?;
        self.open_batch(ENTRY_HEADER_LEN, Purpose::Entry)?;
        let mut group =
            self.outgrown.take().unwrap_or_else(|| Transaction::new(&self.shared.options));
        let outcome = self.put_group(&mut group, payloads.into_iter());
        group.abort();
        self.outgrown = Some(group);
        outcome
    }

    fn put_group<P: Payload>(
        &mut self,
        group: &mut Transaction,
        payloads: impl Iterator<Item = P>,
    ) -> Result<Group, AppendError> {
        let mut payloads = payloads.peekable();
        let trial = Trial::begin(self.open.as_mut().expect("a batch was opened"));
        while let Some(mut payload) = payloads.next() {
            let goes_on = payloads.peek().is_some();
            let seq = Seq(self.next_seq.0 + group.len() as u64);
            let flags = if goes_on { EntryFlags::GROUP_CONTINUES } else { EntryFlags::NONE };
            match put(trial.open, &mut payload, &mut self.scratch, group, (seq, flags))? {
                Put::Taken => {}
                Put::NoRoom => {
                    group.take_over(trial.open, trial.mark);
                    drop(trial);
                    group.add(&mut payload)?;
                    payloads.try_for_each(|mut payload| group.add(&mut payload))?;
                    return self.commit(group);
                }
            }
        }
        if group.is_empty() {
            return Err(AppendError::EmptyGroup);
        }
        let this = &self.shared.shards[self.index];
        if !self.space.leaves_reserve(Purpose::Entry, trial.open.disk_len(), this) {
            return Err(Space::refusal(&self.shared, this));
        }
        trial.keep();
        Ok(self.account(&group.entries))
    }

    /// Appends a transaction's entries as one group. The transaction is empty afterwards; after an error it is as
    /// it was before.
    pub(super) fn commit(&mut self, group: &mut Transaction) -> Result<Group, AppendError> {
        self.check_latch()?;
        if group.is_empty() {
            return Err(AppendError::EmptyGroup);
        }
        let options = &self.shared.options;
        if group.max_record > options.max_record
            && let Some(item) =
                group.entries.iter().find(|item| item.len as usize > options.max_record)
        {
            return Err(self.too_large(item.len as usize));
        }
        if group.len > options.max_batch {
            return Err(AppendError::GroupTooLarge { len: group.len, max: options.max_batch });
        }
        let body_len = group.len - BATCH_HEADER_LEN;
        if self.open.as_ref().is_some_and(|open| !open.has_room(body_len) && !open.is_empty()) {
            self.close_batch();
        }
        let committed = if group.len <= self.shared.options.write_len {
            self.commit_copied(group, body_len)?
        } else {
            self.commit_whole(group, body_len)?
        };
        self.recopied_bytes += group.grown_bytes;
        group.abort();
        Ok(committed)
    }

    /// A group that fits into a block: copied, so that it shares its batch with what comes before and after.
    fn commit_copied(
        &mut self,
        group: &Transaction,
        body_len: usize,
    ) -> Result<Group, AppendError> {
        if let Some(small) = self.open.take_if(|open| !open.has_room(body_len)) {
            // An empty one, at the end of a segment: never written.
            self.give_back(small.into_block());
        }
        self.open_batch(body_len, Purpose::Entry)?;
        let open = self.open.as_mut().expect("a batch was opened");
        let batch_len = open.disk_len_with(body_len - ENTRY_HEADER_LEN);
        if !self.space.leaves_reserve(Purpose::Entry, batch_len, &self.shared.shards[self.index]) {
            return Err(Space::refusal(&self.shared, self.this()));
        }
        for (index, (item, payload)) in group.payloads().enumerate() {
            let seq = Seq(self.next_seq.0 + index as u64);
            open.room()[..payload.len()].copy_from_slice(payload);
            let flags = flags(index, group.len()).with(item.flags);
            open.push(seq, item.kind, flags, payload.len());
        }
        self.recopied_bytes += body_len as u64;
        Ok(self.account(&group.entries))
    }

    /// A group that is larger than a block: its buffer becomes the batch.
    fn commit_whole(
        &mut self,
        group: &mut Transaction,
        body_len: usize,
    ) -> Result<Group, AppendError> {
        let batch_len = self.batch_len(body_len);
        let place = self.place_alone(batch_len)?;
        group.fit(self.shared.options.block_len as usize);
        let block = group.block.take().expect("its entries stand in it");
        let mut batch = OpenBatch::new(block, place, batch_len, self.epoch, self.next_seq);
        for (index, item) in group.entries.iter().enumerate() {
            let seq = Seq(self.next_seq.0 + index as u64);
            let flags = flags(index, group.len()).with(item.flags);
            batch.push(seq, item.kind, flags, item.len as usize);
        }
        self.open = Some(batch);
        let group = self.account(&group.entries);
        self.close_batch();
        Ok(group)
    }

    /// Counts a group that stands in the open batch, and gives out its stamps.
    fn account(&mut self, entries: &[Item]) -> Group {
        let first = Stamp { epoch: self.epoch, seq: self.next_seq, shard: self.shard };
        let last_seq = Seq(first.seq.0 + entries.len() as u64 - 1);
        self.gave(last_seq);
        self.entries += entries.len() as u64;
        self.payload_bytes += entries.iter().map(|item| u64::from(item.len)).sum::<u64>();
        self.groups += 1;
        Group { first, last_seq }
    }
}

/// Entries of a group in the open batch before the group is whole. However that ends, also by a panic of the
/// program's iterator or serializer, they are taken back unless they are kept.
struct Trial<'a> {
    open: &'a mut OpenBatch,
    mark: Mark,
}

impl<'a> Trial<'a> {
    fn begin(open: &'a mut OpenBatch) -> Self {
        let mark = open.mark();
        Self { open, mark }
    }

    fn keep(mut self) {
        self.mark = self.open.mark();
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.open.undo(self.mark);
    }
}

/// What became of an entry of a group in the open batch.
enum Put {
    Taken,
    NoRoom,
}

/// Puts one entry of a group into the open batch, and counts it.
fn put<P: Payload>(
    open: &mut OpenBatch,
    payload: &mut P,
    scratch: &mut Arena,
    group: &mut Transaction,
    (seq, flags): (Seq, EntryFlags),
) -> Result<Put, AppendError> {
    let kind = payload.kind();
    if !kind.is_appendable() {
        return Err(AppendError::Kind(kind));
    }
    match payload.encode(Room::new(open.room()), scratch) {
        Ok(len) if len > group.max_record => Err(group.too_large(len)),
        Ok(len) if open.fits(len) => {
            open.push(seq, kind, flags.with(payload.flags()), len);
            group.push(payload, len);
            Ok(Put::Taken)
        }
        Err(error) if !error.is_no_room() => Err(error.into()),
        Ok(_) | Err(_) => Ok(Put::NoRoom),
    }
}

impl ShardWriter {
    /// Appends records as one atomic group, serialized in place: recovery gives all of them or none.
    ///
    /// They stand next to each other in one batch and one epoch. Nothing is copied, unless the group does not fit
    /// into what is left of the open batch.
    ///
    /// # Errors
    /// [`AppendError::GroupTooLarge`] if they do not fit into a batch of `max_batch`;
    /// [`AppendError::EmptyGroup`] if there are none; others of [`AppendError`]. The log is then as it was before.
    ///
    /// # Panics
    /// If the iterator or a serializer does. The group then leaves no trace, and the log goes on.
    pub fn append_batch<'r, T: Record + 'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r T>,
    ) -> Result<Group, AppendError> {
        self.intake.append_group(records.into_iter().map(Typed))
    }

    /// Appends raw bytes as one atomic group; see [`append_batch`](Self::append_batch).
    ///
    /// ```
    /// # use corewal::{Kind, Log, Options};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
    /// # let mut writer = log.take_seats().remove(0).sit()?;
    /// let items: [(Kind, &[u8]); 2] = [(Kind::PUT, b"key = value"), (Kind::DELETE, b"old key")];
    /// let group = writer.append_batch_bytes(items)?;
    /// writer.wait(group.last())?;
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append_batch`](Self::append_batch).
    pub fn append_batch_bytes<'b>(
        &mut self,
        items: impl IntoIterator<Item = (Kind, &'b [u8])>,
    ) -> Result<Group, AppendError> {
        self.intake.append_group(items.into_iter().map(|(kind, bytes)| Raw(kind, bytes)))
    }

    /// Begins a transaction. It takes nothing from the writer until it is committed.
    #[must_use]
    pub fn begin(&self) -> Transaction {
        Transaction::new(&self.intake.shared.options)
    }

    /// Appends the entries of a transaction as one atomic group, in the epoch that is open, and empties the
    /// transaction: it can be used again.
    ///
    /// # Errors
    /// [`AppendError::Full`]: take a turn and try again; [`AppendError::EmptyGroup`]; others of [`AppendError`].
    /// Log and transaction are then as they were before.
    pub fn commit(&mut self, transaction: &mut Transaction) -> Result<Group, AppendError> {
        self.intake.commit(transaction)
    }
}
