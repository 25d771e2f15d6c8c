//! Counters and histograms of a shard, as a snapshot.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::meter::Meter;
use crate::prepare::SegmentQueue;

/// What a shard has done since its log was opened.
///
/// Of [`ShardWriter::stats`](crate::ShardWriter::stats) it is exact; of [`Log::stats`](crate::Log::stats), which any
/// thread may call, entries are counted when their batch is loaded for the ring, and all else as it happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Entries that were appended, barriers included.
    pub entries: u64,
    /// Of these, those that the frontier has reached.
    pub durable_entries: u64,
    /// Bytes of the payloads of all entries.
    pub payload_bytes: u64,
    /// Atomic groups that were appended: batches of entries, and transactions.
    pub groups: u64,
    /// Bytes of groups that were copied once more: those of small transactions, from their own buffer into a
    /// block at the commit, and those of groups that outgrew the open batch or their buffer. All others are
    /// written from where they were serialized to.
    pub recopied_bytes: u64,
    /// Batches that were handed to the ring.
    pub batches: u64,
    /// Bytes of those batches, with headers and padding.
    pub batch_bytes: u64,
    /// Bytes that preparing wrote: headers of segments, and zeros.
    pub prepared_bytes: u64,
    /// Syncs apart from writes.
    pub syncs: u64,
    /// Batches that only vouch.
    pub vouches: u64,
    /// Segments that were begun, after the first.
    pub rotations: u64,
    /// Segments that were taken before they were filled, because the writer was ahead of the preparing.
    pub unfilled: u64,
    /// Files that were used again.
    pub recycled: u64,
    /// Batches behind the frontier that were handed to the ring.
    pub in_flight: u64,
    /// The most batches that were in flight at once.
    pub max_in_flight: u64,
    /// Batches acknowledged since the last durable promise: damage to these could read as torn.
    pub unvouched: u64,
    /// `io_uring_enter` calls, or system calls of the synchronous engine.
    pub ring_calls: u64,
    /// How often a segment was begun with another [`SyncMethod`](crate::SyncMethod) than the one before.
    pub method_switches: u64,
    /// How long the shard's open epoch has been open.
    pub epoch_age: Duration,
}

impl ShardStats {
    pub(crate) fn read(meter: &Meter, segments: &SegmentQueue) -> Self {
        // The durable ones first: they were appended before, so they are not more.
        let durable_entries = meter.durable_entries.read();
        Self {
            durable_entries,
            entries: meter.entries.read().max(durable_entries),
            payload_bytes: meter.payload_bytes.read(),
            groups: meter.groups.read(),
            recopied_bytes: meter.recopied_bytes.read(),
            batches: meter.batches.read(),
            batch_bytes: meter.batch_bytes.read(),
            prepared_bytes: segments.written_bytes(),
            syncs: meter.syncs.read(),
            vouches: meter.vouches.read(),
            rotations: meter.rotations.read(),
            unfilled: meter.unfilled.read(),
            recycled: segments.recycled(),
            in_flight: meter.in_flight.read(),
            max_in_flight: meter.max_in_flight.read(),
            unvouched: meter.unvouched.read(),
            ring_calls: meter.ring_calls.read(),
            method_switches: meter.method_switches.read(),
            epoch_age: meter.epoch_age(),
        }
    }

    /// Entries that were appended and are not durable yet.
    #[must_use]
    pub fn durable_lag(&self) -> u64 {
        self.entries - self.durable_entries
    }

    /// Bytes that went to the device for each byte of payload: batches with headers and padding, and what preparing
    /// wrote. `None` before the first byte of payload.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn write_amplification(&self) -> Option<f64> {
        let written = (self.batch_bytes + self.prepared_bytes) as f64;
        (self.payload_bytes > 0).then(|| written / self.payload_bytes as f64)
    }
}

/// How a shard's batches were distributed since its log was opened.
///
/// Recorded once a batch, at the cost of two readings of the clock and a few words of memory; nothing for an entry.
/// Values are exact to 1/64, and reported as at most so much too high. The histograms of several shards can be
/// [added](Histogram::add).
///
/// ```
/// # use corewal::{Kind, Log, Options};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let mut log = Log::recover(Options::new(dir.path().join("log")))?.open()?;
/// # let mut writer = log.take_seats().remove(0).sit()?;
/// # let stamp = writer.append_bytes(Kind::PUT, b"an event")?;
/// # writer.wait(stamp)?;
/// for (shard, histograms) in log.histograms() {
///     let p99 = histograms.commit_latency_ns.value_at_quantile(0.99);
///     println!("shard {shard}: 99 of 100 batches were durable within {p99} ns");
/// #   assert!(p99 > 0);
/// }
/// # writer.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardHistograms {
    /// From the sealing of a batch until the frontier has reached it, in nanoseconds. If more than 4096 batches wait
    /// for a sync, of the first ones only.
    pub commit_latency_ns: Histogram<u64>,
    /// Of syncs apart from writes, in nanoseconds. Empty where every write is durable by itself.
    pub sync_latency_ns: Histogram<u64>,
    /// Bytes of a batch on the disk.
    pub batch_len_bytes: Histogram<u64>,
    /// Entries of a batch.
    pub batch_entries: Histogram<u64>,
}

impl ShardHistograms {
    pub(crate) fn read(meter: &Meter) -> Self {
        Self {
            commit_latency_ns: meter.commit_latency.histogram(),
            sync_latency_ns: meter.sync_latency.histogram(),
            batch_len_bytes: meter.batch_len.histogram(),
            batch_entries: meter.batch_entries.histogram(),
        }
    }
}
