//! How a step reads.

use std::fmt;

use crate::disk::{Fate, Piece};
use crate::model::{Action, Damage};

fn letter(shard: u8) -> char {
    char::from(b'A' + shard)
}

/// A segment of a shard: `A2`.
fn name(shard: u8, segment: u8) -> String {
    format!("{}{segment}", letter(shard))
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Append(shard) => write!(out, "{} appends an entry", letter(shard)),
            Self::AppendBecauseOf { shard, cause } => {
                write!(
                    out,
                    "{} observes entry {cause} and appends",
                    letter(shard),
                    cause = cause + 1
                )
            }
            Self::Transaction(shard) => write!(out, "{} commits a transaction", letter(shard)),
            Self::TransactionPart(shard) => {
                write!(out, "{} appends a transaction's part", letter(shard))
            }
            Self::TransactionMark { shard, part } => {
                write!(
                    out,
                    "{} appends the mark of the transaction with entry {}",
                    letter(shard),
                    part + 1
                )
            }
            Self::Submit(shard) => write!(out, "{} submits its open batch", letter(shard)),
            Self::CloseEpoch(shard) => {
                write!(out, "{} submits the barrier of its epoch", letter(shard))
            }
            Self::Vouch(shard) => write!(out, "{} submits a vouch", letter(shard)),
            Self::Complete { shard, batch } => {
                write!(out, "{}: batch {batch} completes", letter(shard))
            }
            Self::StartSync(shard) => write!(out, "{}: a sync starts", letter(shard)),
            Self::EndSync(shard) => write!(out, "{}: the sync completes", letter(shard)),
            Self::FailSync(shard) => write!(out, "{}: the sync fails", letter(shard)),
            Self::Publish => write!(out, "the committed epoch is published and reported"),
            Self::ReportUnpublished => write!(out, "the committed epoch is reported"),
            Self::Rotate(shard) => write!(out, "{} goes on in the next segment", letter(shard)),
            Self::StartPreparing(shard) => {
                write!(out, "{}: the next segment is being prepared", letter(shard))
            }
            Self::FillLands(shard) => write!(out, "{}: the preparer's zeros land", letter(shard)),
            Self::Prepared(shard) => write!(out, "{}: the segment is ready", letter(shard)),
            Self::PreparingFails(shard) => write!(out, "{}: preparing fails", letter(shard)),
            Self::Truncate { shard, after, .. } => {
                write!(out, "truncate {} after seq {after}", letter(shard))
            }
            Self::Checkpoint => write!(out, "checkpoint at the committed epoch"),
            Self::Close => write!(out, "clean close"),
            Self::RenameManifest => write!(out, "the manifest is renamed over its slot"),
            Self::SyncDirectory => write!(out, "the directory is synced: the manifest is durable"),
            Self::PrepareEarly(shard) => {
                write!(out, "{}: a segment is prepared already", letter(shard))
            }
            Self::PowerCut(ref fates) => write!(out, "**power cut**{}", Fates(fates)),
            Self::Kill(ref fates) => write!(out, "**killed**{}", Fates(fates)),
            Self::LateWriteLands { shard, segment } => {
                write!(out, "a late write lands in {}", name(shard, segment))
            }
            Self::Recover(opening) => {
                let mode = if opening.committed_only { ", committed only" } else { "" };
                let (shards, bound) = (opening.shards, opening.bound);
                write!(out, "recovery (shards {shards}, pipelining bound {bound}{mode})")
            }
            Self::Damage(damage) => write!(out, "**damage**: {damage}"),
            Self::ReaderTakesManifest => write!(out, "a reader reads the manifest"),
            Self::ReaderMeetsBadPlace => {
                write!(out, "the reader meets the first place that does not verify")
            }
            Self::ReaderFindsWitness => write!(out, "the reader finds a promise over it"),
            Self::ReaderDecides => write!(out, "the reader decides"),
        }
    }
}

struct Fates<'a>(&'a [(Piece, Fate)]);

impl fmt::Display for Fates<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (piece, fate)) in self.0.iter().enumerate() {
            let fate = match fate {
                Fate::Survives => "survives",
                Fate::Torn => "is torn",
                Fate::Lost => "is lost",
                Fate::Late => "is still under way",
            };
            write!(out, "{} {piece} {fate}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Block { shard, segment, block } => {
                write!(out, "block {block} of {}", name(shard, segment))
            }
            Self::Name { shard, segment } => write!(out, "the name of {}", name(shard, segment)),
            Self::Header { shard, segment } => {
                write!(out, "the header of {}", name(shard, segment))
            }
            Self::Fill { shard, segment } => write!(out, "the fill of {}", name(shard, segment)),
            Self::Manifest => write!(out, "the new manifest"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Batch { shard, segment, block } => {
                write!(out, "the batch in block {block} of {}", name(shard, segment))
            }
            Self::BothHeaderCopies { shard, segment } => {
                write!(out, "both header copies of {}", name(shard, segment))
            }
            Self::FileGone { shard, segment } => write!(out, "{} is gone", name(shard, segment)),
            Self::ManifestBroken { slot } => write!(out, "MANIFEST-{slot} does not verify"),
            Self::ManifestGone { slot } => write!(out, "MANIFEST-{slot} is gone"),
        }
    }
}
