//! TEMPORARY.
use corewal::{Epoch, Log};
use crate::error::JobError;
use crate::place::Place;
pub(crate) struct Ck { pub(crate) epoch: Epoch, pub(crate) bytes: Vec<u8> }
pub(crate) fn write(place: &Place, _log: &Log, epoch: Epoch, bytes: &[u8]) -> Result<(), JobError> {
    let mut all = epoch.0.to_le_bytes().to_vec();
    all.extend_from_slice(bytes);
    Ok(place.write_durably(&place.snapshots().join("../CHECKPOINT"), &all)?)
}
pub(crate) fn read(place: &Place) -> Option<Ck> {
    let all = place.read(&place.snapshots().join("../CHECKPOINT")).ok()?;
    let mut e = [0; 8];
    e.copy_from_slice(&all[..8]);
    Some(Ck { epoch: Epoch(u64::from_le_bytes(e)), bytes: all[8..].to_vec() })
}
