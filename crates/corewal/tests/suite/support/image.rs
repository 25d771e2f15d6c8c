//! Images of logs, built batch by batch, with the bytes that the engine would have written.

use std::path::{Path, PathBuf};

use corewal::{BatchNumber, Epoch, Generation, Incarnation, Kind, LogId, Place, SchemaId};
use corewal::{SegmentNumber, Seq, ShardId};
use corewal_format::{
    BATCH_HEADER_LEN, BatchFlags, BatchHeader, CurrentRun, ENTRY_HEADER_LEN, EntryFlags,
    EntryHeader, Manifest, RkyvLayout, Run, Seed, SegmentHeader, ShardRecord, manifest_name,
    padded,
};

use super::segment_path;

/// The log of all images.
pub(crate) const LOG: LogId = LogId(*b"an image by hand");
/// Size of a block in images, in bytes.
pub(crate) const BLOCK: u32 = 512;
/// Size of a segment in images, in bytes.
pub(crate) const SEGMENT: u64 = 262_144;
/// Where the first batch of a segment stands.
pub(crate) const FIRST: u64 = 1024;

/// A batch before it is sealed: by default number `n` with the one entry of seq `n`, and no promise.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    number: u64,
    first_seq: u64,
    epoch: u64,
    payloads: Vec<Vec<u8>>,
    flags: BatchFlags,
    durable: u64,
    committed: u64,
    /// This many entries from the first one on belong together.
    group: usize,
}

/// Batch `n` with the entry of seq `n` and payload `entry n`, in epoch 1.
pub(crate) fn batch(n: u64) -> Draft {
    Draft {
        number: n,
        first_seq: n,
        epoch: 1,
        payloads: vec![format!("entry {n}").into_bytes()],
        flags: BatchFlags::NONE,
        durable: 0,
        committed: 0,
        group: 0,
    }
}

/// Batch `n` without entries.
pub(crate) fn vouch(n: u64) -> Draft {
    Draft { payloads: Vec::new(), flags: BatchFlags::VOUCH, ..batch(n) }
}

/// Batch `n` with a barrier alone, that closes `epoch`.
pub(crate) fn barrier(n: u64, epoch: u64) -> Draft {
    Draft { payloads: vec![Vec::new()], flags: BatchFlags::BARRIER, epoch, ..batch(n) }
}

impl Draft {
    pub(crate) fn promise(self, durable: u64) -> Self {
        Self { durable, ..self }
    }

    pub(crate) fn committed(self, committed: u64) -> Self {
        Self { committed, ..self }
    }

    /// Three entries, of which the first `group` belong together.
    pub(crate) fn three(self, group: usize) -> Self {
        let payloads = ["a", "b", "c"].map(|text| text.as_bytes().to_vec()).to_vec();
        Self { payloads, group, ..self }
    }

    pub(crate) fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    pub(crate) fn seq(self, first_seq: u64) -> Self {
        Self { first_seq, ..self }
    }

    pub(crate) fn payload(self, payload: Vec<u8>) -> Self {
        Self { payloads: vec![payload], ..self }
    }

    pub(crate) fn entry_count(&self) -> u64 {
        self.payloads.len() as u64
    }

    /// What it takes of its segment, in bytes.
    pub(crate) fn disk_len(&self) -> u64 {
        let entries = self.payloads.iter().map(|it| ENTRY_HEADER_LEN + padded(it.len()));
        let len = BATCH_HEADER_LEN + entries.sum::<usize>();
        len.next_multiple_of(BLOCK as usize) as u64
    }

    fn kind(&self, index: usize) -> Kind {
        let last = index + 1 == self.payloads.len();
        if last && self.flags == BatchFlags::BARRIER { Kind::BARRIER } else { Kind::PUT }
    }

    /// The bytes of the batch at block `block` of a segment.
    fn seal(&self, segment: &Segment, block: u32) -> Vec<u8> {
        let seed = Seed::of(LOG, segment.shard, segment.number, segment.incarnation, block);
        let mut bytes = vec![0; BATCH_HEADER_LEN];
        let mut chain = seed.chain();
        for (index, payload) in self.payloads.iter().enumerate() {
            let header = EntryHeader {
                len: u32::try_from(payload.len()).unwrap(),
                kind: self.kind(index),
                flags: match index + 1 < self.group {
                    true => EntryFlags::GROUP_CONTINUES,
                    false => EntryFlags::NONE,
                },
                delta: u32::try_from(index).unwrap(),
            };
            let at = bytes.len();
            bytes.resize(at + ENTRY_HEADER_LEN, 0);
            bytes.extend_from_slice(payload);
            chain.link(header.seal(seed, &mut bytes[at..]));
            bytes.resize(at + ENTRY_HEADER_LEN + padded(payload.len()), 0);
        }
        let entry_count = u32::try_from(self.payloads.len()).unwrap();
        let header = BatchHeader {
            flags: self.flags,
            shard: segment.shard,
            segment: segment.number,
            incarnation: segment.incarnation,
            block,
            block_len: BLOCK,
            number: BatchNumber(self.number),
            first_seq: Seq(self.first_seq),
            last_delta: entry_count.saturating_sub(1),
            epoch: Epoch(self.epoch),
            durable_batch: BatchNumber(self.durable),
            durable_seq: Seq(0),
            committed_epoch: Epoch(self.committed),
            entry_count,
            body_len: u32::try_from(bytes.len() - BATCH_HEADER_LEN).unwrap(),
            body_crc: chain.crc(),
        };
        header.encode(LOG, &mut bytes);
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        bytes
    }
}

/// A segment file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    shard: ShardId,
    number: SegmentNumber,
    incarnation: Incarnation,
    pub(crate) bytes: Vec<u8>,
    /// Where the next batch goes.
    pub(crate) at: u64,
}

impl Segment {
    /// An empty segment of incarnation 1, with both copies of its header.
    pub(crate) fn new(shard: u16, number: u64) -> Self {
        Self::of(shard, number, 1)
    }

    /// The same of another incarnation.
    pub(crate) fn of(shard: u16, number: u64, incarnation: u64) -> Self {
        let len = usize::try_from(SEGMENT).unwrap();
        let mut segment = Self {
            shard: ShardId(shard),
            number: SegmentNumber(number),
            incarnation: Incarnation(incarnation),
            bytes: vec![0; len],
            at: FIRST,
        };
        segment.write_headers(LOG);
        segment
    }

    /// Writes both copies of the header as of `log`.
    pub(crate) fn write_headers(&mut self, log: LogId) {
        let header = SegmentHeader {
            log,
            shard: self.shard,
            segment: self.number,
            incarnation: self.incarnation,
            segment_len: SEGMENT,
            block_len: BLOCK,
            rkyv: RkyvLayout { endianness: 1, alignment: 1, pointer_width: 32 },
            schema: SchemaId(0),
        };
        header.encode(0, &mut self.bytes[..512]);
        header.encode(1, &mut self.bytes[512..1024]);
    }

    /// The next batch, whole.
    pub(crate) fn put(mut self, draft: &Draft) -> Self {
        self.write(draft, |_| ());
        self
    }

    /// The next batch was never written: zeros where it belongs.
    pub(crate) fn lose(mut self, draft: &Draft) -> Self {
        self.write(draft, |bytes| bytes.fill(0));
        self
    }

    /// The next batch has its header and the first sector, but its last sector is missing or its last entry
    /// damaged.
    pub(crate) fn tear(mut self, draft: &Draft) -> Self {
        self.write(draft, |bytes| {
            if bytes.len() > 512 {
                let last = bytes.len() - 512;
                bytes[last..].fill(0);
            } else {
                bytes[BATCH_HEADER_LEN] ^= 1;
            }
        });
        self
    }

    /// The next batch, with a damaged header.
    pub(crate) fn behead(mut self, draft: &Draft) -> Self {
        self.write(draft, |bytes| bytes[40] ^= 1);
        self
    }

    /// The next batch as `change` leaves it.
    pub(crate) fn put_changed(mut self, draft: &Draft, change: impl FnOnce(&mut [u8])) -> Self {
        self.write(draft, change);
        self
    }

    fn write(&mut self, draft: &Draft, change: impl FnOnce(&mut [u8])) {
        let block = u32::try_from(self.at / u64::from(BLOCK)).unwrap();
        let mut sealed = draft.seal(self, block);
        change(&mut sealed);
        let at = usize::try_from(self.at).unwrap();
        self.bytes[at..at + sealed.len()].copy_from_slice(&sealed);
        self.at += sealed.len() as u64;
    }

    /// Both copies of the header are unreadable.
    pub(crate) fn without_header(mut self) -> Self {
        self.bytes[20] ^= 1;
        self.bytes[512 + 20] ^= 1;
        self
    }

    /// A place in the segment.
    pub(crate) fn place(&self, at: u64) -> Place {
        Place { shard: self.shard, segment: self.number, at }
    }
}

/// The record of an active shard whose run starts with segment, batch and seq 1.
pub(crate) fn active(shard: u16) -> ShardRecord {
    ShardRecord {
        active: true,
        current: Some(CurrentRun {
            first_segment: SegmentNumber(1),
            first_batch: BatchNumber(1),
            first_seq: Seq(1),
        }),
        ..ShardRecord::new(ShardId(shard))
    }
}

/// An ended run of segment 1 with batches and seqs 1 to `last`, of which the last stands at `at`.
pub(crate) fn ended(last: u64, at: u64) -> Run {
    Run {
        first_segment: SegmentNumber(1),
        last_segment: SegmentNumber(1),
        first_batch: BatchNumber(1),
        last_batch: BatchNumber(last),
        last_batch_at: at,
        first_seq: Seq(1),
        last_kept_seq: Seq(last),
        incarnation: Incarnation(1),
        first_epoch: Epoch(1),
        voids: Vec::new(),
    }
}

/// The manifest of incarnation 1 with these shards.
pub(crate) fn manifest(shards: Vec<ShardRecord>) -> Manifest {
    Manifest {
        log: LOG,
        generation: Generation(3),
        incarnation: Incarnation(1),
        committed_epoch: Epoch(0),
        first_epoch: Epoch(1),
        pipeline_bound: 2,
        checkpoint: None,
        shards,
    }
}

/// A log's directory.
#[derive(Debug)]
pub(crate) struct Image {
    home: tempfile::TempDir,
}

impl Image {
    /// The manifest in its slot, its predecessor in the other, and the segments.
    pub(crate) fn new(manifest: &Manifest, segments: &[Segment]) -> Self {
        let image = Self { home: super::temp_dir() };
        std::fs::create_dir(image.dir()).unwrap();
        let before =
            Manifest { generation: Generation(manifest.generation.0 - 1), ..manifest.clone() };
        write_manifest(&image.dir(), &before);
        write_manifest(&image.dir(), manifest);
        for segment in segments {
            image.save(segment);
        }
        image
    }

    /// One active shard with these segments.
    pub(crate) fn of_one(segments: &[Segment]) -> Self {
        Self::new(&manifest(vec![active(0)]), segments)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("log")
    }

    pub(crate) fn options(&self) -> corewal::Options {
        super::tiny(&self.dir())
    }

    /// Writes a segment under its own name.
    pub(crate) fn save(&self, segment: &Segment) {
        self.save_as(segment, segment.shard.0, segment.number.0);
    }

    /// Writes a segment under another name.
    pub(crate) fn save_as(&self, segment: &Segment, shard: u16, number: u64) {
        let path = segment_path(&self.dir(), shard, number);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &segment.bytes).unwrap();
    }
}

/// Writes a manifest into its slot.
pub(crate) fn write_manifest(dir: &Path, manifest: &Manifest) {
    std::fs::write(dir.join(manifest_name(manifest.generation)), manifest.encode()).unwrap();
}
