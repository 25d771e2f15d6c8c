//! What power cuts and damage leave, built batch by batch. An ordinary power cut is never refused; a bad place
//! below a promise always is, with its witness.

use corewal::{
    BatchNumber, Claim, Epoch, Incarnation, Kind, LogId, Place, Reason, RunEnd, Seq, ShardId,
    Source, Witness,
};
use corewal_format::{BatchFault, BodyFault, Manifest, SegmentFault, ShardRecord};

use crate::support::image::{
    BLOCK, FIRST, Image, LOG, SEGMENT, Segment, active, barrier, batch, ended, manifest, vouch,
};
use crate::support::{append, open, open_one, recover, recovered, refused, segment_path, texts};

fn entries(numbers: &[u64]) -> Vec<String> {
    numbers.iter().map(|n| format!("entry {n}")).collect()
}

fn by_batch(number: u64, at: Place) -> Source {
    Source::Batch { number: BatchNumber(number), at }
}

fn durable(batch: u64, source: Source) -> Option<Witness> {
    Some(Witness { claim: Claim::Durable(BatchNumber(batch)), source })
}

fn ends(image: &Image) -> Vec<RunEnd> {
    recover(image.options()).unwrap().1.shards.iter().map(|shard| shard.end).collect()
}

/// Defect 20, 11: batches behind a hole are ordinary when several writes were in flight.
#[test]
fn whole_batches_behind_a_hole_are_a_torn_tail() {
    let first = || Segment::new(0, 1).put(&batch(1)).put(&batch(2).promise(1));
    let holes = [first().lose(&batch(3)), first().tear(&batch(3)), first().behead(&batch(3))];
    for hole in holes {
        let at = hole.place(hole.at - u64::from(BLOCK));
        // Sealed while 3 was in flight: they promise what had been durable, not 3.
        let hole = hole.put(&batch(4).promise(2)).put(&batch(5).promise(2));
        let ignored = if hole.bytes[2048] == 0 { 2 } else { 3 } * u64::from(BLOCK);
        let image = Image::of_one(&[hole]);
        assert_eq!(recovered(image.options()), entries(&[1, 2]));
        assert_eq!(ends(&image), [RunEnd::Torn { at, ignored }]);
        assert_eq!(texts(&crate::support::read(image.options()).unwrap().0), entries(&[1, 2]));
    }
}

#[test]
fn a_run_with_nothing_behind_its_end_is_clean() {
    let segment = Segment::new(0, 1).put(&batch(1));
    let at = segment.place(segment.at);
    let image = Image::of_one(&[segment]);
    assert_eq!(recovered(image.options()), entries(&[1]));
    assert_eq!(ends(&image), [RunEnd::Clean { at }]);
}

#[test]
fn a_hole_below_a_promise_is_refused_with_its_witness() {
    let segment = Segment::new(0, 1).put(&batch(1)).lose(&batch(2)).put(&batch(3).promise(2));
    let (hole, witness) = (segment.place(1536), by_batch(3, segment.place(2048)));
    let image = Image::of_one(&[segment]);
    let damage = refused(image.options());
    assert_eq!(damage.at, hole);
    let reason = Reason::Batch { expected: BatchNumber(2), fault: BatchFault::Zero };
    assert_eq!(damage.reason, reason);
    assert_eq!(damage.witness, durable(2, witness));
    assert_eq!(
        damage.to_string(),
        "segment 0-000001 at 1536: batch 2 expected, found only zeros, though batch 3 (segment 0-000001 at \
         2048) says that batch 2 was durable"
    );
}

/// Defect 12: one flipped bit in the first batch is damage, and no end of the log.
#[test]
fn a_torn_batch_below_a_promise_is_refused_for_what_is_wrong_with_it() {
    let segment = Segment::new(0, 1).tear(&batch(1)).put(&batch(2).promise(1));
    let (at, witness) = (segment.place(FIRST), by_batch(2, segment.place(1536)));
    let damage = refused(Image::of_one(&[segment]).options());
    assert_eq!(damage.at, at);
    let fault = BodyFault::Entry { index: 0, at: 112 };
    assert_eq!(damage.reason, Reason::Body { batch: BatchNumber(1), fault });
    assert_eq!(damage.witness, durable(1, witness));
}

#[test]
fn a_promise_counts_though_the_body_below_it_is_torn() {
    let segment = Segment::new(0, 1).lose(&batch(1)).tear(&batch(2).promise(1));
    let witness = by_batch(2, segment.place(1536));
    let damage = refused(Image::of_one(&[segment]).options());
    assert_eq!(damage.witness, durable(1, witness));
}

#[test]
fn a_promise_in_a_broken_header_does_not_count() {
    let segment = Segment::new(0, 1).lose(&batch(1)).behead(&batch(2).promise(1));
    assert_eq!(recovered(Image::of_one(&[segment]).options()), entries(&[]));
}

#[test]
fn a_promise_exactly_below_the_hole_binds_nothing() {
    let segment =
        Segment::new(0, 1).put(&batch(1)).put(&batch(2)).lose(&batch(3)).put(&batch(4).promise(2));
    assert_eq!(recovered(Image::of_one(&[segment]).options()), entries(&[1, 2]));
}

#[test]
fn a_vouch_is_a_witness() {
    let segment = Segment::new(0, 1).lose(&batch(1)).put(&vouch(2).promise(1));
    let witness = by_batch(2, segment.place(1536));
    assert_eq!(refused(Image::of_one(&[segment]).options()).witness, durable(1, witness));
}

#[test]
fn a_promise_in_a_later_segment_is_found() {
    let first = Segment::new(0, 1).put(&batch(1)).lose(&batch(2));
    let second = Segment::new(0, 2).put(&batch(3)).put(&batch(4).promise(2));
    let (at, witness) = (first.place(1536), by_batch(4, second.place(1536)));
    let damage = refused(Image::of_one(&[first, second]).options());
    assert_eq!((damage.at, damage.witness), (at, durable(2, witness)));
}

#[test]
fn the_manifest_is_a_witness() {
    let record = ShardRecord { durable_batch: BatchNumber(2), ..active(0) };
    let manifest = manifest(vec![record]);
    let whole = Segment::new(0, 1).put(&batch(1)).put(&batch(2));
    assert_eq!(recovered(Image::new(&manifest, &[whole]).options()), entries(&[1, 2]));
    let short = Segment::new(0, 1).put(&batch(1)).tear(&batch(2));
    let damage = refused(Image::new(&manifest, &[short]).options());
    assert_eq!(damage.witness, durable(2, Source::Manifest(manifest.generation)));
}

#[test]
fn a_barrier_of_an_epoch_that_another_shard_calls_committed_must_be_there() {
    let manifest = manifest(vec![active(0), active(1)]);
    let other = Segment::new(1, 1).put(&barrier(1, 1)).put(&batch(2).epoch(2).committed(1));
    let witness = by_batch(2, other.place(1536));
    let whole = Segment::new(0, 1).put(&batch(1)).put(&barrier(2, 1));
    let image = Image::new(&manifest, &[whole, other.clone()]);
    let (items, report) = recover(image.options().shards(2)).unwrap();
    assert_eq!(texts(&items), ["entry 1", "|", "|", "entry 2"]);
    assert_eq!(report.committed_epoch, Epoch(1));
    let lost = Segment::new(0, 1).put(&batch(1));
    let at = lost.place(1536);
    let damage = refused(Image::new(&manifest, &[lost, other.clone()]).options());
    let claim = Claim::Committed(Epoch(1));
    assert_eq!((damage.at, damage.witness), (at, Some(Witness { claim, source: witness })));
    // All of the shard is missing.
    let damage = refused(Image::new(&manifest, &[other]).options());
    assert_eq!(damage.at, Place { shard: ShardId(0), segment: corewal::SegmentNumber(1), at: 0 });
    assert_eq!(damage.witness, Some(Witness { claim, source: witness }));
}

/// History 7: a shard that is not active in this incarnation is bound by no promise of it.
#[test]
fn a_retired_shard_is_bound_by_no_promise() {
    let retired = ShardRecord {
        next_segment: corewal::SegmentNumber(2),
        next_batch: BatchNumber(2),
        next_seq: Seq(2),
        runs: vec![ended(1, FIRST)],
        ..ShardRecord::new(ShardId(1))
    };
    let manifest = manifest(vec![active(0), retired]);
    let old = Segment::new(1, 1).put(&batch(1));
    let writer = Segment::new(0, 1).put(&barrier(1, 1)).put(&batch(2).epoch(2).committed(1));
    let (items, report) = recover(Image::new(&manifest, &[writer, old]).options()).unwrap();
    assert_eq!(texts(&items), ["|", "entry 1", "entry 2"]);
    assert_eq!(report.committed_epoch, Epoch(1));
}

/// History 4: header 2 survives, batch 1 does not; nothing says where segment 1 ended.
#[test]
fn a_batch_in_the_next_segment_goes_on_where_the_last_one_ended() {
    let mut first = Segment::new(0, 1).put(&batch(1)).put(&batch(2));
    // What is left of the segment is garbage: an older life, a payload.
    let rest = usize::try_from(first.at).unwrap();
    first.bytes[rest..].fill(0x5a);
    let second = Segment::new(0, 2).put(&batch(3)).put(&batch(4));
    let image = Image::of_one(&[first.clone(), second]);
    assert_eq!(recovered(image.options()), entries(&[1, 2, 3, 4]));
    let torn = Segment::new(0, 2).tear(&batch(3)).put(&batch(4));
    assert_eq!(recovered(Image::of_one(&[first, torn]).options()), entries(&[1, 2]));
    let lost = Segment::new(0, 1).lose(&batch(1));
    let second = Segment::new(0, 2).put(&batch(2));
    assert_eq!(recovered(Image::of_one(&[lost, second]).options()), entries(&[]));
}

#[test]
fn a_damaged_first_batch_of_a_segment_is_named_where_it_stands() {
    let first = Segment::new(0, 1).put(&batch(1));
    let second = Segment::new(0, 2).tear(&batch(2)).put(&batch(3).promise(2));
    let (at, witness) = (second.place(FIRST), by_batch(3, second.place(1536)));
    let damage = refused(Image::of_one(&[first, second]).options());
    assert_eq!(damage.witness, durable(2, witness));
    assert_eq!(damage.at, at, "{damage}");
    assert!(matches!(damage.reason, Reason::Body { .. }), "{damage}");
}

#[test]
fn an_impossible_batch_is_refused_also_at_the_start_of_a_segment() {
    // A batch whose checksums hold, but whose kind no program of this version writes.
    let impossible = |segment: Segment, number: u64| {
        let place = (segment.place(0), segment.at);
        segment.put_changed(&batch(number), move |bytes| {
            let block = u32::try_from(place.1 / u64::from(BLOCK)).unwrap();
            let seed = corewal_format::Seed::of(
                LOG,
                place.0.shard,
                place.0.segment,
                Incarnation(1),
                block,
            );
            let header = corewal_format::EntryHeader {
                len: 7,
                kind: Kind(77),
                flags: corewal_format::EntryFlags::NONE,
                delta: 0,
            };
            let crc = header.seal(seed, &mut bytes[112..112 + 16 + 7]);
            let sealed = corewal_format::BatchHeader::decode_anywhere(LOG, bytes).unwrap();
            let mut chain = seed.chain();
            chain.link(crc);
            corewal_format::BatchHeader { body_crc: chain.crc(), ..sealed }.encode(LOG, bytes);
        })
    };
    let fault = BodyFault::Impossible { index: 0, what: "kind" };
    let same = impossible(Segment::new(0, 1).put(&batch(1)), 2);
    let at = same.place(1536);
    let damage = refused(Image::of_one(&[same]).options());
    assert_eq!((damage.at, damage.witness), (at, None));
    assert_eq!(damage.reason, Reason::Body { batch: BatchNumber(2), fault });
    let first = Segment::new(0, 1).put(&batch(1));
    let second = impossible(Segment::new(0, 2), 2);
    let at = second.place(FIRST);
    let damage = refused(Image::of_one(&[first, second]).options());
    assert_eq!((damage.at, damage.witness), (at, None));
    assert_eq!(damage.reason, Reason::Body { batch: BatchNumber(2), fault });
}

/// History 11: the file that was prepared last may be missing, or never have become a segment.
#[test]
fn a_missing_last_segment_without_a_promise_is_an_end() {
    let first = Segment::new(0, 1).put(&batch(1));
    assert_eq!(recovered(Image::of_one(&[first]).options()), entries(&[1]));
    assert_eq!(recovered(Image::of_one(&[]).options()), entries(&[]));
}

#[test]
fn a_missing_last_segment_that_a_manifest_vouches_for_is_refused() {
    let record = ShardRecord { durable_batch: BatchNumber(1), ..active(0) };
    let damage = refused(Image::new(&manifest(vec![record]), &[]).options());
    assert_eq!(damage.reason, Reason::SegmentMissing);
    assert!(damage.witness.is_some());
}

/// Defect 15.
#[test]
fn a_missing_segment_below_an_existing_one_is_refused() {
    let segments = [1, 2, 3].map(|number| Segment::new(0, number).put(&batch(number)));
    assert_eq!(recovered(Image::of_one(&segments).options()), entries(&[1, 2, 3]));
    for missing in [1, 2] {
        let image = Image::of_one(&segments);
        std::fs::remove_file(segment_path(&image.dir(), 0, missing)).unwrap();
        let damage = refused(image.options());
        assert_eq!(damage.reason, Reason::SegmentMissing);
        assert_eq!(damage.at, segments[usize::try_from(missing).unwrap() - 1].place(0));
    }
}

#[test]
fn one_readable_copy_of_a_segment_header_is_enough() {
    for copy in [0, 512] {
        let mut segment = Segment::new(0, 1).put(&batch(1));
        segment.bytes[copy..copy + 512].fill(0xee);
        assert_eq!(recovered(Image::of_one(&[segment]).options()), entries(&[1]));
    }
}

/// Defect 13: the header of a used segment that is unreadable, or zero, is damage; of an unused one it is what
/// a crash while preparing leaves.
#[test]
fn an_unreadable_header_is_damage_only_in_a_used_segment() {
    let used = Segment::new(0, 1).put(&batch(1));
    let at = used.place(0);
    let mut zeroed = used.clone();
    zeroed.bytes[..1024].fill(0);
    for (segment, fault) in
        [(used.without_header(), SegmentFault::Checksum), (zeroed, SegmentFault::Zero)]
    {
        let damage = refused(Image::of_one(&[segment]).options());
        assert_eq!((damage.at, damage.reason), (at, Reason::SegmentHeader(fault)));
    }
    let first = Segment::new(0, 1).put(&batch(1));
    let unused = Segment::new(0, 2).without_header();
    assert_eq!(recovered(Image::of_one(&[first.clone(), unused.clone()]).options()), entries(&[1]));
    let damage = refused(Image::of_one(&[first, unused, Segment::new(0, 3)]).options());
    assert_eq!(damage.at.segment, corewal::SegmentNumber(2));
}

#[test]
fn a_cut_off_segment_is_refused() {
    let mut segment = Segment::new(0, 1).put(&batch(1)).put(&batch(2));
    segment.bytes.truncate(2048);
    let damage = refused(Image::of_one(&[segment]).options());
    assert!(matches!(damage.reason, Reason::SegmentLen { .. }), "{damage}");
}

#[test]
fn a_file_cut_off_while_it_was_prepared_is_an_end() {
    let first = Segment::new(0, 1).put(&batch(1));
    for len in [0, 100, 512, 1024, 1536] {
        let mut second = Segment::new(0, 2);
        second.bytes.truncate(len);
        let image = Image::of_one(&[first.clone(), second]);
        assert_eq!(recovered(image.options()), entries(&[1]), "{len} bytes");
    }
}

#[test]
fn segments_that_belong_elsewhere_are_refused_by_name() {
    let whole = Segment::new(0, 1).put(&batch(1));
    let image = Image::of_one(&[]);
    image.save_as(&Segment::new(3, 1).put(&batch(1)), 0, 1);
    let damage = refused(image.options());
    assert_eq!(damage.reason, Reason::OtherSegment(ShardId(3), corewal::SegmentNumber(1)));
    image.save_as(&Segment::new(0, 2), 0, 1);
    let damage = refused(image.options());
    assert_eq!(damage.reason, Reason::OtherSegment(ShardId(0), corewal::SegmentNumber(2)));
    let mut foreign = whole.clone();
    let other = LogId(*b"some other's log");
    foreign.write_headers(other);
    image.save(&foreign);
    assert_eq!(refused(image.options()).reason, Reason::OtherLog(other));
    image.save(&whole);
    assert_eq!(recovered(image.options()), entries(&[1]));
}

/// History 21: the manifest of incarnation 2 was lost, in both slots.
#[test]
fn a_segment_of_a_later_incarnation_proves_a_lost_manifest() {
    let lost = Reason::LaterIncarnation { found: Incarnation(2), known: Incarnation(1) };
    let first = Segment::new(0, 1).put(&batch(1));
    let later = Segment::of(0, 2, 2);
    let image = Image::of_one(&[first, later.clone()]);
    assert_eq!(refused(image.options()).reason, lost);
    // The same where every run had been ended by a clean close, and in a shard that nobody knows.
    let closed = ShardRecord {
        active: true,
        next_segment: corewal::SegmentNumber(2),
        next_batch: BatchNumber(2),
        next_seq: Seq(2),
        runs: vec![ended(1, FIRST)],
        ..ShardRecord::new(ShardId(0))
    };
    let first = Segment::new(0, 1).put(&batch(1));
    let image = Image::new(&manifest(vec![closed]), &[first, later]);
    assert_eq!(refused(image.options()).reason, lost);
    let image = Image::of_one(&[Segment::of(4, 1, 2)]);
    assert_eq!(refused(image.options()).reason, lost);
}

/// History 9: what lies behind a recorded end may be anything: promises, damage, nothing.
#[test]
fn nothing_behind_a_recorded_end_is_looked_at() {
    let record = ShardRecord {
        active: true,
        next_segment: corewal::SegmentNumber(3),
        next_batch: BatchNumber(9),
        next_seq: Seq(9),
        current: Some(corewal_format::CurrentRun {
            first_segment: corewal::SegmentNumber(3),
            first_batch: BatchNumber(9),
            first_seq: Seq(9),
        }),
        runs: vec![ended(1, FIRST)],
        ..ShardRecord::new(ShardId(0))
    };
    let manifest = Manifest { incarnation: Incarnation(2), ..manifest(vec![record]) };
    let first = Segment::new(0, 1)
        .put(&batch(1))
        .lose(&batch(2))
        .put(&batch(3).promise(2))
        .put(&batch(4).promise(3).epoch(9).committed(8));
    let second = Segment::new(0, 2).put(&batch(5).promise(4));
    let third = Segment::of(0, 3, 2).put(&batch(9));
    let image = Image::new(&manifest, &[first, second, third]);
    assert_eq!(recovered(image.options()), entries(&[1, 9]));
}

#[test]
fn damage_below_a_recorded_end_is_refused_and_the_manifest_is_the_witness() {
    let closed = ShardRecord {
        active: true,
        next_segment: corewal::SegmentNumber(3),
        next_batch: BatchNumber(4),
        next_seq: Seq(4),
        runs: vec![corewal_format::Run {
            last_segment: corewal::SegmentNumber(2),
            ..ended(3, 1536)
        }],
        ..ShardRecord::new(ShardId(0))
    };
    let manifest = manifest(vec![closed]);
    let claim = Claim::RunEnd(BatchNumber(3));
    let witness = Some(Witness { claim, source: Source::Manifest(manifest.generation) });
    let first = Segment::new(0, 1).put(&batch(1));
    let second = Segment::new(0, 2).put(&batch(2)).put(&batch(3));
    let image = Image::new(&manifest, &[first.clone(), second.clone()]);
    assert_eq!(recovered(image.options()), entries(&[1, 2, 3]));
    let third_torn = Segment::new(0, 2).put(&batch(2)).tear(&batch(3));
    let damage = refused(Image::new(&manifest, &[first.clone(), third_torn]).options());
    assert_eq!((damage.at, damage.witness), (second.place(1536), witness));
    let second_torn = Segment::new(0, 2).tear(&batch(2)).put(&batch(3));
    let damage = refused(Image::new(&manifest, &[first.clone(), second_torn]).options());
    assert_eq!((damage.at, damage.witness), (second.place(FIRST), witness), "{damage}");
    let damage = refused(Image::new(&manifest, std::slice::from_ref(&first)).options());
    assert_eq!((damage.at, damage.witness), (second.place(0), witness));
    assert_eq!(damage.reason, Reason::SegmentMissing);
    // Its last batch stands somewhere else than the manifest says.
    let moved = Segment::new(0, 2).put(&batch(2).payload(vec![b'x'; 600])).put(&batch(3));
    let damage = refused(Image::new(&manifest, &[first, moved]).options());
    assert_eq!(damage.witness, witness);
}

#[test]
fn damage_below_a_recorded_end_also_keeps_the_log_from_being_opened() {
    let closed = ShardRecord {
        active: true,
        next_segment: corewal::SegmentNumber(2),
        next_batch: BatchNumber(3),
        next_seq: Seq(3),
        runs: vec![ended(2, 1536)],
        ..ShardRecord::new(ShardId(0))
    };
    let torn = Segment::new(0, 1).put(&batch(1)).tear(&batch(2));
    let image = Image::new(&manifest(vec![closed]), &[torn]);
    let before = crate::support::contents(&image.dir());
    let unread = corewal::Log::recover(image.options()).unwrap();
    unread.open().unwrap_err();
    // Who ignores the error of the stream does not get a log either.
    let mut read = corewal::Log::recover(image.options()).unwrap();
    assert_eq!(read.next_entry().unwrap().unwrap().bytes(), b"entry 1");
    let first = read.next_entry().unwrap_err().to_string();
    assert_eq!(read.next_entry().unwrap_err().to_string(), first, "the error stays");
    assert_eq!(read.open().unwrap_err().to_string(), first);
    assert_eq!(crate::support::contents(&image.dir()), before);
}

/// Defect 25.
#[test]
fn recovering_twice_gives_the_same_stream_and_changes_nothing() {
    let segment =
        Segment::new(0, 1).put(&batch(1)).put(&batch(2)).tear(&batch(3)).put(&batch(4).promise(2));
    let image = Image::of_one(&[segment]);
    let before = crate::support::contents(&image.dir());
    let first = recover(image.options()).unwrap();
    let second = recover(image.options()).unwrap();
    assert_eq!(first.0, second.0);
    assert_eq!(first.1.shards, second.1.shards);
    assert_eq!(crate::support::contents(&image.dir()), before);
}

/// Defect 17, 23: what follows a torn tail is readable, and the tail never comes back.
#[test]
fn appends_behind_a_torn_tail_go_to_a_new_segment_and_the_tail_stays_dead() {
    let segment =
        Segment::new(0, 1).put(&batch(1)).lose(&batch(2)).put(&batch(3)).put(&batch(4).epoch(2));
    let image = Image::of_one(std::slice::from_ref(&segment));
    let (log, mut writer) = open_one(image.options());
    let stamp = append(&log, &mut writer, "new");
    assert!(stamp.seq > Seq(4), "seqs go on above those seen behind the hole");
    assert!(stamp.epoch > Epoch(2), "and so do epochs");
    writer.wait(stamp).unwrap();
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(image.options()), ["entry 1", "new"]);
    let kept = std::fs::read(segment_path(&image.dir(), 0, 1)).unwrap();
    assert_eq!(kept, segment.bytes, "nothing is cut in place");
    // Also when the hole fills up afterwards.
    image.save(&Segment::new(0, 1).put(&batch(1)).put(&batch(2)).put(&batch(3)));
    assert_eq!(recovered(image.options()), ["entry 1", "new"]);
    drop(open(image.options()));
    assert_eq!(recovered(image.options()), ["entry 1", "new"]);
}

#[test]
fn an_open_without_appends_changes_nothing_in_the_stream() {
    let segment = Segment::new(0, 1).put(&batch(1)).tear(&batch(2));
    let image = Image::of_one(&[segment]);
    for incarnation in 2..6 {
        let log = open(image.options());
        assert_eq!(log.incarnation(), Incarnation(incarnation));
        drop(log);
        assert_eq!(recovered(image.options()), entries(&[1]));
    }
}

/// Defect 26: a batch that claims more than its segment, or its file, can hold.
#[test]
fn lengths_beyond_the_segment_are_torn_and_take_no_memory() {
    let segment = Segment::new(0, 1).put(&batch(1)).put_changed(&batch(2), |bytes| {
        let header = corewal_format::BatchHeader::decode_anywhere(LOG, bytes).unwrap();
        let body_len = u32::MAX - 15;
        corewal_format::BatchHeader { body_len, ..header }.encode(LOG, bytes);
    });
    assert_eq!(recovered(Image::of_one(&[segment]).options()), entries(&[1]));
    let last = Segment::new(0, 1);
    let room = usize::try_from(SEGMENT - FIRST).unwrap() - 128;
    let full = last.put(&batch(1).payload(vec![b'x'; room]));
    let items = recover(Image::of_one(&[full]).options()).unwrap().0;
    assert_eq!(items[0].bytes.len(), room);
}

/// Defect 22: batches of an older life of a file are neither new nor damage.
#[test]
fn batches_of_an_older_life_are_an_end() {
    let older = Segment::of(0, 1, 1).put(&batch(1).promise(0)).put(&batch(2).promise(1));
    let mut recycled = Segment::of(0, 5, 2).put(&batch(9));
    let at = usize::try_from(recycled.at).unwrap();
    recycled.bytes[at..].copy_from_slice(&older.bytes[at..]);
    let record = ShardRecord {
        active: true,
        next_segment: corewal::SegmentNumber(5),
        next_batch: BatchNumber(9),
        next_seq: Seq(9),
        current: Some(corewal_format::CurrentRun {
            first_segment: corewal::SegmentNumber(5),
            first_batch: BatchNumber(9),
            first_seq: Seq(9),
        }),
        ..ShardRecord::new(ShardId(0))
    };
    let manifest = Manifest { incarnation: Incarnation(2), ..manifest(vec![record]) };
    let end = recycled.place(recycled.at);
    let image = Image::new(&manifest, &[recycled]);
    assert_eq!(recovered(image.options()), entries(&[9]));
    assert_eq!(ends(&image), [RunEnd::Clean { at: end }]);
}

/// A log dump as payload: the image of a batch inside a payload is no batch.
#[test]
fn the_image_of_a_batch_inside_a_payload_is_no_batch() {
    let inner = Segment::new(0, 1).put(&batch(1)).put(&batch(2)).put(&batch(7).promise(6));
    // Behind the headers, so that its images stand at the starts of blocks.
    let mut payload = vec![0; 512 - 128];
    payload.extend_from_slice(&inner.bytes[1024..2560]);
    let torn = Segment::new(0, 1).tear(&batch(1).payload(payload));
    assert_eq!(recovered(Image::of_one(&[torn]).options()), entries(&[]));
}

#[test]
fn a_misdirected_batch_is_none() {
    let twin = Segment::new(0, 1).put(&batch(1)).put(&batch(2)).put(&batch(3).promise(2));
    let mut segment = Segment::new(0, 1).put(&batch(1));
    // Batch 3 with its promise landed one block too early.
    segment.bytes[1536..2048].copy_from_slice(&twin.bytes[2048..2560]);
    assert_eq!(recovered(Image::of_one(&[segment]).options()), entries(&[1]));
}

/// The engine never seals one, so no power cut leaves one: a defect or a later program wrote it.
#[test]
fn a_batch_that_goes_back_is_refused() {
    let refused_by = |segments: &[Segment], at, batch, what| {
        let damage = refused(Image::of_one(segments).options());
        assert_eq!((damage.at, damage.witness), (at, None), "{damage}");
        assert_eq!(damage.reason, Reason::Order { batch: BatchNumber(batch), what });
    };
    let seq = Segment::new(0, 1).put(&batch(1)).put(&batch(2)).put(&batch(3).seq(2));
    let at = seq.place(2048);
    refused_by(&[seq], at, 3, "seq");
    let epoch = Segment::new(0, 1).put(&batch(1).epoch(5)).put(&batch(2).epoch(4));
    let at = epoch.place(1536);
    refused_by(&[epoch], at, 2, "epoch");
    let first = Segment::new(0, 1).put(&batch(1)).put(&batch(2));
    let second = Segment::new(0, 2).put(&batch(3).seq(2));
    let at = second.place(FIRST);
    refused_by(&[first, second], at, 3, "seq");
}

/// Its header says so, whatever became of its body.
#[test]
fn a_torn_batch_that_goes_back_is_refused() {
    let back = Segment::new(0, 1).put(&batch(1)).put(&batch(2)).tear(&batch(3).seq(2));
    let damage = refused(Image::of_one(&[back]).options());
    assert!(matches!(damage.reason, Reason::Order { what: "seq", .. }), "{damage}");
}
