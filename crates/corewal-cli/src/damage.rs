//! Damage by its kind: one stable word for scripts, and what is lost.

use corewal::inspect::{BatchFault, BodyFault, Finding, Gap};
use corewal::{Damage, ManifestError, Reason, RecoverError};
use serde_json::{Value, json};

/// The kind of some damage. Stable.
pub(crate) fn kind(error: &RecoverError) -> &'static str {
    match error {
        _ if error.unknown_version().is_some() => "later-version",
        RecoverError::Damaged(damage) => kind_of(damage),
        RecoverError::Manifest { cause, .. } => match cause {
            ManifestError::Missing | ManifestError::OneMissing(_) | ManifestError::AllMissing => {
                "manifest-missing"
            }
            ManifestError::Broken(_) => "manifest-broken",
            _ => "manifest-unrelated",
        },
        _ => "other",
    }
}

fn kind_of(damage: &Damage) -> &'static str {
    match &damage.reason {
        Reason::SegmentHeader(_) => "segment-header",
        Reason::SegmentMissing => "segment-missing",
        Reason::SegmentLen { .. } => "segment-length",
        Reason::OtherLog(_) => "segment-of-other-log",
        Reason::OtherSegment(..) => "segment-misnamed",
        Reason::LaterIncarnation { .. } => "manifest-lost",
        Reason::OtherIncarnation { .. } => "segment-of-other-run",
        Reason::Batch { fault, .. } => match fault {
            BatchFault::Zero => "batch-zeroed",
            BatchFault::OlderLife { .. } => "batch-not-written",
            BatchFault::Misdirected { .. } => "batch-misplaced",
            BatchFault::Impossible(_) => "batch-impossible",
            _ => "batch-header",
        },
        Reason::OtherBatch { .. } => "batch-missing",
        Reason::Body { fault, .. } => match fault {
            BodyFault::Cut => "batch-cut",
            BodyFault::Impossible { .. } => "batch-impossible",
            _ => "batch-body",
        },
        Reason::Order { .. } => "batch-order",
        Reason::Unreadable(_) => "unreadable",
        _ => "other",
    }
}

/// What a gap costs, in words.
pub(crate) fn loss(gap: &Gap) -> String {
    let first = gap.first_batch;
    let batches = match gap.last_batch {
        None => format!("batches from {first} on"),
        Some(last) if last <= first => format!("batch {first}"),
        Some(last) => format!("batches {first} to {last}"),
    };
    let first = gap.first_seq;
    let seqs = match gap.last_seq {
        None => format!("seqs from {first} on"),
        Some(last) if last < first => "no entries".to_owned(),
        Some(last) if last == first => format!("seq {first}"),
        Some(last) => format!("seqs {first} to {last}"),
    };
    format!("cannot be read: {batches}, {seqs}")
}

/// A finding for programs.
pub(crate) fn to_json(finding: &Finding) -> Value {
    let damage = match &finding.error {
        RecoverError::Damaged(damage) => Some(damage),
        _ => None,
    };
    json!({
        "kind": kind(&finding.error),
        "text": finding.error.to_string(),
        "shard": damage.map(|it| it.at.shard.0),
        "segment": damage.map(|it| it.at.segment.0),
        "at": damage.map(|it| it.at.at),
        "witness": damage.and_then(|it| it.witness).map(|it| it.to_string()),
        "lost": finding.gap.map(|gap| json!({
            "first_batch": gap.first_batch.0,
            "last_batch": gap.last_batch.map(|it| it.0),
            "first_seq": gap.first_seq.0,
            "last_seq": gap.last_seq.map(|it| it.0),
        })),
    })
}
