//! Threads that share two shards: the log drives each shard on a thread of its own, pinned to a CPU, and any
//! thread appends through a producer.
//!
//! `cargo run -p corewal --example producers [directory]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::thread;

use corewal::{Kind, Log, Options, Pinning};

const THREADS: usize = 8;
const ENTRIES: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).map_or_else(|| "producers-example".into(), PathBuf::from);
    println!("{} entries recovered and appended", run(&dir)?);
    Ok(())
}

/// Recovers what an earlier run has left, appends, and returns how many entries that makes.
pub(crate) fn run(dir: &Path) -> Result<usize, Box<dyn Error>> {
    let mut recovery = Log::recover(Options::new(dir).shards(2))?;
    let mut count = 0;
    while let Some(entry) = recovery.next_entry()? {
        count += usize::from(entry.kind() == Kind::PUT);
    }
    let mut log = recovery.open()?;
    log.on_commit(|epoch| println!("epoch {epoch} is committed"));

    let producers = log.start_writers(Pinning::AllowedCpus)?;
    let threads: Vec<_> = (0..THREADS)
        .map(|index| {
            let producer = producers[index % producers.len()].clone();
            thread::spawn(move || append(index, &producer))
        })
        .collect();
    for thread in threads {
        count += thread.join().expect("an appending thread does not panic")?;
    }

    // Everything above is one consistent cut over both shards.
    let epoch = log.close_epoch()?;
    log.wait_epoch(epoch)?;
    log.close()?;
    Ok(count)
}

fn append(index: usize, producer: &corewal::Producer) -> Result<usize, corewal::DurableError> {
    let mut last = None;
    for entry in 1..=ENTRIES {
        let text = format!("entry {entry} of thread {index}");
        if entry % 100 == 0 {
            // Waits until it survives a power cut, and so does everything before it.
            producer.append_bytes_durable(Kind::PUT, text.as_bytes())?;
        } else {
            // Waits only while all blocks of the shard are in flight.
            last = Some(producer.append_bytes(Kind::PUT, text.as_bytes())?);
        }
    }
    assert!(last.is_some_and(|stamp| stamp.seq <= producer.frontier()));
    Ok(ENTRIES)
}
