//! An inspection for programs: one document, written as it is read.

use std::io::Write;
use std::path::PathBuf;

use base64::Engine as _;
use corewal::inspect::{
    Batch, BatchFlags, Inspection, Manifest, Remembered, Run, SegmentFacts, ShardRecord, VoidCause,
};
use corewal::{Kind, RecoverError, Report, RunEnd};
use serde_json::{Value, json};

use crate::inspect::{Broken, Detail, state_name};
use crate::payload::kind_name;

pub(super) fn show(
    out: &mut impl Write,
    inspection: &Inspection,
    detail: Detail,
) -> Result<(), Broken> {
    let paths = |paths: &[PathBuf]| -> Value {
        paths.iter().map(|path| path.display().to_string()).collect()
    };
    let head = [
        ("manifest", inspection.manifest().map_or(Value::Null, manifest)),
        ("found", inspection.report().map_or(Value::Null, found)),
        ("segments", inspection.segments().iter().map(segment).collect()),
        ("sync_method", inspection.remembered().map_or(Value::Null, remembered)),
        ("salvages", paths(inspection.salvages())),
        ("foreign", paths(inspection.foreign())),
        ("damage", inspection.damage().iter().map(damage).collect()),
    ];
    let mut before = "{";
    for (name, value) in head {
        write!(out, "{before}\"{name}\":{value}")?;
        before = ",\n";
    }
    if detail != Detail::None {
        write!(out, ",\n\"batches\":[")?;
        show_batches(out, inspection, detail)?;
        write!(out, "]")?;
    }
    writeln!(out, "}}")?;
    Ok(())
}

fn show_batches(
    out: &mut impl Write,
    inspection: &Inspection,
    detail: Detail,
) -> Result<(), Broken> {
    let mut batches = inspection.batches();
    let mut before = "\n";
    loop {
        match batches.next_batch() {
            Ok(None) => return Ok(()),
            Ok(Some(it)) => {
                write!(out, "{before}{}", batch(&it, detail))?;
                before = ",\n";
            }
            // It is among the inspection's damage.
            Err(RecoverError::Damaged(_)) => {}
            Err(error) => return Err(Broken::Log(error)),
        }
    }
}

fn manifest(it: &Manifest) -> Value {
    json!({
        "log": it.log.to_string(),
        "generation": it.generation.0,
        "incarnation": it.incarnation.0,
        "committed_epoch": it.committed_epoch.0,
        "first_epoch": it.first_epoch.0,
        "pipeline_bound": it.pipeline_bound,
        "checkpoint_epoch": it.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch.0),
        "checkpoint_bytes": it.checkpoint.as_ref().map(|checkpoint| payload(&checkpoint.bytes)),
        "shards": it.shards.iter().map(shard).collect::<Value>(),
    })
}

fn shard(it: &ShardRecord) -> Value {
    json!({
        "shard": it.shard.0,
        "active": it.active,
        "next_segment": it.next_segment.0,
        "next_batch": it.next_batch.0,
        "next_seq": it.next_seq.0,
        "released_seq": it.released_seq.0,
        "durable_batch": it.durable_batch.0,
        "durable_seq": it.durable_seq.0,
        "barrier": it.barrier.0,
        "runs": it.runs.iter().map(run).collect::<Value>(),
        "current": it.current.map(|current| json!({
            "first_segment": current.first_segment.0,
            "first_batch": current.first_batch.0,
            "first_seq": current.first_seq.0,
        })),
    })
}

fn run(it: &Run) -> Value {
    let voids = it.voids.iter().map(|void| {
        json!({
            "first_batch": void.first_batch.0,
            "last_batch": void.last_batch.0,
            "first_seq": void.first_seq.0,
            "last_seq": void.last_seq.0,
            "cause": match void.cause {
                VoidCause::Truncated => "truncated",
                VoidCause::Uncommitted => "uncommitted",
                VoidCause::Salvaged => "salvaged",
            },
        })
    });
    json!({
        "incarnation": it.incarnation.0,
        "first_epoch": it.first_epoch.0,
        "first_segment": it.first_segment.0,
        "last_segment": it.last_segment.0,
        "first_batch": it.first_batch.0,
        "last_batch": it.last_batch.0,
        "last_batch_at": it.last_batch_at,
        "first_seq": it.first_seq.0,
        "last_kept_seq": it.last_kept_seq.0,
        "voids": voids.collect::<Value>(),
    })
}

/// What a recovery would find.
fn found(it: &Report) -> Value {
    let shards = it.shards.iter().map(|shard| {
        let torn = match shard.end {
            RunEnd::Torn { at, ignored } => {
                json!({ "segment": at.segment.0, "at": at.at, "bytes": ignored })
            }
            _ => Value::Null,
        };
        json!({
            "shard": shard.shard.0,
            "last_batch": shard.last.map(|(batch, _)| batch.0),
            "last_seq": shard.last.map(|(_, seq)| seq.0),
            "barrier": shard.barrier.0,
            "torn": torn,
        })
    });
    json!({
        "committed_epoch": it.committed_epoch.0,
        "shards": shards.collect::<Value>(),
    })
}

fn segment(it: &SegmentFacts) -> Value {
    let header = it.header.as_ref().ok();
    json!({
        "shard": it.shard.0,
        "segment": it.number.0,
        "state": state_name(it.state),
        "bytes": it.file_len,
        "batches": it.batch_count,
        "entries": it.entry_count,
        "bytes_in_batches": it.batch_len,
        "first_seq": it.seqs.map(|(first, _)| first.0),
        "last_seq": it.seqs.map(|(_, last)| last.0),
        "first_epoch": it.epochs.map(|(first, _)| first.0),
        "last_epoch": it.epochs.map(|(_, last)| last.0),
        "incarnation": header.map(|header| header.incarnation.0),
        "block_bytes": header.map(|header| header.block_len),
        "schema": header.map(|header| header.schema.0),
        "unreadable": it.header.as_ref().err().map(ToString::to_string),
    })
}

fn remembered(it: &Remembered) -> Value {
    let speeds = it.speeds.iter().map(|speed| {
        json!({
            "method": speed.method.to_string(),
            "lone_per_s": speed.lone_per_s,
            "busy_per_s": speed.busy_per_s,
        })
    });
    json!({
        "method": it.method.to_string(),
        "device": it.device,
        "depth": it.depth,
        "speeds": speeds.collect::<Value>(),
    })
}

fn damage(it: &RecoverError) -> Value {
    let at = match it {
        RecoverError::Damaged(damage) => Some(damage.at),
        _ => None,
    };
    json!({
        "text": it.to_string(),
        "shard": at.map(|at| at.shard.0),
        "segment": at.map(|at| at.segment.0),
        "at": at.map(|at| at.at),
    })
}

fn batch(it: &Batch<'_>, detail: Detail) -> Value {
    let header = &it.header;
    let mut value = json!({
        "shard": header.shard.0,
        "batch": header.number.0,
        "segment": header.segment.0,
        "at": header.at(),
        "bytes": header.disk_len(),
        "entry_count": header.entry_count,
        "first_seq": header.first_seq.0,
        "last_seq": header.last_seq().0,
        "epoch": header.epoch.0,
        "incarnation": header.incarnation.0,
        "barrier": header.flags.contains(BatchFlags::BARRIER),
        "vouch": header.flags.contains(BatchFlags::VOUCH),
        "promises": {
            "durable_batch": header.durable_batch.0,
            "durable_seq": header.durable_seq.0,
            "committed_epoch": header.committed_epoch.0,
        },
    });
    if detail == Detail::Entries {
        value["entries"] = it
            .entries()
            .map(|entry| {
                json!({
                    "seq": entry.stamp.seq.0,
                    "kind": kind(entry.kind),
                    "void": it.last_kept_seq.is_some_and(|last| entry.stamp.seq > last),
                    "payload": payload(entry.payload()),
                })
            })
            .collect();
    }
    value
}

/// The same as in `replay --format jsonl`.
fn payload(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}

fn kind(it: Kind) -> Value {
    kind_name(it).map_or(it.0.into(), Value::from)
}
