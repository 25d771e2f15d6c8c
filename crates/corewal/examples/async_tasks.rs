//! Tasks of a runtime: each appends and awaits its acknowledgement; all of them run on one thread.
//!
//! `cargo run -p corewal --example async_tasks [directory]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal::{AppendError, Kind, Log, Options, Pinning, Producer};

const TASKS: usize = 64;
const ENTRIES: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).map_or_else(|| "async-example".into(), PathBuf::from);
    println!("{} entries appended", run(&dir)?);
    Ok(())
}

/// Appends from 64 tasks, and returns how many entries that makes.
pub(crate) fn run(dir: &Path) -> Result<usize, Box<dyn Error>> {
    let mut log = Log::recover(Options::new(dir))?.open()?;
    let producer = Arc::new(log.start_writers(Pinning::AllowedCpus)?.remove(0));
    // The log knows no runtime; this one is as good as any.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let count = runtime.block_on(async {
        let tasks: Vec<_> =
            (0..TASKS).map(|task| tokio::spawn(append(task, Arc::clone(&producer)))).collect();
        let mut count = 0;
        for task in tasks {
            count += task.await.expect("a task does not panic")?;
        }
        let epoch = log.close_epoch().expect("no other epoch is open");
        log.committed(epoch).await.expect("every shard has a writer");
        Ok::<_, AppendError>(count)
    })?;
    log.close()?;
    Ok(count)
}

async fn append(task: usize, producer: Arc<Producer>) -> Result<usize, AppendError> {
    for entry in 0..ENTRIES {
        let text = format!("entry {entry} of task {task}");
        let stamp = loop {
            // Never blocks: the other tasks need this thread.
            match producer.try_append_bytes(Kind::PUT, text.as_bytes()) {
                Ok(stamp) => break stamp,
                Err(AppendError::Full) => producer.room().await,
                Err(error) => return Err(error),
            }
        };
        // It survives a power cut from here on.
        producer.durable(stamp).await.expect("the shard has not failed");
    }
    Ok(ENTRIES)
}
