//! Each promise, broken once: the ledger says which.

use corewal::{Epoch, Incarnation, Kind, Seq, ShardId, Stamp};
use corewal_harness::{Item, Ledger, Recovered, Violation};

const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);

fn stamp(epoch: u64, seq: u64, shard: ShardId) -> Stamp {
    Stamp { epoch: Epoch(epoch), seq: Seq(seq), shard }
}

fn item(stamp: Stamp) -> Item {
    Item { stamp, kind: Kind::PUT, payload: payload(stamp).into(), continues: false }
}

fn barrier(stamp: Stamp) -> Item {
    Item { stamp, kind: Kind::BARRIER, payload: [].into(), continues: false }
}

fn payload(stamp: Stamp) -> Vec<u8> {
    stamp.to_string().into_bytes()
}

fn recovered(committed: u64, items: &[Item]) -> Recovered {
    let committed = Epoch(committed);
    let committed_count = items.iter().take_while(|it| it.stamp.epoch <= committed).count();
    Recovered { items: items.to_vec(), committed_count, committed, checkpoint: None }
}

/// Two shards; three entries of epoch 1 at 10, 11 and 12, both barriers at 20; one entry of epoch 2 at 30.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.opened(1, Incarnation(1), 2);
    for (at, stamp) in [(10, stamp(1, 1, A)), (11, stamp(1, 2, A)), (12, stamp(1, 1, B))] {
        ledger.appended(at, stamp, Kind::PUT, &payload(stamp));
    }
    ledger.closed_epoch(20, A, Epoch(1));
    ledger.closed_epoch(20, B, Epoch(1));
    ledger.appended(30, stamp(2, 4, A), Kind::PUT, &payload(stamp(2, 4, A)));
    ledger
}

fn everything() -> Vec<Item> {
    vec![
        item(stamp(1, 1, A)),
        item(stamp(1, 1, B)),
        item(stamp(1, 2, A)),
        barrier(stamp(1, 2, B)),
        barrier(stamp(1, 3, A)),
        item(stamp(2, 4, A)),
    ]
}

#[test]
fn whatever_was_not_acknowledged_may_be_lost_from_its_end() {
    let all = everything();
    assert_eq!(ledger().check(&recovered(1, &all), 100), Ok(()));
    assert_eq!(ledger().check(&recovered(0, &[]), 100), Ok(()));
    assert_eq!(ledger().check(&recovered(0, &all[..3]), 100), Ok(()));
}

#[test]
fn an_acknowledged_entry_is_not_lost() {
    let mut ledger = ledger();
    ledger.acknowledged(40, A, Seq(2));
    let first = recovered(0, &[item(stamp(1, 1, A))]);
    assert_eq!(ledger.check(&first, 40), Ok(()));
    let lost = Violation::Lost { stamp: stamp(1, 2, A), acknowledged: Seq(2), at: 40 };
    assert_eq!(ledger.check(&first, 41), Err(lost.clone()));
    let hole = recovered(0, &[item(stamp(1, 1, A)), barrier(stamp(1, 3, A))]);
    assert_eq!(ledger.check(&hole, 41), Err(lost));
}

#[test]
fn nothing_appears_that_was_not_appended() {
    let mut all = everything();
    all[2].payload = [0].into();
    assert!(matches!(ledger().check(&recovered(0, &all), 100), Err(Violation::Foreign { .. })));
    let early = recovered(1, &everything());
    assert!(matches!(ledger().check(&early, 30), Err(Violation::Foreign { .. })));
    let stranger = recovered(0, &[item(stamp(1, 1, ShardId(7)))]);
    assert!(matches!(ledger().check(&stranger, 100), Err(Violation::Foreign { .. })));
}

#[test]
fn each_comes_once_and_in_order() {
    let mut twice = everything();
    twice.insert(0, twice[0].clone());
    assert!(matches!(ledger().check(&recovered(1, &twice), 100), Err(Violation::Order(..))));
    let mut swapped = everything();
    swapped.swap(0, 1);
    assert!(matches!(ledger().check(&recovered(1, &swapped), 100), Err(Violation::Order(..))));
}

#[test]
fn the_committed_epoch_does_not_go_back() {
    let mut ledger = ledger();
    ledger.committed(50, Epoch(1));
    let back = Violation::CommittedBack { found: Epoch(0), reported: Epoch(1) };
    assert_eq!(ledger.check(&recovered(0, &everything()), 51), Err(back));
    assert_eq!(ledger.check(&recovered(0, &everything()), 50), Ok(()));
}

#[test]
fn a_committed_epoch_is_whole_on_every_shard() {
    let without_the_barrier_of_b: Vec<Item> = everything().into_iter().take(3).collect();
    let found = ledger().check(&recovered(1, &without_the_barrier_of_b), 100);
    assert_eq!(found, Err(Violation::CommittedInPart { epoch: Epoch(1), shard: A }));
}

#[test]
fn what_a_recovery_delivered_stays_and_what_it_left_out_is_gone() {
    let mut ledger = ledger();
    let first = recovered(0, &[item(stamp(1, 1, A))]);
    assert_eq!(ledger.recovered(60, &first), Ok(()));
    assert_eq!(ledger.check(&first, 61), Ok(()));
    let forgotten = Violation::Forgotten(stamp(1, 1, A));
    assert_eq!(ledger.check(&recovered(0, &[]), 61), Err(forgotten));
    let revived = recovered(1, &everything());
    assert!(matches!(ledger.check(&revived, 61), Err(Violation::Foreign { .. })));
    assert_eq!(ledger.check(&revived, 60), Ok(()), "before that recovery it may be there");
}

#[test]
fn epochs_and_incarnations_are_given_out_once() {
    let nothing = recovered(0, &[]);
    let mut next = ledger().after(&nothing, 100);
    next.opened(1, Incarnation(2), 2);
    let mut again = next.clone();
    next.appended(1, stamp(3, 9, A), Kind::PUT, b"x");
    assert_eq!(next.check(&nothing, u64::MAX), Ok(()));
    again.appended(1, stamp(2, 9, A), Kind::PUT, b"x");
    let epoch = Violation::EpochAgain { stamp: stamp(2, 9, A), before: Epoch(2) };
    assert_eq!(again.check(&nothing, u64::MAX), Err(epoch));
    let mut same = ledger().after(&nothing, 100);
    same.opened(1, Incarnation(1), 2);
    let incarnation = Violation::IncarnationAgain(Incarnation(1));
    assert_eq!(same.check(&nothing, u64::MAX), Err(incarnation));
}

#[test]
fn a_group_is_recovered_whole_or_not_at_all() {
    let mut ledger = Ledger::new();
    ledger.opened(1, Incarnation(1), 1);
    let (first, second) = (stamp(1, 1, A), stamp(1, 2, A));
    let (one, two) = (payload(first), payload(second));
    ledger.appended_together(2, &[(first, Kind::PUT, &one), (second, Kind::PUT, &two)]);
    let mut half = item(first);
    half.continues = true;
    assert_eq!(ledger.check(&recovered(0, &[]), 9), Ok(()));
    let both = recovered(0, &[half.clone(), item(second)]);
    assert_eq!(ledger.check(&both, 9), Ok(()));
    let found = ledger.check(&recovered(0, &[half]), 9);
    assert_eq!(found, Err(Violation::HalfGroup(first)));
}

/// A call may close an epoch at its end only: whether it had, at a cut in the middle of it, nobody knows.
#[test]
fn an_epoch_that_may_not_have_been_closed_yet_may_be_given_out_again() {
    let mut ledger = ledger();
    ledger.closed_epoch_within(40, 60, A, Epoch(2));
    ledger.closed_epoch_within(40, 60, A, Epoch(3));
    let again = |cut| {
        let mut after = ledger.after(&recovered(0, &[]), cut);
        after.appended(1, stamp(3, 9, A), Kind::PUT, b"again");
        after.check(&recovered(0, &[]), u64::MAX)
    };
    assert_eq!(again(50), Ok(()));
    let before = Epoch(3);
    assert_eq!(again(61), Err(Violation::EpochAgain { stamp: stamp(3, 9, A), before }));
}
