//! Ended runs and their ends. Pure: knows no file.

use corewal_format::{CurrentRun, Epoch, Incarnation, Run};

use crate::recovery::facts::LastBatch;

/// A run with its exact end.
pub(crate) fn end_run(
    current: CurrentRun,
    last: LastBatch,
    incarnation: Incarnation,
    first_epoch: Epoch,
) -> Run {
    Run {
        first_segment: current.first_segment,
        last_segment: last.segment,
        first_batch: current.first_batch,
        last_batch: last.number,
        last_batch_at: last.at,
        first_seq: current.first_seq,
        last_kept_seq: last.last_seq,
        incarnation,
        first_epoch,
        voids: Vec::new(),
    }
}

/// The end of a run; its epoch is at least the one named.
pub(crate) fn last_of(run: &Run) -> LastBatch {
    LastBatch {
        number: run.last_batch,
        segment: run.last_segment,
        at: run.last_batch_at,
        last_seq: run.last_kept_seq,
        epoch: run.first_epoch,
    }
}

/// Keeps of a shard's ended runs what stands up to `last`, a whole batch of one of them, and nothing above its
/// seq. Later runs are dropped; nothing at all is kept without a last batch.
pub(crate) fn lower(runs: &mut Vec<Run>, last: Option<LastBatch>) {
    let Some(last) = last else { return runs.clear() };
    runs.retain(|run| run.first_batch <= last.number);
    let Some(run) = runs.last_mut() else { return };
    assert!(last.number <= run.last_batch, "the last batch stands in a run");
    run.last_segment = last.segment;
    run.last_batch = last.number;
    run.last_batch_at = last.at;
    run.last_kept_seq = last.last_seq;
    run.voids.retain(|void| void.last_batch < last.number);
}

#[cfg(test)]
mod tests {
    use corewal_format::{BatchNumber, SegmentNumber, Seq, Void, VoidCause};

    use super::*;

    /// Batch `n` is the only one of segment `n` and has the seqs from `10 n` to `10 n + 9`.
    fn last(batch: u64) -> LastBatch {
        LastBatch {
            number: BatchNumber(batch),
            segment: SegmentNumber(batch),
            at: 8192,
            last_seq: Seq(10 * batch + 9),
            epoch: Epoch(1),
        }
    }

    fn run(first: u64, end: u64) -> Run {
        let current = CurrentRun {
            first_segment: SegmentNumber(first),
            first_batch: BatchNumber(first),
            first_seq: Seq(10 * first),
        };
        end_run(current, last(end), Incarnation(first), Epoch(first))
    }

    #[test]
    fn every_end_keeps_exactly_what_stands_up_to_it() {
        let all = vec![run(1, 3), run(4, 4), run(6, 8)];
        for end in [1, 2, 3, 4, 6, 7, 8] {
            let mut kept = all.clone();
            lower(&mut kept, Some(last(end)));
            let batches = |runs: &[Run]| -> Vec<u64> {
                runs.iter().flat_map(|run| run.first_batch.0..=run.last_batch.0).collect()
            };
            let expected: Vec<u64> =
                batches(&all).into_iter().filter(|&batch| batch <= end).collect();
            assert_eq!(batches(&kept), expected);
            let lowered = kept.last().expect("the batch is kept");
            assert_eq!(lowered.last_kept_seq, last(end).last_seq);
            assert_eq!(lowered.last_segment, last(end).segment);
        }
        let mut kept = all;
        lower(&mut kept, None);
        assert!(kept.is_empty());
    }

    #[test]
    fn a_void_range_behind_the_end_goes_with_it() {
        let void = Void {
            from_segment: SegmentNumber(2),
            from_at: 8192,
            to_segment: SegmentNumber(3),
            to_at: 8192,
            first_batch: BatchNumber(2),
            last_batch: BatchNumber(2),
            first_seq: Seq(20),
            last_seq: Seq(29),
            cause: VoidCause::Salvaged,
        };
        for (end, count) in [(1, 0), (3, 1), (4, 1)] {
            let mut runs = vec![Run { voids: vec![void], ..run(1, 4) }];
            lower(&mut runs, Some(last(end)));
            assert_eq!(runs[0].voids.len(), count, "end {end}");
        }
    }
}
