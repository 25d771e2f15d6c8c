//! What the work needs of a log.

use std::path::Path;
use std::time::Duration;

use corewal_benches::Anything;
use corewal_benches::record::Records;

/// What sees the records of a log that was reopened.
pub(crate) type See<'a> = dyn FnMut(&[u8]) -> Result<(), Anything> + 'a;

/// A log, set up as its own documentation advises for appends that must survive a power cut.
pub(crate) trait Subject: Sized + Sync {
    /// Its package.
    const NAME: &'static str;
    /// Whether a commit that returned was synced, as it is set up here.
    const IS_DURABLE: bool;
    /// Batches that can wait for their sync at once.
    const DEPTH: usize = 1;
    /// How appends become durable, in words.
    const METHOD: &'static str;
    /// A batch that is not known to be durable.
    type Ticket: Send;

    /// Opens or creates the log in `dir`, which exists. `room` bytes will be written to it at most.
    fn open(dir: &Path, room: u64) -> Result<Self, Anything>;

    /// Appends one record, and returns when it is durable. Called by many threads.
    fn commit(&self, record: &[u8]) -> Result<(), Anything>;

    /// Appends `count` records in the way that is the fastest for many.
    fn begin(&self, records: &mut Records, count: usize) -> Result<Self::Ticket, Anything>;

    /// Waits until a batch is durable.
    fn finish(&self, ticket: Self::Ticket) -> Result<(), Anything>;

    /// Appends `count` records without waiting for any, then makes them durable. Returns how long the appends took;
    /// none if the log has no such append.
    fn burst(&self, records: &mut Records, count: usize) -> Result<Option<Duration>, Anything>;

    /// Closes it as its documentation says.
    fn close(self) -> Result<(), Anything>;

    /// Opens the log again, and sees every record, those of each producer in their order.
    fn replay(dir: &Path, see: &mut See<'_>) -> Result<(), Anything>;
}
