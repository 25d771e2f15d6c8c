//! Logs that are recovered again and again: built once, and left in place.

use std::path::{Path, PathBuf};
use std::time::Instant;

use corewal::{Log, Options};
use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome, evict, peak_mib};
use corewal_benches::record::Records;
use corewal_benches::work::{Image, Layout, RECOVERED_LEN};
use serde::{Deserialize, Serialize};

use super::log::{Variant, append, method};
use super::poll::with_stats;

/// Batches of one entry that are in flight while such a log is built.
const PADDED_DEPTH: usize = 32;

/// What stands in an image, beside it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sidecar {
    pub(crate) entries: u64,
    pub(crate) batch_bytes: u64,
}

impl Sidecar {
    fn path(image: &Path) -> PathBuf {
        image.with_extension("json")
    }

    pub(crate) fn read(image: &Path) -> Result<Self, Anything> {
        Ok(serde_json::from_str(&std::fs::read_to_string(Self::path(image))?)?)
    }

    fn write(&self, image: &Path) -> Result<(), Anything> {
        Ok(std::fs::write(Self::path(image), serde_json::to_string(self)?)?)
    }
}

/// Builds the image, and leaves it as its layout says.
pub(crate) fn build(variant: &Variant, asked: &Asked, image: Image) -> Result<Answer, Anything> {
    let path = asked.image("corewal");
    let options = variant.options(&path);
    let options = match image.layout {
        Layout::Padded => options.depth(PADDED_DEPTH).write_len(4096),
        Layout::Closed | Layout::Open => options,
    };
    let mut log = Log::recover(options)?.open()?;
    let mut writer = log.take_seats().remove(0).sit()?;
    let mut records = Records::new(0, RECOVERED_LEN);
    while records.count() < image.entries() {
        append(&mut writer, records.bytes())?;
        records.advance();
        if image.layout == Layout::Padded {
            writer.seal_promises();
            writer.turn()?;
        }
    }
    writer.sync()?;
    let stats = writer.stats();
    Sidecar { entries: records.count(), batch_bytes: stats.batch_bytes }.write(&path)?;
    let outcome = with_stats(Outcome::new(method(writer.ring_facts(), variant)), &stats);
    if image.layout == Layout::Closed {
        writer.close()?;
        log.close()?;
    }
    Ok(Answer::Measured(outcome))
}

/// Recovers the image, without opening it: it stays as it is. Every entry is looked at.
pub(crate) fn recover(asked: &Asked, image: Image) -> Result<Answer, Anything> {
    let path = asked.image("corewal");
    let sidecar = Sidecar::read(&path)?;
    evict(&path)?;
    let start = Instant::now();
    let mut recovery = Log::recover(Options::new(&path))?;
    let mut found = 0;
    while let Some(entry) = recovery.next_entry()? {
        let index = entry.bytes().first_chunk().map(|it| u64::from_le_bytes(*it));
        if index != Some(found) || entry.bytes().len() != RECOVERED_LEN {
            return Err(format!("entry {found} of {} is another", path.display()).into());
        }
        found += 1;
    }
    let took = start.elapsed().as_secs_f64();
    if found != image.entries() {
        let expected = image.entries();
        return Err(format!("{found} of {expected} acknowledged entries are there").into());
    }
    let from_device = recovery.report().from_device;
    let judged_ms = recovery.report().took.as_secs_f64() * 1e3;
    let method = format!("from the device: {from_device}, judged in {judged_ms:.0} ms");
    let mut outcome = Outcome::new(method)
        .with(Figure::PerS, found as f64 / took)
        .with(Figure::DeviceMbPerS, sidecar.batch_bytes as f64 / 1e6 / took)
        .found(found);
    if let Some(peak) = peak_mib() {
        outcome = outcome.with(Figure::PeakMib, peak);
    }
    Ok(Answer::Measured(outcome))
}
