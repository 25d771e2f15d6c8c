//! What the manifests still say: the newest that can be read, or what the segments tell in its place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corewal_format::{
    Epoch, Generation, Incarnation, LogId, Manifest, ManifestFault, SegmentFault,
};

use crate::error::{ManifestError, RecoverError};
use crate::layout::{Layout, Listing};
use crate::manifests;
use crate::recovery::salvage::SalvageError;
use crate::recovery::walk::{Opened, open_segment};

/// Where a salvage begins.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) manifest: Manifest,
    pub(super) origin: Origin,
    pub(super) troubles: Vec<ManifestTrouble>,
}

/// What a salvage believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Both manifests verify, and belong together: the newer one is the newest there was.
    Newest(Generation),
    /// One manifest: it may have been the newest, or the one before. What a lost one recorded is not known: a
    /// checkpoint, a release (what was let go then reads as lost), a truncation or a recovery of committed epochs
    /// (what was void then may be back).
    Survivor(Generation),
    /// No manifest. Runs are what the segments tell. The last checkpoint is lost, and what was void may be back.
    Segments,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestTrouble {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong; none if it is missing.
    pub cause: Option<ManifestError>,
}

/// A slot's manifest; what is wrong stands in `troubles`.
fn slot(
    layout: &Layout,
    slot: Generation,
    troubles: &mut Vec<ManifestTrouble>,
) -> Result<Option<Manifest>, SalvageError> {
    let path = layout.manifest(slot);
    match manifests::read_slot(layout, slot) {
        Ok(Some(manifest)) => Ok(Some(manifest)),
        Ok(None) => {
            troubles.push(ManifestTrouble { path, cause: None });
            Ok(None)
        }
        Err(RecoverError::Manifest {
            cause: ManifestError::Broken(ManifestFault::Version(_)),
            ..
        }) => Err(SalvageError::LaterVersion { path }),
        Err(RecoverError::Manifest { cause, .. }) => {
            troubles.push(ManifestTrouble { path, cause: Some(cause) });
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads what there is.
pub(super) fn find(layout: &Layout, listing: &Listing) -> Result<Base, SalvageError> {
    let mut troubles = Vec::new();
    let even = slot(layout, Generation(0), &mut troubles)?;
    let odd = slot(layout, Generation(1), &mut troubles)?;
    let of_log = commonest_log(layout, listing)?;
    let mut found: Vec<Manifest> = even.into_iter().chain(odd).collect();
    found.sort_by_key(|manifest| manifest.generation);
    let belong = match &found[..] {
        [older, newer] => older.log == newer.log && older.generation.next() == newer.generation,
        _ => false,
    };
    if let [older, newer] = &found[..]
        && !belong
    {
        let cause = ManifestError::Unrelated(older.generation, newer.generation);
        troubles.push(ManifestTrouble { path: layout.dir.clone(), cause: Some(cause) });
        if older.log != newer.log
            && let Some(log) = of_log
        {
            found.retain(|it| it.log == log);
        }
    }
    if let Some(manifest) = found.pop() {
        let generation = manifest.generation;
        let origin = if belong { Origin::Newest(generation) } else { Origin::Survivor(generation) };
        return Ok(Base { manifest, origin, troubles });
    }
    let Some(log) = of_log else { return Err(SalvageError::NoEvidence) };
    Ok(Base { manifest: nothing(log), origin: Origin::Segments, troubles })
}

/// What is known without a manifest.
fn nothing(log: LogId) -> Manifest {
    Manifest {
        log,
        generation: Generation(1),
        incarnation: Incarnation(0),
        committed_epoch: Epoch(0),
        first_epoch: Epoch(1),
        pipeline_bound: 0,
        checkpoint: None,
        shards: Vec::new(),
    }
}

/// The log that most segments name.
fn commonest_log(layout: &Layout, listing: &Listing) -> Result<Option<LogId>, SalvageError> {
    let mut counts: BTreeMap<LogId, u64> = BTreeMap::new();
    for (shard, numbers) in &listing.shards {
        for &number in numbers {
            match open_segment(layout, *shard, number)? {
                Opened::Segment(open) => *counts.entry(open.header.log).or_default() += 1,
                Opened::Unreadable(SegmentFault::Version(_), _) => {
                    let path = layout.segment(*shard, number);
                    return Err(SalvageError::LaterVersion { path });
                }
                Opened::Unreadable(..) | Opened::Missing => {}
            }
        }
    }
    Ok(counts.into_iter().max_by_key(|&(_, count)| count).map(|(log, _)| log))
}
