//! Structures with known contents: what the golden files hold, and a builder of batches.

use corewal_format::{
    BATCH_HEADER_LEN, BatchFlags, BatchHeader, BatchNumber, Checkpoint, CurrentRun,
    ENTRY_HEADER_LEN, EntryFlags, EntryHeader, Epoch, Generation, Incarnation, Kind, LogId,
    Manifest, RkyvLayout, Run, SchemaId, SegmentHeader, SegmentNumber, Seq, ShardId, ShardRecord,
    Void, VoidCause, padded,
};

/// The log of all samples.
pub(crate) const LOG: LogId = LogId(*b"golden log no. 1");

/// An entry before it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    /// Without `TIMESTAMP`, which follows from the field.
    pub(crate) flags: EntryFlags,
    pub(crate) delta: u32,
    pub(crate) timestamp: Option<i64>,
    pub(crate) payload: Vec<u8>,
}

impl Draft {
    pub(crate) fn put(delta: u32, payload: &[u8]) -> Self {
        let flags = EntryFlags::NONE;
        Self { kind: Kind::PUT, flags, delta, timestamp: None, payload: payload.to_vec() }
    }

    pub(crate) fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn going_on(self) -> Self {
        Self { flags: EntryFlags::GROUP_CONTINUES, ..self }
    }

    pub(crate) fn at(self, timestamp: i64) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// The flags as they stand on disk.
    pub(crate) fn sealed_flags(&self) -> EntryFlags {
        match self.timestamp {
            Some(_) => self.flags.with(EntryFlags::TIMESTAMP),
            None => self.flags,
        }
    }

    /// The payload as it stands on disk.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(timestamp) = self.timestamp {
            bytes.extend_from_slice(&timestamp.to_le_bytes());
            bytes.extend_from_slice(&[0; 8]);
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// A header for the batches of the samples; [`build`] fills in what follows from the entries.
pub(crate) fn place() -> BatchHeader {
    BatchHeader {
        flags: BatchFlags::NONE,
        shard: ShardId(3),
        segment: SegmentNumber(17),
        incarnation: Incarnation(2),
        block: 5,
        block_len: 512,
        number: BatchNumber(40),
        first_seq: Seq(1001),
        last_delta: 0,
        epoch: Epoch(9),
        durable_batch: BatchNumber(38),
        durable_seq: Seq(990),
        committed_epoch: Epoch(7),
        entry_count: 0,
        body_len: 0,
        body_crc: 0,
    }
}

/// Seals `drafts` into a batch at the place of `header`, with its promises: the whole header and the
/// bytes on disk.
pub(crate) fn build(header: BatchHeader, drafts: &[Draft]) -> (BatchHeader, Vec<u8>) {
    let seed = header.seed(LOG);
    let mut chain = seed.chain();
    let mut bytes = vec![0; BATCH_HEADER_LEN];
    for draft in drafts {
        let payload = draft.bytes();
        let entry = EntryHeader {
            len: u32::try_from(payload.len()).expect("a short payload"),
            kind: draft.kind,
            flags: draft.sealed_flags(),
            delta: draft.delta,
        };
        let at = bytes.len();
        let end = at + ENTRY_HEADER_LEN + payload.len();
        bytes.resize(at + ENTRY_HEADER_LEN, 0);
        bytes.extend_from_slice(&payload);
        chain.link(entry.seal(seed, &mut bytes[at..end]));
        bytes.resize(padded(end), 0);
    }
    let header = BatchHeader {
        entry_count: u32::try_from(drafts.len()).expect("few entries"),
        last_delta: drafts.last().map_or(0, |draft| draft.delta),
        body_len: u32::try_from(bytes.len() - BATCH_HEADER_LEN).expect("a short body"),
        body_crc: chain.crc(),
        ..header
    };
    bytes.resize(usize::try_from(header.disk_len()).expect("a short batch"), 0);
    header.encode(LOG, &mut bytes);
    (header, bytes)
}

/// The batches of the golden files, by the name of the file.
pub(crate) fn batches() -> Vec<(&'static str, BatchHeader, Vec<Draft>)> {
    let user_kind = Kind(Kind::FIRST_USER.0 + 7);
    let long: Vec<u8> = (0..1500_u32).map(|n| n.wrapping_mul(167).to_le_bytes()[0]).collect();
    vec![
        (
            "batch-put",
            place(),
            vec![
                Draft::put(0, b"one"),
                Draft::put(1, b"exactly 16 bytes"),
                Draft::put(9, b"key").with_kind(Kind::DELETE),
                Draft::put(10, b"offsets").with_kind(Kind::COMMIT),
                Draft::put(11, b"snapshot-7").with_kind(Kind::CHECKPOINT),
                Draft::put(12, b"of a user's kind").with_kind(user_kind),
            ],
        ),
        (
            "batch-group",
            place(),
            vec![
                Draft::put(0, b"first of two").going_on(),
                Draft::put(1, b"second of two"),
                Draft::put(2, b"alone"),
            ],
        ),
        (
            "batch-timestamp",
            place(),
            vec![Draft::put(0, b"at a time").at(-1_700_000_000_000), Draft::put(1, b"").at(1)],
        ),
        (
            "batch-barrier",
            BatchHeader { flags: BatchFlags::BARRIER, ..place() },
            vec![Draft::put(0, b"last put"), Draft::put(1, b"").with_kind(Kind::BARRIER)],
        ),
        ("batch-vouch", BatchHeader { flags: BatchFlags::VOUCH, ..place() }, vec![]),
        ("batch-empty-payload", place(), vec![Draft::put(0, b"")]),
        ("batch-multi-block", place(), vec![Draft::put(0, &long), Draft::put(1, b"behind")]),
    ]
}

/// The segment header of the golden files.
pub(crate) fn segment() -> SegmentHeader {
    SegmentHeader {
        log: LOG,
        shard: ShardId(3),
        segment: SegmentNumber(17),
        incarnation: Incarnation(2),
        segment_len: 1 << 20,
        block_len: 512,
        rkyv: RkyvLayout { endianness: 1, alignment: 1, pointer_width: 32 },
        schema: SchemaId(0x0123_4567_89ab_cdef),
    }
}

/// The manifest of a log that was just created with two shards.
pub(crate) fn new_manifest() -> Manifest {
    Manifest {
        log: LOG,
        generation: Generation(1),
        incarnation: Incarnation(0),
        committed_epoch: Epoch(0),
        first_epoch: Epoch(1),
        pipeline_bound: 8,
        checkpoint: None,
        shards: vec![ShardRecord::new(ShardId(0)), ShardRecord::new(ShardId(1))],
    }
}

/// A manifest with everything in it.
pub(crate) fn full_manifest() -> Manifest {
    let void = |segment, number: u64, seq, cause| Void {
        from_segment: SegmentNumber(segment),
        from_at: 8192,
        to_segment: SegmentNumber(segment + 1),
        to_at: 1024,
        first_batch: BatchNumber(number),
        last_batch: BatchNumber(number + 4),
        first_seq: Seq(seq),
        last_seq: Seq(seq + 49),
        cause,
    };
    let first_run = Run {
        first_segment: SegmentNumber(3),
        last_segment: SegmentNumber(9),
        first_batch: BatchNumber(11),
        last_batch: BatchNumber(90),
        last_batch_at: 65536,
        first_seq: Seq(101),
        last_kept_seq: Seq(900),
        incarnation: Incarnation(1),
        first_epoch: Epoch(1),
        voids: vec![
            void(4, 20, 200, VoidCause::Truncated),
            void(5, 30, 300, VoidCause::Uncommitted),
            void(7, 60, 600, VoidCause::Salvaged),
        ],
    };
    let second_run = Run {
        first_segment: SegmentNumber(12),
        last_segment: SegmentNumber(12),
        first_batch: BatchNumber(95),
        last_batch: BatchNumber(95),
        last_batch_at: 1024,
        first_seq: Seq(1001),
        last_kept_seq: Seq(1000),
        incarnation: Incarnation(3),
        first_epoch: Epoch(20),
        voids: vec![],
    };
    Manifest {
        log: LOG,
        generation: Generation(12),
        incarnation: Incarnation(4),
        committed_epoch: Epoch(24),
        first_epoch: Epoch(33),
        pipeline_bound: 8,
        checkpoint: Some(Checkpoint { epoch: Epoch(5), bytes: b"offset=77".to_vec() }),
        shards: vec![
            ShardRecord {
                active: true,
                next_segment: SegmentNumber(15),
                next_batch: BatchNumber(100),
                next_seq: Seq(1001),
                released_seq: Seq(100),
                current: Some(CurrentRun {
                    first_segment: SegmentNumber(15),
                    first_batch: BatchNumber(100),
                    first_seq: Seq(1001),
                }),
                durable_batch: BatchNumber(120),
                durable_seq: Seq(1500),
                barrier: Epoch(34),
                runs: vec![first_run, second_run],
                ..ShardRecord::new(ShardId(0))
            },
            ShardRecord { next_segment: SegmentNumber(2), ..ShardRecord::new(ShardId(7)) },
        ],
    }
}

/// Every golden file: its name and its bytes as they are encoded now.
pub(crate) fn golden_files() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for copy in [0, 1] {
        let mut block = vec![0; segment().block_len as usize];
        segment().encode(copy, &mut block);
        files.push((format!("segment-header-{copy}.bin"), block));
    }
    for (name, header, drafts) in batches() {
        files.push((format!("{name}.bin"), build(header, &drafts).1));
    }
    files.push(("manifest-new.bin".into(), new_manifest().encode()));
    files.push(("manifest-full.bin".into(), full_manifest().encode()));
    files
}
