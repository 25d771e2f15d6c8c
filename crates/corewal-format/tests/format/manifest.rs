//! Manifests: what comes back, and what damage is called.

use corewal_format::{
    BatchNumber, Checkpoint, CurrentRun, Epoch, Generation, Incarnation, LogId, Manifest,
    ManifestFault, Run, SegmentNumber, Seq, ShardId, ShardRecord, Void, VoidCause, crc32c,
};
use proptest::prelude::*;

use crate::samples::{full_manifest, new_manifest};

const HEADER: usize = 96;
/// Where the first shard record of the full manifest, its first run and that run's first void start.
const SHARD: usize = HEADER;
const RUN: usize = SHARD + 96;
const VOID: usize = RUN + 80;
/// The third void of that run, and the run behind it.
const THIRD_VOID: usize = VOID + 2 * 72;
const SECOND_RUN: usize = VOID + 3 * 72;

/// Makes the checksum of a changed manifest right again.
fn reseal(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// What is wrong with the full manifest when `field` stands at `at` and the checksum is right.
fn fault(at: usize, field: &[u8]) -> Option<ManifestFault> {
    let mut bytes = full_manifest().encode();
    bytes[at..at + field.len()].copy_from_slice(field);
    reseal(&mut bytes);
    Manifest::decode(&bytes).err()
}

#[test]
fn every_flipped_bit_of_a_manifest_is_noticed() {
    for manifest in [new_manifest(), full_manifest()] {
        let mut bytes = manifest.encode();
        // Allocated ahead: the file is longer than the manifest.
        bytes.extend_from_slice(&[0; 100]);
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_manifest_that_is_cut_off_anywhere_is_named_cut() {
    let bytes = full_manifest().encode();
    for len in 0..bytes.len() {
        assert_eq!(Manifest::decode(&bytes[..len]), Err(ManifestFault::Cut), "{len} bytes");
    }
}

#[test]
fn zeros_are_no_manifest() {
    assert_eq!(Manifest::decode(&[0; 4096]), Err(ManifestFault::Magic));
}

#[test]
fn a_later_version_is_named() {
    assert_eq!(fault(12, &[2, 0]), Some(ManifestFault::Version(2)));
}

#[test]
fn a_field_that_cannot_be_is_named_though_the_checksum_holds() {
    let max = [0xff; 8];
    let cases: &[(usize, &[u8], &str)] = &[
        (14, &[1], "padding"),
        (20, &[1, 0, 0, 0], "checkpoint length"),
        (20, &[3, 0, 0, 0], "shard count"),
        (20, &[0xff; 4], "shard count"),
        (40, &[0; 8], "generation"),
        (40, &max, "generation"),
        (48, &[0; 8], "current run before the first incarnation"),
        (48, &[2], "incarnation of a run"),
        (48, &max, "incarnation"),
        (56, &max, "committed epoch"),
        (56, &[4], "checkpoint epoch"),
        (64, &max, "first epoch"),
        (76, &[0; 4], "checkpoint length"),
        (76, &[0xff; 4], "checkpoint length"),
        (80, &[0; 8], "checkpoint epoch"),
        (80, &max, "checkpoint epoch"),
        (88, &[1], "reserved field"),
        (SHARD, &[7], "shard order"),
        (SHARD + 2, &[4], "shard flags"),
        (SHARD + 2, &[1], "current run"),
        (SHARD + 2, &[2], "current run of a retired shard"),
        (SHARD + 4, &[0xff; 4], "run count"),
        (SHARD + 8, &[0; 8], "next segment"),
        (SHARD + 8, &[12], "next segment"),
        (SHARD + 8, &max, "next segment"),
        (SHARD + 16, &[0; 8], "next batch"),
        (SHARD + 16, &[95], "next batch"),
        (SHARD + 16, &max, "next batch"),
        (SHARD + 24, &[0; 8], "next seq"),
        (SHARD + 24, &1000_u64.to_le_bytes(), "next seq"),
        (SHARD + 24, &max, "next seq"),
        (SHARD + 32, &max, "released seq"),
        (SHARD + 40, &[0; 8], "current run"),
        (SHARD + 40, &[12], "current run"),
        (SHARD + 48, &max, "current run"),
        (SHARD + 48, &[95], "current run"),
        (SHARD + 56, &[0; 8], "current run"),
        (SHARD + 56, &1000_u64.to_le_bytes(), "current run"),
        (SHARD + 64, &max, "durable batch"),
        (SHARD + 72, &max, "durable batch"),
        (SHARD + 80, &max, "barrier"),
        (SHARD + 88, &[1], "reserved field"),
        (RUN, &[0; 8], "first segment"),
        (RUN, &[10], "last segment"),
        (RUN + 8, &[12], "run order"),
        (RUN + 8, &max, "run order"),
        (RUN + 16, &[0; 8], "first batch"),
        (RUN + 16, &[91], "first batch"),
        (RUN + 24, &[95], "run order"),
        (RUN + 32, &[0; 8], "last kept seq"),
        (RUN + 32, &902_u64.to_le_bytes(), "last kept seq"),
        (RUN + 40, &1001_u64.to_le_bytes(), "run order"),
        (RUN + 48, &[0], "incarnation of a run"),
        (RUN + 48, &[4], "run order"),
        (RUN + 56, &[21], "run order"),
        (RUN + 64, &512_u64.to_le_bytes(), "last batch at"),
        (RUN + 64, &65537_u64.to_le_bytes(), "last batch at"),
        (RUN + 64, &(1_u64 << 32).to_le_bytes(), "last batch at"),
        (RUN + 72, &[0xff; 4], "void count"),
        (RUN + 76, &[1], "reserved field"),
        (VOID, &[2], "void range"),
        (VOID, &[5], "void range"),
        (VOID + 8, &512_u64.to_le_bytes(), "void range"),
        (VOID + 8, &8200_u64.to_le_bytes(), "void range"),
        (VOID + 8, &(1_u64 << 32).to_le_bytes(), "void range"),
        (VOID + 16, &[10], "void range"),
        (VOID + 24, &512_u64.to_le_bytes(), "void range"),
        (VOID + 24, &1032_u64.to_le_bytes(), "void range"),
        (THIRD_VOID + 24, &(1_u64 << 32).to_le_bytes(), "void range"),
        (THIRD_VOID + 56, &1001_u64.to_le_bytes(), "next seq"),
        (SECOND_RUN + 48, &[5], "incarnation of a run"),
        (VOID + 24, &max, "void range"),
        (VOID + 32, &[10], "void range"),
        (VOID + 32, &[25], "void range"),
        (VOID + 40, &[30], "void range"),
        (VOID + 48, &[251], "void range"),
        (VOID + 56, &max, "void range"),
        (VOID + 64, &[0], "cause of a void range"),
        (VOID + 64, &[4], "cause of a void range"),
        (VOID + 68, &[1], "reserved field"),
    ];
    for &(at, field, what) in cases {
        assert_eq!(fault(at, field), Some(ManifestFault::Impossible(what)), "{field:?} at {at}");
    }
}

#[test]
fn the_largest_seq_is_refused_where_nothing_follows_the_run() {
    let mut manifest = full_manifest();
    let record = &mut manifest.shards[0];
    (record.active, record.current) = (false, None);
    record.runs.remove(0);
    let mut bytes = manifest.encode();
    bytes[RUN + 40..RUN + 48].fill(0xff);
    reseal(&mut bytes);
    assert_eq!(Manifest::decode(&bytes), Err(ManifestFault::Impossible("last kept seq")));
}

#[test]
fn fields_at_the_edge_of_their_range_are_taken() {
    let highest = ((1_u64 << 32) - 512).to_le_bytes();
    let cases: &[(usize, &[u8])] = &[
        (48, &[3]),
        (SHARD + 8, &[13]),
        (SHARD + 16, &[96]),
        // Below, at and above where the current run starts.
        (SHARD + 8, &[200]),
        (SHARD + 16, &[200]),
        (SHARD + 24, &2000_u64.to_le_bytes()),
        (RUN + 32, &901_u64.to_le_bytes()),
        (RUN + 48, &[3]),
        (RUN + 64, &1024_u64.to_le_bytes()),
        (RUN + 64, &highest),
        (VOID + 8, &1024_u64.to_le_bytes()),
        (VOID + 8, &highest),
        (THIRD_VOID + 24, &highest),
        (THIRD_VOID + 56, &1000_u64.to_le_bytes()),
        (SECOND_RUN + 48, &[4]),
    ];
    for &(at, field) in cases {
        assert_eq!(fault(at, field), None, "{field:?} at {at}");
    }
}

#[test]
fn epochs_of_this_incarnation_can_be_committed_and_have_a_checkpoint() {
    let mut manifest = full_manifest();
    manifest.committed_epoch = manifest.first_epoch.next();
    manifest.checkpoint = Some(Checkpoint { epoch: manifest.first_epoch, bytes: vec![] });
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
}

#[test]
fn hostile_counts_are_refused_before_memory_is_taken_for_them() {
    // Records of 2^32 shards, runs or voids would take hundreds of gigabytes.
    for (at, what) in [(20, "shard count"), (SHARD + 4, "run count"), (RUN + 72, "void count")] {
        for count in [8, 1000, u32::MAX / 2, u32::MAX] {
            let found = fault(at, &count.to_le_bytes());
            assert_eq!(found, Some(ManifestFault::Impossible(what)), "{count}");
        }
    }
}

#[test]
fn lengths_beyond_the_limit_are_refused_before_they_are_read() {
    let mut bytes = full_manifest().encode();
    for (len, found) in [
        (0, ManifestFault::Checksum),
        (95, ManifestFault::Checksum),
        (u32::MAX, ManifestFault::Checksum),
        (64 << 20, ManifestFault::Cut),
    ] {
        bytes[16..20].copy_from_slice(&len.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(found), "{len}");
    }
}

#[test]
fn bytes_behind_a_manifest_must_be_zero() {
    let mut bytes = new_manifest().encode();
    bytes.push(1);
    assert_eq!(Manifest::decode(&bytes), Err(ManifestFault::Impossible("padding")));
}

#[test]
fn a_shard_is_found_by_its_id() {
    let manifest = full_manifest();
    assert_eq!(manifest.shard(ShardId(7)), manifest.shards.get(1));
    assert_eq!(manifest.shard(ShardId(1)), None);
}

#[test]
#[should_panic(expected = "a manifest that no reader takes")]
fn a_manifest_that_no_reader_takes_is_not_written() {
    let checkpoint = Some(Checkpoint { epoch: Epoch(0), bytes: vec![1] });
    let _ = Manifest { checkpoint, ..new_manifest() }.encode();
}

/// Ascending numbers: each tuple's run lies behind the one before it.
fn runs() -> impl Strategy<Value = Vec<Run>> {
    let steps = prop::collection::vec((1..50_u64, 0..50_u64, 2..1_u64 << 23), 0..5);
    let voids = prop::collection::vec(0..3_usize, 5);
    (steps, voids, 1..1000_u64).prop_map(|(steps, voids, start)| {
        let mut at = start;
        let list = steps.into_iter().zip(voids);
        list.map(|((gap, len, block), void_count)| {
            let (first, last) = (at + gap, at + gap + 2 * void_count as u64 + len);
            at = last;
            Run {
                first_segment: SegmentNumber(first),
                last_segment: SegmentNumber(last),
                first_batch: BatchNumber(first),
                last_batch: BatchNumber(last),
                last_batch_at: 512 * block,
                first_seq: Seq(first),
                last_kept_seq: Seq(last),
                incarnation: Incarnation(1 + at / 7),
                first_epoch: Epoch(at / 3),
                voids: (0..void_count as u64).map(|index| void(first + 2 * index)).collect(),
            }
        })
        .collect()
    })
}

/// A void of the batch with number `number`, in the segment of that number.
fn void(number: u64) -> Void {
    let causes = [VoidCause::Truncated, VoidCause::Uncommitted, VoidCause::Salvaged];
    Void {
        from_segment: SegmentNumber(number),
        from_at: 1024,
        to_segment: SegmentNumber(number + 1),
        to_at: 1024,
        first_batch: BatchNumber(number),
        last_batch: BatchNumber(number),
        first_seq: Seq(number),
        last_seq: Seq(number + 3),
        cause: causes[(number % 3) as usize],
    }
}

prop_compose! {
    fn records()(
        runs in runs(), active: bool, has_current: bool, next in (10_000..u64::MAX, 10_000..u64::MAX, 10_000..u64::MAX),
        promises in (0..u64::MAX, 0..u64::MAX, 0..u64::MAX), released in 0..u64::MAX, above in 10_000..u64::MAX,
    ) -> ShardRecord {
        ShardRecord {
            shard: ShardId(0),
            active,
            next_segment: SegmentNumber(next.0),
            next_batch: BatchNumber(next.1),
            next_seq: Seq(next.2),
            released_seq: Seq(released),
            current: (active && has_current).then_some(CurrentRun {
                first_segment: SegmentNumber(above),
                first_batch: BatchNumber(above),
                first_seq: Seq(above),
            }),
            durable_batch: BatchNumber(promises.0),
            durable_seq: Seq(promises.1),
            barrier: Epoch(promises.2),
            runs,
        }
    }
}

prop_compose! {
    fn manifests()(
        log: [u8; 16], generation in 1..u64::MAX, incarnation in 1000..u64::MAX,
        epochs in (0..u64::MAX, 0..u64::MAX), pipeline_bound: u32, checkpoint: Option<Vec<u8>>,
        records in prop::collection::btree_map(any::<u16>(), records(), 0..6),
    ) -> Manifest {
        let epoch = Epoch(epochs.0 / 2);
        Manifest {
            log: LogId(log),
            generation: Generation(generation),
            incarnation: Incarnation(incarnation),
            committed_epoch: Epoch(epochs.0),
            first_epoch: Epoch(epochs.1),
            pipeline_bound,
            checkpoint: checkpoint
                .filter(|_| epoch.0 > 0)
                .map(|bytes| Checkpoint { epoch, bytes }),
            shards: records
                .into_iter()
                .map(|(shard, record)| ShardRecord { shard: ShardId(shard), ..record })
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn every_manifest_comes_back(manifest in manifests()) {
        let bytes = manifest.encode();
        prop_assert_eq!(bytes.len(), manifest.encoded_len());
        prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes: Vec<u8>) {
        prop_assert!(Manifest::decode(&bytes).is_err());
    }

    #[test]
    fn sealed_arbitrary_fields_are_answered(
        fields in prop::collection::vec((12..736_usize, any::<[u8; 8]>()), 1..4),
        extreme: bool,
    ) {
        let mut bytes = full_manifest().encode();
        for (at, field) in fields {
            // Aligned, so that whole numbers become extreme; the length stays, for the checksum to hold.
            let at = at / 8 * 8;
            let field = if extreme { [0xff; 8] } else { field };
            if at + 8 <= bytes.len() && at >= 20 {
                bytes[at..at + 8].copy_from_slice(&field);
            }
        }
        reseal(&mut bytes);
        let found = Manifest::decode(&bytes);
        prop_assert_ne!(&found, &Err(ManifestFault::Checksum));
        if let Ok(manifest) = found {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}
