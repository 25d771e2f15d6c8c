//! A disk and an engine under test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal_disk::sim::SimDisk;
use corewal_disk::{
    Block, Completion, Disk, Durability, Engine, File, FileSlot, Open, Operation, RealDisk,
    Recorder, Ring, RingConfig, Token,
};
use tempfile::TempDir;

/// Everything that a ring promises about a write.
pub(crate) const DURABILITIES: [Durability; 4] =
    [Durability::Written, Durability::Dsync, Durability::LinkedSync, Durability::DrainedSync];

/// What the checks run on.
pub(crate) struct Subject {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) engine: Engine,
    /// An empty directory of the disk.
    pub(crate) dir: PathBuf,
    /// Removes the directory of a real disk.
    _temp: Option<TempDir>,
}

impl Subject {
    fn real(engine: Engine) -> Self {
        // Not the system's directory for temporary files, which is often in memory.
        let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let dir = temp.path().to_owned();
        Self { disk: Arc::new(RealDisk::new()), engine, dir, _temp: Some(temp) }
    }

    /// Always there; an option like the others.
    pub(crate) fn blocking() -> Option<Self> {
        Some(Self::real(Engine::Blocking))
    }

    /// `None` where io_uring is forbidden, as in most containers, unless `COREWAL_REQUIRE_URING` is
    /// set.
    #[cfg(target_os = "linux")]
    pub(crate) fn uring() -> Option<Self> {
        let subject = Self::real(Engine::Uring);
        // With a lock, as a log has it: where that cannot be registered, there is no ring.
        let path = subject.path("LOCK");
        let lock = subject.disk.lock(&path, "probe").unwrap().unwrap();
        let probe = subject.disk.ring(RingConfig { lock: Some(lock), ..subject.config(1) });
        subject.disk.remove(&path).unwrap();
        match probe {
            Ok(_) => Some(subject),
            Err(reason) => {
                assert!(std::env::var_os("COREWAL_REQUIRE_URING").is_none(), "{reason}");
                eprintln!("skipped: {reason}");
                None
            }
        }
    }

    fn sim(engine: Engine) -> Self {
        let disk = SimDisk::new(1);
        let dir = PathBuf::from("/a/b");
        disk.create_dir(Path::new("/a")).unwrap();
        disk.create_dir(&dir).unwrap();
        Self { disk: Arc::new(disk), engine, dir, _temp: None }
    }

    /// Always there; an option like the others.
    pub(crate) fn simulated() -> Option<Self> {
        Some(Self::sim(Engine::Auto))
    }

    /// Always there; an option like the others.
    pub(crate) fn simulated_blocking() -> Option<Self> {
        Some(Self::sim(Engine::Blocking))
    }

    /// The same, with everything written down on the way.
    pub(crate) fn recorded(self) -> Self {
        Self { disk: Arc::new(Recorder::new(self.disk)), ..self }
    }

    pub(crate) fn config(&self, depth: u32) -> RingConfig {
        RingConfig { engine: self.engine, depth, block_count: 4, block_len: 8192, lock: None }
    }

    pub(crate) fn ring(&self, depth: u32) -> Box<dyn Ring> {
        self.disk.ring(self.config(depth)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn create(&self, name: &str) -> File {
        self.disk.open(&self.path(name), Open::CREATE).unwrap()
    }

    /// The bytes of a file, read through a handle of its own.
    pub(crate) fn read(&self, path: &Path) -> Vec<u8> {
        let file = self.disk.open(path, Open::READ).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }
}

/// A block whose bytes depend on `seed` and on their place.
pub(crate) fn block(len: usize, seed: usize) -> Block {
    let mut block = Block::zeroed(len);
    fill(&mut block, seed);
    block
}

pub(crate) fn fill(block: &mut [u8], seed: usize) {
    for (at, byte) in block.iter_mut().enumerate() {
        *byte = pattern(seed, at);
    }
}

fn pattern(seed: usize, at: usize) -> u8 {
    u8::try_from((at / 509 + at * 7 + seed * 31) % 251).unwrap() + 1
}

pub(crate) fn assert_pattern(bytes: &[u8], seed: usize) {
    let wrong = bytes.iter().enumerate().position(|(at, &byte)| byte != pattern(seed, at));
    assert_eq!(wrong, None, "first wrong byte of pattern {seed}");
}

pub(crate) fn write(
    token: u64,
    file: FileSlot,
    block: Block,
    at: u64,
    durability: Durability,
) -> Operation {
    let len = block.len();
    Operation::Write { token: Token(token), file, block, len, at, durability }
}

/// Submits, and waits until `count` operations were reaped; sorted by token.
pub(crate) fn finish(ring: &mut dyn Ring, count: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    ring.submit().unwrap();
    ring.reap(&mut completions).unwrap();
    while completions.len() < count {
        assert!(ring.in_flight() > 0, "{} of {count} completions", completions.len());
        ring.wait(None).unwrap();
        ring.reap(&mut completions).unwrap();
    }
    assert_eq!(completions.len(), count);
    completions.sort_by_key(|completion| completion.token);
    completions
}
