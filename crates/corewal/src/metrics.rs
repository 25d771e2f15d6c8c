//! A log's numbers for the `metrics` facade. Pulled: a writer never calls a recorder.

use std::sync::PoisonError;

use corewal_disk::Engine;
use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{gauge, histogram};

use crate::meter::{Cells, Meter};
use crate::shared::ShardShared;
use crate::stats::ShardStats;
use crate::sync::Mutex;
use crate::{Keeps, Log};

/// Which values of a shard's histograms were published: `[histogram][value]`, by shard.
#[derive(Debug, Default)]
pub(crate) struct Published(Mutex<Vec<[Counts; 4]>>);

type Counts = std::collections::BTreeMap<u64, u64>;

type Counter = (&'static str, Unit, &'static str, fn(&ShardStats) -> u64);

const COUNTERS: [Counter; 15] = [
    ("corewal_entries_total", Unit::Count, "entries appended", |it| it.entries),
    ("corewal_durable_entries_total", Unit::Count, "entries behind the frontier", |it| {
        it.durable_entries
    }),
    ("corewal_payload_bytes_total", Unit::Bytes, "bytes of payloads", |it| it.payload_bytes),
    ("corewal_groups_total", Unit::Count, "atomic groups appended", |it| it.groups),
    ("corewal_recopied_bytes_total", Unit::Bytes, "bytes of groups copied once more", |it| {
        it.recopied_bytes
    }),
    ("corewal_batches_total", Unit::Count, "batches written", |it| it.batches),
    ("corewal_batch_bytes_total", Unit::Bytes, "bytes of batches", |it| it.batch_bytes),
    ("corewal_prepared_bytes_total", Unit::Bytes, "bytes written by preparing", |it| {
        it.prepared_bytes
    }),
    ("corewal_syncs_total", Unit::Count, "syncs apart from writes", |it| it.syncs),
    ("corewal_vouches_total", Unit::Count, "batches that only vouch", |it| it.vouches),
    ("corewal_rotations_total", Unit::Count, "segments begun after the first", |it| it.rotations),
    (
        "corewal_unfilled_segments_total",
        Unit::Count,
        "segments taken before they were filled",
        |it| it.unfilled,
    ),
    ("corewal_recycled_files_total", Unit::Count, "files used again", |it| it.recycled),
    ("corewal_ring_calls_total", Unit::Count, "system calls of the ring", |it| it.ring_calls),
    ("corewal_method_switches_total", Unit::Count, "changes of the sync method", |it| {
        it.method_switches
    }),
];

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
const GAUGES: [Gauge; 6] = [
    ("corewal_in_flight_batches", Unit::Count, "batches that are not durable", |it| {
        it.in_flight as f64
    }),
    ("corewal_max_in_flight_batches", Unit::Count, "the most that ever were", |it| {
        it.max_in_flight as f64
    }),
    ("corewal_durable_lag_entries", Unit::Count, "entries that are not durable", |it| {
        it.durable_lag() as f64
    }),
    ("corewal_unvouched_batches", Unit::Count, "batches whose loss would read as torn", |it| {
        it.unvouched as f64
    }),
    ("corewal_epoch_age_seconds", Unit::Seconds, "age of the open epoch", |it| {
        it.epoch_age.as_secs_f64()
    }),
    ("corewal_write_amplification", Unit::Count, "bytes written for a byte of payload", |it| {
        it.write_amplification().unwrap_or(f64::NAN)
    }),
];

type Gauge = (&'static str, Unit, &'static str, fn(&ShardStats) -> f64);

type Distribution = (&'static str, Unit, &'static str, fn(&Meter) -> &Cells, f64);

const HISTOGRAMS: [Distribution; 4] = [
    (
        "corewal_commit_latency_seconds",
        Unit::Seconds,
        "from sealing a batch until it is durable",
        |it| &it.commit_latency,
        1e-9,
    ),
    (
        "corewal_sync_latency_seconds",
        Unit::Seconds,
        "of syncs apart from writes",
        |it| &it.sync_latency,
        1e-9,
    ),
    ("corewal_batch_len_bytes", Unit::Bytes, "bytes of a batch", |it| &it.batch_len, 1.0),
    ("corewal_batch_entries", Unit::Count, "entries of a batch", |it| &it.batch_entries, 1.0),
];

impl Log {
    /// Hands the log's numbers to the recorder of the `metrics` facade that is installed for the calling thread.
    /// Call it at the pace at which they are wanted; each call tells what is new since the one before. No writer
    /// is held up, and none ever calls a recorder.
    ///
    /// Every metric has the label `log`, the log's id. Those of a shard have the label `shard`:
    ///
    /// | counter | gauge | histogram |
    /// |---|---|---|
    /// | `corewal_entries_total` | `corewal_in_flight_batches` | `corewal_commit_latency_seconds` |
    /// | `corewal_durable_entries_total` | `corewal_max_in_flight_batches` | `corewal_sync_latency_seconds` |
    /// | `corewal_payload_bytes_total` | `corewal_durable_lag_entries` | `corewal_batch_len_bytes` |
    /// | `corewal_groups_total` | `corewal_unvouched_batches` | `corewal_batch_entries` |
    /// | `corewal_recopied_bytes_total` | `corewal_epoch_age_seconds` | |
    /// | `corewal_batches_total` | `corewal_write_amplification` | |
    /// | `corewal_batch_bytes_total` | `corewal_failed`: 1 after a failure | |
    /// | `corewal_prepared_bytes_total` | `corewal_fallback`: 1 if io_uring could not be had | |
    /// | `corewal_syncs_total` | | |
    /// | `corewal_vouches_total` | | |
    /// | `corewal_rotations_total` | | |
    /// | `corewal_unfilled_segments_total` | | |
    /// | `corewal_recycled_files_total` | | |
    /// | `corewal_ring_calls_total` | | |
    /// | `corewal_method_switches_total` | | |
    ///
    /// Of the log as a whole there are two gauges: `corewal_committed_epoch`, and `corewal_keeps_nothing`, which is 1
    /// where the disk is a [`NullDisk`](crate::NullDisk).
    pub fn publish_metrics(&self) {
        describe();
        let log = Label::new("log", self.id().to_string());
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        gauge!("corewal_committed_epoch", vec![log.clone()]).set(self.committed_epoch().0 as f64);
        let keeps_nothing = self.shared.options.disk.keeps() == Keeps::Nothing;
        gauge!("corewal_keeps_nothing", vec![log.clone()]).set(flag(keeps_nothing));
        let failures = self.failures();
        let mut published = self.published.0.lock().unwrap_or_else(PoisonError::into_inner);
        published.resize_with(self.shared.shards.len(), Default::default);
        for (shard, published) in self.shared.shards.iter().zip(published.iter_mut()) {
            let labels = vec![log.clone(), Label::new("shard", shard.shard.to_string())];
            publish(shard, &labels, published);
            let failed = failures.iter().any(|it| it.shard == shard.shard);
            gauge!("corewal_failed", labels).set(flag(failed));
        }
    }
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn publish(shard: &ShardShared, labels: &[Label], published: &mut [Counts; 4]) {
    let stats = shard.stats();
    for (name, _, _, value) in COUNTERS {
        counter!(name, labels.to_vec()).absolute(value(&stats));
    }
    for (name, _, _, value) in GAUGES {
        gauge!(name, labels.to_vec()).set(value(&stats));
    }
    let ring = shard.desk().ring.clone();
    let fallback = ring.is_some_and(|it| it.engine != Engine::Uring && it.fallback.is_some());
    gauge!("corewal_fallback", labels.to_vec()).set(flag(fallback));
    for ((name, _, _, cells, unit), published) in HISTOGRAMS.iter().zip(published) {
        let histogram = histogram!(*name, labels.to_vec());
        for (value, count) in cells(&shard.meter).counts() {
            let told = published.entry(value).or_default();
            let new = usize::try_from(count - *told).unwrap_or(usize::MAX);
            if new > 0 {
                #[expect(clippy::cast_precision_loss, reason = "histograms are of floats")]
                histogram.record_many(value as f64 * unit, new);
                *told = count;
            }
        }
    }
}

fn describe() {
    for (name, unit, text, _) in COUNTERS {
        describe_counter!(name, unit, text);
    }
    for (name, unit, text, _) in GAUGES {
        describe_gauge!(name, unit, text);
    }
    for (name, unit, text, ..) in HISTOGRAMS {
        describe_histogram!(name, unit, text);
    }
    describe_gauge!("corewal_failed", "1 after a failure");
    describe_gauge!("corewal_fallback", "1 if io_uring could not be had");
    describe_gauge!("corewal_committed_epoch", "the committed epoch");
    describe_gauge!("corewal_keeps_nothing", "1 if nothing is written");
}
