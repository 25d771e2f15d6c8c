//! An inspection for people.

use std::io::Write;

use corewal::inspect::{Batch, BatchFlags, Inspection, Manifest, SegmentFacts, ShardRecord};
use corewal::{RecoverError, RunEnd};

use crate::inspect::{Broken, Detail, remembered_text, state_name};
use crate::payload::{kind_text, write_escaped};

/// Bytes of a payload that are shown.
const PREVIEW: usize = 64;

pub(super) fn show(
    out: &mut impl Write,
    inspection: &Inspection,
    detail: Detail,
) -> Result<(), Broken> {
    match inspection.manifest() {
        Some(manifest) => show_manifest(out, inspection, manifest)?,
        None => writeln!(out, "no manifest can be read")?,
    }
    writeln!(
        out,
        "\n{:>5} {:>10}  {:8} {:>11} {:>8} {:>9} {:>11} {:>17} {:>13}  header",
        "shard", "segment", "state", "bytes", "batches", "entries", "in batches", "seqs", "epochs"
    )?;
    inspection.segments().iter().try_for_each(|segment| show_segment(out, segment))?;
    if let Some(answer) = inspection.remembered() {
        writeln!(out, "sync method: {}", remembered_text(answer))?;
    }
    for path in inspection.salvages() {
        writeln!(out, "copies of a repair: {}", path.display())?;
    }
    for path in inspection.foreign() {
        writeln!(out, "not of a log: {}", path.display())?;
    }
    if detail != Detail::None {
        show_batches(out, inspection, detail)?;
    }
    for damage in inspection.damage() {
        writeln!(out, "damage: {damage}")?;
    }
    Ok(())
}

fn show_manifest(
    out: &mut impl Write,
    inspection: &Inspection,
    manifest: &Manifest,
) -> Result<(), Broken> {
    writeln!(out, "log {}", manifest.log)?;
    writeln!(
        out,
        "manifest: generation {}, incarnation {}, committed epoch {}, first epoch {}",
        manifest.generation, manifest.incarnation, manifest.committed_epoch, manifest.first_epoch
    )?;
    if let Some(checkpoint) = &manifest.checkpoint {
        let len = checkpoint.bytes.len();
        write!(out, "checkpoint: epoch {}, {len} bytes: ", checkpoint.epoch)?;
        write_escaped(out, &checkpoint.bytes[..len.min(PREVIEW)])?;
        writeln!(out, "{}", if len > PREVIEW { " ..." } else { "" })?;
    }
    if let Some(report) = inspection.report() {
        writeln!(out, "committed epoch found: {}", report.committed_epoch)?;
    }
    manifest.shards.iter().try_for_each(|record| show_shard(out, record))?;
    for shard in inspection.report().iter().flat_map(|report| &report.shards) {
        if let RunEnd::Torn { at, ignored } = shard.end {
            writeln!(out, "shard {}: torn at {at}, {ignored} bytes ignored", shard.shard)?;
        }
    }
    Ok(())
}

fn show_shard(out: &mut impl Write, record: &ShardRecord) -> Result<(), Broken> {
    let standing = if record.active { "active" } else { "retired" };
    writeln!(
        out,
        "shard {}: {standing}, {} ended runs, last barrier {}",
        record.shard,
        record.runs.len(),
        record.barrier
    )?;
    for run in &record.runs {
        writeln!(
            out,
            "  ended run of incarnation {}: segments {} to {}, batches {} to {} (at {}), seqs {} to {}",
            run.incarnation,
            run.first_segment,
            run.last_segment,
            run.first_batch,
            run.last_batch,
            run.last_batch_at,
            run.first_seq,
            run.last_kept_seq
        )?;
        for void in &run.voids {
            writeln!(out, "    void: seqs {} to {}", void.first_seq, void.last_seq)?;
        }
    }
    if let Some(run) = record.current {
        writeln!(
            out,
            "  current run: from segment {}, batch {}, seq {}",
            run.first_segment, run.first_batch, run.first_seq
        )?;
    }
    Ok(())
}

fn show_segment(out: &mut impl Write, segment: &SegmentFacts) -> Result<(), Broken> {
    write!(
        out,
        "{:>5} {:>10}  {:8} {:>11} {:>8} {:>9} {:>11} {:>17} {:>13}  ",
        segment.shard.0,
        segment.number.0,
        state_name(segment.state),
        segment.file_len,
        segment.batch_count,
        segment.entry_count,
        segment.batch_len,
        segment.seqs.map_or("-".to_owned(), |(first, last)| format!("{first}-{last}")),
        segment.epochs.map_or("-".to_owned(), |(first, last)| format!("{first}-{last}"))
    )?;
    match &segment.header {
        Ok(header) => writeln!(
            out,
            "incarnation {}, blocks of {}, schema {}",
            header.incarnation, header.block_len, header.schema
        )?,
        Err(fault) => writeln!(out, "unreadable: {fault}")?,
    }
    Ok(())
}

fn show_batches(
    out: &mut impl Write,
    inspection: &Inspection,
    detail: Detail,
) -> Result<(), Broken> {
    writeln!(out)?;
    let mut batches = inspection.batches();
    loop {
        match batches.next_batch() {
            Ok(None) => return Ok(()),
            Ok(Some(batch)) => show_batch(out, &batch, detail)?,
            // It is among the inspection's damage.
            Err(RecoverError::Damaged(_)) => {}
            Err(error) => return Err(Broken::Log(error)),
        }
    }
}

fn show_batch(out: &mut impl Write, batch: &Batch<'_>, detail: Detail) -> Result<(), Broken> {
    let header = &batch.header;
    let role = if header.flags.contains(BatchFlags::BARRIER) {
        " barrier"
    } else if header.flags.contains(BatchFlags::VOUCH) {
        " vouch"
    } else {
        ""
    };
    writeln!(
        out,
        "batch {} of segment {}-{:06} at {}: {} bytes, {} entries, seqs {} to {}, epoch {}; \
         promises batch {}, seq {}, committed epoch {}{role}",
        header.number,
        header.shard,
        header.segment.0,
        header.at(),
        header.disk_len(),
        header.entry_count,
        header.first_seq,
        header.last_seq(),
        header.epoch,
        header.durable_batch,
        header.durable_seq,
        header.committed_epoch
    )?;
    if detail != Detail::Entries {
        return Ok(());
    }
    for entry in batch.entries() {
        let payload = entry.payload();
        let void = if batch.last_kept_seq.is_some_and(|last| entry.stamp.seq > last) {
            " void"
        } else {
            ""
        };
        let kind = kind_text(entry.kind);
        write!(out, "  {} {kind}{void} {} bytes ", entry.stamp.seq, payload.len())?;
        write_escaped(out, &payload[..payload.len().min(PREVIEW)])?;
        writeln!(out, "{}", if payload.len() > PREVIEW { ".." } else { "" })?;
    }
    Ok(())
}
