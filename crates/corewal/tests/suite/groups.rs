//! Atomic groups: batches of entries, and transactions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use corewal::{
    AppendError, EncodeError, Engine, Kind, Log, Options, Preparing, Record, Seq, ShardWriter,
};
use corewal_disk::Disk;
use corewal_disk::sim::{Cut, Fate, PendingUnit, SimDisk, Tear, UnitKind};
use rkyv::rancor::Fallible;
use rkyv::{Archive, Place, Serialize};

use crate::support::{
    append, commit, open_one, persist, recover, recovered, temp_dir, texts, tiny,
};

fn puts<'a>(texts: &'a [&'a str]) -> impl Iterator<Item = (Kind, &'a [u8])> + Clone {
    texts.iter().map(|text| (Kind::PUT, text.as_bytes()))
}

/// Each entry's text, and whether its group goes on behind it.
fn groups(options: Options) -> Vec<(String, bool)> {
    let mut recovery = Log::recover(options).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = recovery.next_entry().unwrap() {
        if entry.kind() != Kind::BARRIER {
            let text = String::from_utf8(entry.bytes().to_vec()).unwrap();
            found.push((text, entry.group_continues()));
        }
    }
    found
}

fn owned(items: &[(&str, bool)]) -> Vec<(String, bool)> {
    items.iter().map(|(text, goes_on)| ((*text).to_owned(), *goes_on)).collect()
}

#[test]
fn groups_share_a_batch_with_what_is_around_them_and_are_marked() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let before = append(&log, &mut writer, "a");
    let batch = writer.append_batch_bytes(puts(&["b1", "b2", ""])).unwrap();
    let mut transaction = writer.begin();
    transaction.append_bytes(Kind::PUT, b"t1").unwrap();
    let between = append(&log, &mut writer, "c");
    transaction.append_bytes(Kind::DELETE, b"t2").unwrap();
    let committed = writer.commit(&mut transaction).unwrap();
    assert!(transaction.is_empty());
    let alone = writer.append_batch_bytes(puts(&["d"])).unwrap();
    writer.wait(alone.last()).unwrap();

    assert_eq!(batch.first().seq, before.seq.next());
    assert_eq!(batch.stamps().count(), 3);
    assert_eq!(batch.last().seq.next(), between.seq);
    assert_eq!(committed.first().seq, between.seq.next(), "stamped at its commit");
    assert_eq!(alone.first(), alone.last());
    let stats = writer.stats();
    assert_eq!((stats.batches, stats.entries, stats.groups), (1, 8, 3));
    assert_eq!(
        stats.recopied_bytes, 64,
        "the transaction's two entries, and nothing of the others"
    );
    writer.close().unwrap();
    log.close().unwrap();
    let expected = [
        ("a", false),
        ("b1", true),
        ("b2", true),
        ("", false),
        ("c", false),
        ("t1", true),
        ("t2", false),
        ("d", false),
    ];
    assert_eq!(groups(tiny(dir.path())), owned(&expected));
}

#[test]
fn what_is_aborted_or_dropped_leaves_nothing() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let first = append(&log, &mut writer, "a");
    let mut transaction = writer.begin();
    transaction.append_bytes(Kind::PUT, b"aborted").unwrap();
    transaction.abort();
    assert!(matches!(writer.commit(&mut transaction), Err(AppendError::EmptyGroup)));
    transaction.append_bytes(Kind::PUT, b"b").unwrap();
    let group = writer.commit(&mut transaction).unwrap();
    assert_eq!(group.first().seq, first.seq.next(), "no seq is spent");
    transaction.append_bytes(Kind::PUT, &[7; 3000]).unwrap();
    drop(transaction);
    let last = commit(&log, &mut writer, "c");
    assert_eq!(last.seq, group.last().seq.next());
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(groups(tiny(dir.path())), owned(&[("a", false), ("b", false), ("c", false)]));
}

/// Whatever ends a group early, in place or in its own buffer: the entries before it go too.
#[test]
fn a_group_that_fails_leaves_no_trace() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let first = append(&log, &mut writer, "a");
    let large = vec![7; 4097];
    let some = vec![7; 900];
    let bad: [Vec<(Kind, &[u8])>; 6] = [
        vec![],
        vec![(Kind::PUT, b"x"), (Kind::BARRIER, b"")],
        vec![(Kind::PUT, b"x"), (Kind::PUT, &large)],
        vec![(Kind::PUT, &some), (Kind::PUT, &some), (Kind::PUT, &large)],
        vec![(Kind::PUT, &some), (Kind::PUT, &some), (Kind(9), b"")],
        vec![(Kind::PUT, &some); 7],
    ];
    for items in bad {
        let error = writer.append_batch_bytes(items.iter().copied()).unwrap_err();
        assert!(!matches!(error, AppendError::Full), "{error}");
    }
    let group = writer.append_batch_bytes(puts(&["b", "c"])).unwrap();
    assert_eq!(group.first().seq, first.seq.next(), "no seq is spent");
    writer.wait(group.last()).unwrap();
    assert_eq!(writer.stats().entries, 3);
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(tiny(dir.path())), ["a", "b", "c"]);
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_can_be_committed() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut transaction = writer.begin();
    // 112 bytes of header, then 16 and 976 for each: 80 are left of the largest batch.
    for _ in 0..6 {
        transaction.append_bytes(Kind::PUT, &[b'x'; 976]).unwrap();
    }
    assert_eq!(transaction.batch_len(), 6064);
    let error = transaction.append_bytes(Kind::PUT, &[b'x'; 65]).unwrap_err();
    assert!(matches!(error, AppendError::GroupTooLarge { len: 6160, max: 6144 }), "{error}");
    transaction.append_bytes(Kind::PUT, &[b'y'; 64]).unwrap();
    let error = transaction.append_bytes(Kind::PUT, b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a group of 6160 bytes is above the limit of 6144 bytes for a batch"
    );
    assert_eq!(transaction.len(), 7);
    let group = persist(&log, &mut writer, |writer| writer.commit(&mut transaction)).unwrap();
    writer.wait(group.last()).unwrap();
    assert_eq!(writer.stats().batches, 1, "however large, it is one batch");
    writer.close().unwrap();
    log.close().unwrap();
    let (items, _) = recover(tiny(dir.path())).unwrap();
    assert_eq!(items.len(), 7);
    assert!(items[..6].iter().all(|item| item.bytes == [b'x'; 976]));
    assert_eq!(items[6].bytes, [b'y'; 64]);
}

/// Groups of every size from one that fits anywhere to the largest, at every place of a block and a segment.
#[test]
fn groups_of_every_size_come_back_whole_wherever_they_stand() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut expected = Vec::new();
    let mut transaction = writer.begin();
    for size in 0..60 {
        let count = size % 7 + 1;
        let texts: Vec<String> =
            (0..count).map(|index| "z".repeat((size * 97 + index) % 860)).collect();
        let items = || texts.iter().map(|text| (Kind::PUT, text.as_bytes()));
        let group = if size % 2 == 0 {
            persist(&log, &mut writer, |writer| writer.append_batch_bytes(items())).unwrap()
        } else {
            items().for_each(|(kind, bytes)| transaction.append_bytes(kind, bytes).unwrap());
            persist(&log, &mut writer, |writer| writer.commit(&mut transaction)).unwrap()
        };
        assert_eq!(group.stamps().count(), count);
        for (index, (stamp, text)) in group.stamps().zip(&texts).enumerate() {
            expected.push((stamp, text.clone(), index + 1 < count));
        }
        if size % 5 == 0 {
            expected.push((append(&log, &mut writer, "single"), "single".into(), false));
        }
    }
    writer.sync().unwrap();
    drop((writer, log));
    let mut recovery = Log::recover(tiny(dir.path())).unwrap();
    for (stamp, text, goes_on) in expected {
        let entry = recovery.next_entry().unwrap().unwrap();
        assert_eq!((entry.stamp(), entry.bytes()), (stamp, text.as_bytes()));
        assert_eq!(entry.group_continues(), goes_on);
    }
    assert!(recovery.next_entry().unwrap().is_none());
}

#[test]
fn a_transaction_belongs_to_the_epoch_of_its_commit() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut transaction = writer.begin();
    transaction.append_bytes(Kind::PUT, b"1").unwrap();
    let closed = writer.close_epoch().unwrap();
    transaction.append_bytes(Kind::PUT, b"2").unwrap();
    let group = writer.commit(&mut transaction).unwrap();
    assert!(group.stamps().all(|stamp| stamp.epoch == closed.next()));
    writer.close_epoch().unwrap();
    writer.sync().unwrap();
    drop((writer, log));
    let (items, _) = recover(tiny(dir.path())).unwrap();
    assert_eq!(texts(&items), ["|", "1", "2", "|"]);
    assert_eq!(items[1].stamp.epoch, items[2].stamp.epoch);
}

fn on_sim(disk: &Arc<SimDisk>) -> Options {
    Options::new("/log")
        .disk(disk.clone())
        .preparing(Preparing::Manual)
        .segment_len(4 << 20)
        .max_batch(2 << 20)
        .max_record(1 << 20)
}

fn large_group(writer: &mut ShardWriter) -> corewal::Group {
    let mut transaction = writer.begin();
    for index in 0..5_u8 {
        transaction.append_bytes(Kind::PUT, &vec![index; 300 << 10]).unwrap();
    }
    writer.commit(&mut transaction).unwrap()
}

/// A batch of several writes: while it is in flight, every subset of their pieces may be on the disk.
#[test]
fn a_large_transaction_is_whole_or_absent_after_every_power_cut() {
    let (mut cuts, mut whole) = (0, 0);
    for seed in 0..4 {
        let disk = Arc::new(SimDisk::new(seed));
        let mut log = Log::recover(on_sim(&disk)).unwrap().open().unwrap();
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        while log.prepare() {}
        let before = writer.append_bytes(Kind::PUT, b"before").unwrap();
        writer.wait(before).unwrap();
        let group = large_group(&mut writer);
        let behind = writer.append_bytes(Kind::PUT, b"behind").unwrap();
        let mut is_done = false;
        while !is_done {
            writer.turn().unwrap();
            is_done = writer.frontier() >= behind.seq;
            let acknowledged = writer.frontier();
            let pieces = pieces_of(&disk);
            for cut in cuts_of(&pieces) {
                let after = Arc::new(disk.fork().power_cut(&cut));
                let (items, _) = recover(on_sim(&after)).unwrap();
                let found = items.iter().filter(|item| item.bytes.len() == 300 << 10).count();
                assert!(found == 0 || found == 5, "{found} of 5 after {cut:?}");
                assert!(found == 5 || acknowledged < group.last().seq, "it was acknowledged");
                assert!(items.len() <= 1 || found == 5, "what stands behind it came back alone");
                cuts += 1;
                whole += usize::from(found == 5);
            }
            if !is_done {
                writer.sleep(None).unwrap();
            }
        }
        drop((writer, log));
    }
    assert!(cuts > 100 && whole > 10 && whole < cuts, "{cuts} cuts, {whole} with the whole group");
}

/// What is written and not durable.
fn pieces_of(disk: &SimDisk) -> Vec<PendingUnit> {
    let is_data = |unit: &PendingUnit| unit.matters && matches!(unit.kind, UnitKind::Data { .. });
    disk.pending_units().into_iter().filter(is_data).collect()
}

/// Every subset of the pieces, torn ones, and drawn ones.
fn cuts_of(pieces: &[PendingUnit]) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = (0..8).map(Cut::random).collect();
    cuts.extend([Cut::lose_all(), Cut::keep_all()]);
    for subset in 0_u32..1 << pieces.len() {
        let mut cut = Cut::lose_all();
        for (index, unit) in pieces.iter().enumerate() {
            if subset >> index & 1 == 1 {
                cut = cut.with(unit.id, Fate::Kept);
            }
        }
        cuts.push(cut);
    }
    for unit in pieces {
        // By single sectors, and by the 512 KiB of one write.
        let counts = [1, 1024, 2048];
        let tears = counts.iter().flat_map(|&count| [Tear::First(count), Tear::AllBut(count)]);
        let masks = [Tear::Mask(!1), Tear::Mask(!(1 << 63))];
        cuts.extend(tears.chain(masks).map(|tear| Cut::keep_all().with(unit.id, Fate::Torn(tear))));
    }
    cuts
}

/// A transaction that waits for room waits with all that it has.
#[test]
fn a_full_writer_refuses_a_transaction_and_takes_it_later() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(3));
    let options = || tiny("/log".as_ref()).disk(disk.clone());
    let (log, mut writer) = open_one(options());
    let mut transaction = writer.begin();
    for _ in 0..3 {
        transaction.append_bytes(Kind::PUT, &[b'x'; 1000]).unwrap();
    }
    let mut refused = 0;
    let group = loop {
        match writer.commit(&mut transaction) {
            Ok(group) => break group,
            Err(AppendError::Full) => {
                refused += 1;
                assert_eq!(transaction.len(), 3);
                log.prepare();
                writer.turn().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(refused > 0, "the first segment is too short for it");
    writer.wait(group.last()).unwrap();
    assert_eq!(group.first().seq, Seq(1));
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(options()).len(), 3);
}

/// Every kind that a user may append comes back as it was, also without a payload; no other is taken.
#[test]
fn every_kind_of_a_user_comes_back_also_when_it_is_empty() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let kinds = [Kind::PUT, Kind::DELETE, Kind::COMMIT, Kind::CHECKPOINT, Kind::FIRST_USER];
    let kinds: Vec<Kind> = kinds.into_iter().chain([Kind(u16::MAX)]).collect();
    for &kind in &kinds {
        writer.append_bytes(kind, b"").unwrap();
        writer.append_bytes(kind, b"some").unwrap();
    }
    for kind in [Kind(0), Kind::BARRIER, Kind(6), Kind(Kind::FIRST_USER.0 - 1)] {
        assert!(matches!(writer.append_bytes(kind, b""), Err(AppendError::Kind(it)) if it == kind));
        let error = writer.begin().append_bytes(kind, b"").unwrap_err();
        assert!(matches!(error, AppendError::Kind(it) if it == kind));
    }
    writer.close().unwrap();
    log.close().unwrap();
    let (items, _) = recover(tiny(dir.path())).unwrap();
    let found: Vec<(Kind, &[u8])> = items.iter().map(|it| (it.kind, &it.bytes[..])).collect();
    let expected: Vec<(Kind, &[u8])> =
        kinds.iter().flat_map(|&kind| [(kind, &b""[..]), (kind, &b"some"[..])]).collect();
    assert_eq!(found, expected);
}

/// A record whose serializer panics on demand, behind a part of what it writes.
struct Fragile {
    panics: bool,
}

impl Archive for Fragile {
    type Archived = rkyv::Archived<[u64; 100]>;
    type Resolver = <[u64; 100] as Archive>::Resolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        [7_u64; 100].resolve(resolver, out);
    }
}

impl<S: Fallible<Error = EncodeError> + rkyv::ser::Writer + ?Sized> Serialize<S> for Fragile {
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, EncodeError> {
        assert!(!self.panics, "a bug of the program");
        [7_u64; 100].serialize(serializer)
    }
}

impl Record for Fragile {}

/// Defect 40, for groups. The program panics in the middle of one, in its iterator or in a serializer: in the first entries, which
/// stand in the open batch, and in later ones, when the group has a buffer of its own.
#[test]
fn a_group_that_panics_leaves_no_trace() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut last = append(&log, &mut writer, "before");
    let mut expected = vec![("before".to_owned(), false)];
    for at in 1..5_usize {
        let items: Vec<Fragile> = (0..5).map(|index| Fragile { panics: index == at }).collect();
        let panicked = catch_unwind(AssertUnwindSafe(|| writer.append_batch(&items)));
        assert!(panicked.is_err(), "the serializer");
        let fails = |index| assert!(index != at, "a bug of the program");
        let items = (0..5).inspect(|&index| fails(index)).map(|_| (Kind::PUT, &[b'x'; 800][..]));
        let panicked = catch_unwind(AssertUnwindSafe(|| writer.append_batch_bytes(items)));
        assert!(panicked.is_err(), "the iterator");
        let group = writer.append_batch_bytes(puts(&["a", "b"])).unwrap();
        assert_eq!(group.first().seq, last.seq.next(), "no seq is spent");
        last = group.last();
        expected.extend(owned(&[("a", true), ("b", false)]));
        if at % 2 == 0 {
            writer.wait(last).unwrap();
        }
    }
    writer.wait(last).unwrap();
    drop((writer, log));
    assert_eq!(groups(tiny(dir.path())), expected);
}

/// The same for a transaction, which is then as it was before.
#[test]
fn a_record_that_panics_leaves_a_transaction_as_it_was() {
    let dir = temp_dir();
    let (log, mut writer) = open_one(tiny(dir.path()));
    let mut transaction = writer.begin();
    transaction.append_bytes(Kind::PUT, b"a").unwrap();
    for len in [10, 4096] {
        let add = || transaction.append_with(Kind::PUT, len, |_| panic!("a bug of the program"));
        assert!(catch_unwind(AssertUnwindSafe(add)).is_err());
        let add = || transaction.append(&Fragile { panics: true });
        assert!(catch_unwind(AssertUnwindSafe(add)).is_err());
    }
    transaction.append_bytes(Kind::PUT, b"b").unwrap();
    let group = writer.commit(&mut transaction).unwrap();
    writer.wait(group.last()).unwrap();
    drop((writer, log));
    assert_eq!(groups(tiny(dir.path())), owned(&[("a", true), ("b", false)]));
}

/// A transaction belongs to no log: whoever commits it asks for its own limits, and writes its own blocks.
#[test]
fn a_transaction_of_a_log_with_other_options_is_committed_or_refused() {
    let (here, there) = (temp_dir(), temp_dir());
    let options = Options::new(there.path())
        .engine(Engine::Blocking)
        .segment_len(64 << 10)
        .first_segment_len(64 << 10)
        .write_len(4096)
        .max_batch(12 << 10)
        .max_record(2000)
        .vouch_after(Duration::from_secs(3600))
        .lock_patience(Duration::ZERO);
    let (log, mut writer) = open_one(options.clone());
    let (_other_log, other) = open_one(tiny(here.path()));

    // 5984 bytes: whole blocks of 512 are one and a half of 4096.
    let mut transaction = other.begin();
    for _ in 0..6 {
        transaction.append_bytes(Kind::PUT, &[b'x'; 960]).unwrap();
    }
    let group = writer.commit(&mut transaction).unwrap();
    writer.wait(group.last()).unwrap();
    transaction.append_bytes(Kind::PUT, b"small").unwrap();
    let group = writer.commit(&mut transaction).unwrap();
    writer.wait(group.last()).unwrap();

    transaction.append_bytes(Kind::PUT, &[b'y'; 2001]).unwrap();
    let error = writer.commit(&mut transaction).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { len: 2001, max: 2000 }), "{error}");
    assert_eq!(transaction.len(), 1);
    writer.close().unwrap();
    log.close().unwrap();
    let (items, _) = recover(options).unwrap();
    assert_eq!(items.len(), 7);
    assert!(items[..6].iter().all(|item| item.bytes == [b'x'; 960]));
    assert_eq!(items[6].bytes, b"small");
}
