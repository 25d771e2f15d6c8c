//! Judging: whether what does not verify had been acknowledged. Pure functions over gathered facts.

use corewal_format::{BatchFault, BatchNumber, BodyFault, Epoch, Generation, ShardRecord};

use crate::error::{Claim, Damage, Reason, Source, Witness};
use crate::recovery::facts::RunFacts;

/// What holds for all shards together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The committed epoch of the manifest: what was in it then is bounded by ended runs.
    pub(crate) manifest_committed: Epoch,
    /// The furthest committed epoch that any batch of a current run speaks of.
    pub(crate) committed: Option<(Epoch, Source)>,
    pub(crate) generation: Generation,
}

/// How a current run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing was written behind it.
    Clean,
    /// Something was written behind it that was never acknowledged, as far as any promise tells.
    Torn,
}

/// Whether the first place that does not verify ends the run, or is damage.
pub(crate) fn judge(
    facts: &RunFacts,
    record: &ShardRecord,
    claims: &Claims,
) -> Result<Ending, Box<Damage>> {
    if let Some(damage) = &facts.damage {
        return Err(Box::new(damage.clone()));
    }
    let refuse =
        |witness| Err(Box::new(Damage { at: facts.stop, reason: facts.reason.clone(), witness }));
    if let Some(witness) = accuser(facts, record, claims) {
        return refuse(Some(witness));
    }
    match &facts.reason {
        Reason::Batch { fault: BatchFault::Zero | BatchFault::OlderLife { .. }, .. } => {
            Ok(if facts.torn_len == 0 { Ending::Clean } else { Ending::Torn })
        }
        // Every segment of a current run may be absent, and so may be the last one's header.
        Reason::SegmentMissing | Reason::SegmentHeader(_) => Ok(Ending::Clean),
        // Behind a checksum that holds: no power cut makes that, but a defect or a later version of this program.
        Reason::Batch { fault: BatchFault::Impossible(_), .. }
        | Reason::Body { fault: BodyFault::Impossible { .. }, .. }
        | Reason::Order { .. } => refuse(None),
        Reason::Unreadable(_)
        | Reason::SegmentLen { .. }
        | Reason::OtherLog(_)
        | Reason::OtherSegment(..)
        | Reason::LaterIncarnation { .. }
        | Reason::OtherIncarnation { .. } => refuse(None),
        Reason::Batch { .. } | Reason::OtherBatch { .. } | Reason::Body { .. } => Ok(Ending::Torn),
    }
}

/// A promise that covers the first place that does not verify.
fn accuser(facts: &RunFacts, record: &ShardRecord, claims: &Claims) -> Option<Witness> {
    let covers = |batch: BatchNumber| batch >= facts.expected;
    if let Some((batch, source)) = facts.durable
        && covers(batch)
    {
        return Some(Witness { claim: Claim::Durable(batch), source });
    }
    if covers(record.durable_batch) {
        let source = Source::Manifest(claims.generation);
        return Some(Witness { claim: Claim::Durable(record.durable_batch), source });
    }
    let barrier = facts.barrier.max(record.barrier);
    match claims.committed {
        Some((epoch, source)) if epoch > claims.manifest_committed && epoch > barrier => {
            Some(Witness { claim: Claim::Committed(epoch), source })
        }
        _ => None,
    }
}

/// The committed epoch: that of the manifest, or the last that every active shard closed durably in this
/// incarnation. `barriers` are the active shards' last durable ones.
pub(crate) fn committed(manifest: Epoch, barriers: impl Iterator<Item = Epoch>) -> Epoch {
    manifest.max(barriers.min().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use corewal_format::{Place, SegmentNumber, ShardId};

    use super::*;
    use crate::recovery::facts::Seen;

    const AT: Place = Place { shard: ShardId(0), segment: SegmentNumber(1), at: 8192 };

    fn source() -> Source {
        Source::Batch { number: BatchNumber(9), at: AT }
    }

    fn reasons() -> Vec<Reason> {
        let expected = BatchNumber(3);
        let found = BatchNumber(7);
        let segment = SegmentNumber(1);
        let incarnation = corewal_format::Incarnation(1);
        vec![
            Reason::Batch { expected, fault: BatchFault::Zero },
            Reason::Batch { expected, fault: BatchFault::OlderLife { segment, incarnation } },
            Reason::Batch { expected, fault: BatchFault::Checksum },
            Reason::Batch { expected, fault: BatchFault::Magic },
            Reason::OtherBatch { expected, found },
            Reason::Body { batch: expected, fault: BodyFault::Body },
            Reason::Batch { expected, fault: BatchFault::Impossible("flags") },
            Reason::Body {
                batch: expected,
                fault: BodyFault::Impossible { index: 0, what: "kind" },
            },
            Reason::Order { batch: expected, what: "seq" },
            Reason::Order { batch: expected, what: "epoch" },
            Reason::SegmentMissing,
            Reason::Unreadable("EIO".into()),
        ]
    }

    /// What no power cut leaves, whatever is promised.
    fn is_never_torn(reason: &Reason) -> bool {
        let text = reason.to_string();
        ["impossible", "goes back", "cannot be read"].iter().any(|it| text.contains(it))
    }

    /// Every combination of the inputs, against the rule said in another way.
    #[test]
    fn a_place_is_damage_exactly_if_a_promise_covers_it_or_no_power_cut_makes_it() {
        let mut cases = 0;
        for reason in reasons() {
            for durable in [None, Some(2), Some(3), Some(4)] {
                for manifest_durable in [0, 2, 3] {
                    for claimed in [None, Some(1), Some(2), Some(3)] {
                        for barrier in [0, 1, 2] {
                            for manifest_committed in [0, 1, 2, 3] {
                                let verdict = verdict(
                                    &reason,
                                    durable,
                                    manifest_durable,
                                    claimed,
                                    barrier,
                                    manifest_committed,
                                );
                                let batch_promised =
                                    durable.is_some_and(|it| it >= 3) || manifest_durable >= 3;
                                let epoch_promised = claimed
                                    .is_some_and(|it| it > manifest_committed && it > barrier);
                                assert_eq!(
                                    verdict.is_err(),
                                    batch_promised || epoch_promised || is_never_torn(&reason),
                                    "{reason:?} {durable:?} {manifest_durable} {claimed:?} {barrier}"
                                );
                                if let Err(damage) = verdict {
                                    assert_eq!(
                                        damage.witness.is_some(),
                                        batch_promised || epoch_promised
                                    );
                                }
                                cases += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(cases, 12 * 4 * 3 * 4 * 3 * 4);
    }

    fn verdict(
        reason: &Reason,
        durable: Option<u64>,
        manifest_durable: u64,
        claimed: Option<u64>,
        barrier: u64,
        manifest_committed: u64,
    ) -> Result<Ending, Box<Damage>> {
        let facts = RunFacts {
            shard: ShardId(0),
            last: None,
            expected: BatchNumber(3),
            stop: AT,
            reason: reason.clone(),
            barrier: Epoch(barrier),
            durable: durable.map(|batch| (BatchNumber(batch), source())),
            committed: None,
            seen: Seen::default(),
            torn_len: 0,
            damage: None,
            from_device: true,
        };
        let record = ShardRecord {
            durable_batch: BatchNumber(manifest_durable),
            ..ShardRecord::new(ShardId(0))
        };
        let claims = Claims {
            manifest_committed: Epoch(manifest_committed),
            committed: claimed.map(|epoch| (Epoch(epoch), source())),
            generation: Generation(2),
        };
        judge(&facts, &record, &claims)
    }

    #[test]
    fn the_committed_epoch_is_the_least_barrier_and_never_goes_back() {
        let committed = |manifest, barriers: &[u64]| {
            committed(Epoch(manifest), barriers.iter().map(|&it| Epoch(it))).0
        };
        assert_eq!(committed(0, &[3, 2, 5]), 2);
        assert_eq!(committed(4, &[3, 2, 5]), 4);
        assert_eq!(committed(4, &[0, 9]), 4);
        assert_eq!(committed(4, &[]), 4);
    }
}
