//! Writes the golden files of the current format version into a directory:
//! `cargo run -p corewal-format --example golden -- DIR`.

#[path = "../tests/format/samples.rs"]
mod samples;

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: golden DIR")?;
    std::fs::create_dir_all(&dir)?;
    for (name, bytes) in samples::golden_files() {
        std::fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}
