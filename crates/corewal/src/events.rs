//! Rare events, for `tracing`. Nothing here is on the way of an entry; without the feature nothing is here at all.
#![cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nobody is told"))]

use std::path::Path;

use corewal_disk::RingFacts;
use corewal_format::{Epoch, Incarnation, SegmentNumber, ShardId};

use crate::access::SegmentAccess;
use crate::error::{Damage, Failure, IoFault};
use crate::keep::{Piece, Released};
use crate::method::{Method, SyncReason};
use crate::recovery::Report;

#[cfg(feature = "tracing")]
macro_rules! tell {
    ($level:ident, $($what:tt)*) => { tracing::$level!(target: "corewal", $($what)*) };
}

#[cfg(not(feature = "tracing"))]
macro_rules! tell {
    ($($what:tt)*) => {{}};
}

pub(crate) fn recovered(dir: &Path, report: &Report) {
    #[cfg(feature = "tracing")]
    {
        use crate::recovery::RunEnd;

        let torn = |end| if let RunEnd::Torn { ignored, .. } = end { ignored } else { 0 };
        let torn_bytes: u64 = report.shards.iter().map(|shard| torn(shard.end)).sum();
        tell!(
            info,
            dir = %dir.display(),
            incarnation = report.incarnation.0,
            committed_epoch = report.committed_epoch.0,
            torn_bytes,
            took_us = u64::try_from(report.took.as_micros()).unwrap_or(u64::MAX),
            "recovered"
        );
    }
}

pub(crate) fn damaged(dir: &Path, damage: &Damage) {
    tell!(error, dir = %dir.display(), at = %damage.at, %damage, "damage");
}

pub(crate) fn opened(dir: &Path, incarnation: Incarnation, shards: usize, report: &Report) {
    #[cfg(feature = "tracing")]
    {
        let entries: u64 = report.shards.iter().filter_map(|shard| shard.entries).sum();
        let dir = dir.display();
        tell!(info, %dir, incarnation = incarnation.0, shards, entries, "opened");
    }
}

pub(crate) fn seated(shard: ShardId, ring: &RingFacts) {
    match &ring.fallback {
        None => tell!(info, shard = shard.0, engine = ?ring.engine, flags = ?ring.flags, "ring"),
        Some(reason) => {
            tell!(warn, shard = shard.0, engine = ?ring.engine, reason = %reason, "fallback");
        }
    }
}

pub(crate) fn buffered(shard: ShardId, access: SegmentAccess) {
    tell!(warn, shard = shard.0, %access, "buffered");
}

pub(crate) fn rotated(shard: ShardId, full: &Piece) {
    tell!(
        debug,
        shard = shard.0,
        segment = full.last.0,
        last_seq = full.last_seq.0,
        last_epoch = full.last_epoch.0,
        "segment is full"
    );
}

pub(crate) fn measured(dir: &Path, method: Method, reason: &SyncReason) {
    tell!(info, dir = %dir.display(), method = method.name(), %reason, "sync method");
}

pub(crate) fn not_remembered(dir: &Path, fault: &IoFault) {
    tell!(warn, dir = %dir.display(), %fault, "sync method not remembered");
}

pub(crate) fn method_switched(shard: ShardId, segment: SegmentNumber, from: Method, to: Method) {
    tell!(
        info,
        shard = shard.0,
        segment = segment.0,
        from = from.name(),
        to = to.name(),
        "sync method switched"
    );
}

pub(crate) fn preparing_failed(shard: ShardId, fault: &IoFault) {
    tell!(warn, shard = shard.0, %fault, "preparing failed");
}

pub(crate) fn failed(failure: &Failure) {
    tell!(error, shard = failure.shard.0, cause = %failure.cause, "failure");
}

pub(crate) fn checkpointed(epoch: Epoch, released: &Released) {
    tell!(
        info,
        epoch = epoch.0,
        segments = released.segments,
        spared = released.spared,
        "checkpoint"
    );
}

pub(crate) fn closed(dir: &Path, left_open: usize) {
    tell!(info, dir = %dir.display(), left_open, "closed");
}
