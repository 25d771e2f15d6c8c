//! The logs, one module each. A new one is a module, a feature and a line below.

#[cfg(feature = "chunked-wal")]
mod chunked_wal;
#[cfg(feature = "okaywal")]
mod okaywal;
#[cfg(feature = "raft-engine")]
mod raft_engine;
#[cfg(feature = "wal-db")]
mod wal_db;
#[cfg(feature = "walrus-rust")]
mod walrus_rust;

use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, OtherLog, no_such};

use crate::subject::Subject;
use crate::works;

/// A log, and how a cell of it is measured.
struct Entry {
    log: OtherLog,
    run: fn(&Asked) -> Result<Answer, Anything>,
}

fn entry<S: Subject>() -> Entry {
    Entry {
        log: OtherLog { name: S::NAME.into(), is_durable: S::IS_DURABLE },
        run: works::run::<S>,
    }
}

fn entries() -> Vec<Entry> {
    vec![
        #[cfg(feature = "chunked-wal")]
        entry::<chunked_wal::Log>(),
        #[cfg(feature = "okaywal")]
        entry::<okaywal::Log>(),
        #[cfg(feature = "raft-engine")]
        entry::<raft_engine::Log>(),
        #[cfg(feature = "wal-db")]
        entry::<wal_db::Log>(),
        #[cfg(feature = "walrus-rust")]
        Entry { run: walrus_rust::run, ..entry::<walrus_rust::Log>() },
        #[cfg(feature = "walrus-rust")]
        Entry { run: walrus_rust::run_unsynced, ..entry::<walrus_rust::Unsynced>() },
    ]
}

/// Which logs were built in.
pub(crate) fn all() -> Vec<OtherLog> {
    entries().into_iter().map(|it| it.log).collect()
}

/// Measures one.
pub(crate) fn run(asked: &Asked) -> Result<Answer, Anything> {
    match entries().into_iter().find(|it| it.log.name == asked.way) {
        Some(entry) => (entry.run)(asked),
        None => Ok(no_such(asked)),
    }
}
