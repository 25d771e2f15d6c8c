//! A durable write that wakes whoever waits for it: links, followed by the kernel.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::AtomicU32;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use super::super::entry::{self, Target};
use super::super::setup::{self, Running, require_opcodes};
use super::wait;
use crate::real::RealFile;
use crate::trial::Words;
use crate::{BLOCK_ALIGN, Block, Engine, File, RingConfig};

/// The place of the file in the kernel's table; the first is a log's lock.
const FILE_PLACE: u32 = 1;
/// The names of the tables of these rings: they have one block, which never leaves its ring.
const POOL: crate::block::PoolId = u64::MAX;
/// Bytes of a word.
const WORD_LEN: u32 = 4;
const _: () = assert!(size_of::<AtomicU32>() == WORD_LEN as usize);

/// The links of a commit; their `user_data`.
const WRITE: usize = 0;
const CLEAR: usize = 1;
const WAKE: usize = 2;
const LINKS: usize = 3;

/// Writes one batch at a time, and has the kernel wake the threads that wait for it (`IORING_OP_FUTEX_WAKE`, 6.7).
///
/// A wake-up by itself says nothing: sleepers wake for no reason, and a thread that comes to sleep after the wake-up
/// would miss it. So a word must change, and only after the write; `IORING_OP_FUTEX_WAKE` changes none. Here a
/// commit is three links: the write with `RWF_DSYNC`, a read of `/dev/zero` into a word, and the wake-up of those that
/// sleep on the word. A link runs only if the one before it did all that it was asked for.
///
/// So a thread may wait for batch `n`, which is not 0, like this: before the batch takes its record, `words[n % 2]`
/// is set to `n`. While it holds `n`, the thread sleeps on it. Anything else means that the batch is durable: the zero,
/// a half of it, or the number of batch `n + 2`, which nobody sets before batch `n` was committed.
pub struct LinkedWake {
    ring: IoUring,
    target: Target,
    /// What the kernel reads and changes; leaked if it might go on with that.
    held: Option<Held>,
    /// Entries in the kernel.
    in_flight: usize,
}

struct Held {
    block: Block,
    words: Words,
    zeros: fs::File,
    /// Keeps the target's descriptor open.
    _file: File,
}

impl LinkedWake {
    /// A ring for commits of at most `len` bytes to `file`. Belongs to the thread that makes it.
    ///
    /// # Errors
    /// Why there is no ring; `Unsupported` if the kernel lacks the operation. Those of opening `/dev/zero`.
    ///
    /// # Panics
    /// If `len` is not a multiple of 4096.
    pub fn new(file: &File, len: usize, words: &Words) -> io::Result<Self> {
        assert!(len.is_multiple_of(BLOCK_ALIGN), "commits of {len} bytes");
        let config = RingConfig {
            engine: Engine::Uring,
            depth: 1,
            block_count: 1,
            block_len: len,
            lock: None,
        };
        let mut made = setup::make(&Running, &config, POOL)?;
        let needed = [
            (opcode::Read::CODE, "the operation READ"),
            (opcode::FutexWake::CODE, "the operation FUTEX_WAKE"),
        ];
        require_opcodes(&Running, &made.ring, &needed)?;
        let fd = RealFile::of(file)?.as_raw_fd();
        let target = register(&made.ring, made.file_count, fd)?;
        let block = made.pool.pop().expect("a pool of one");
        let zeros = fs::File::open("/dev/zero")?;
        let held = Held { block, words: words.clone(), zeros, _file: file.clone() };
        Ok(Self { ring: made.ring, target, held: Some(held), in_flight: 0 })
    }

    /// Makes `bytes` durable at `at`, padded to whole blocks by what was written before; then `words[word]` is zero, and
    /// those that slept on it are awake. Returns when all that was done.
    ///
    /// # Errors
    /// Those of the write, and of the calls. The ring is of no use afterwards; the word is as it was, unless it was the
    /// wake-up that failed.
    ///
    /// # Panics
    /// If `bytes` are none, or more than was said, or there is no such word, or after an error.
    pub fn commit(&mut self, bytes: &[u8], at: u64, word: usize) -> io::Result<()> {
        assert!(!bytes.is_empty() && self.in_flight == 0, "the commit before succeeded");
        let held = self.held.as_mut().expect("it is there until the drop");
        held.block[..bytes.len()].copy_from_slice(bytes);
        let len = bytes.len().next_multiple_of(BLOCK_ALIGN);
        for entry in held.links(self.target, len, at, word) {
            // SAFETY: all memory and files that the entries name are in `held`, which outlives them: the drop leaks it
            // if completions are missing. The block is changed by this function alone, when nothing is in
            // flight. The word is an atomic, which may change at any time.
            unsafe { entry::push(&mut self.ring, &entry) }
        }
        self.in_flight = LINKS;
        if self.ring.submit()? != LINKS {
            // The rest is not linked to what was taken, so it must not follow; the ring is given up.
            return Err(io::Error::other("the kernel took a part of the links"));
        }
        let mut results = [0; LINKS];
        while self.in_flight > 0 {
            wait(&self.ring)?;
            for completion in self.ring.completion() {
                self.in_flight -= 1;
                let link = usize::try_from(completion.user_data()).expect("the index of a link");
                results[link] = completion.result();
            }
        }
        judge(results, len)
    }
}

impl Held {
    fn links(&self, target: Target, len: usize, at: u64, word: usize) -> [squeue::Entry; LINKS] {
        let buffer = self.block.registered_with(POOL);
        let write = entry::write(target, &self.block[..len], buffer, at, libc::RWF_DSYNC);
        let word = self.words[word].as_ptr();
        let zeros = Fd(self.zeros.as_raw_fd());
        let clear = opcode::Read::new(zeros, word.cast(), WORD_LEN).build();
        let flags = (libc::FUTEX2_SIZE_U32 | libc::FUTEX2_PRIVATE) as u32;
        let any = u64::from(libc::FUTEX_BITSET_MATCH_ANY as u32);
        let wake = opcode::FutexWake::new(word, i32::MAX as u64, any, flags).build();
        [
            entry::link(write).user_data(WRITE as u64),
            entry::link(clear).user_data(CLEAR as u64),
            wake.user_data(WAKE as u64),
        ]
    }
}

fn register(ring: &IoUring, file_count: usize, fd: RawFd) -> io::Result<Target> {
    if file_count <= FILE_PLACE as usize {
        return Ok(Target::Plain(fd));
    }
    ring.submitter().register_files_update(FILE_PLACE, &[fd])?;
    Ok(Target::Registered(FILE_PLACE))
}

/// The first failure, in the order of the links: what follows it was cancelled.
fn judge(results: [i32; LINKS], len: usize) -> io::Result<()> {
    let done =
        |result: i32| usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
    if done(results[WRITE])? != len {
        return Err(io::ErrorKind::WriteZero.into());
    }
    if done(results[CLEAR])? != WORD_LEN as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    done(results[WAKE]).map(|_| ())
}

impl Drop for LinkedWake {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            std::mem::forget(self.held.take());
        }
    }
}

impl fmt::Debug for LinkedWake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkedWake").field("target", &self.target).finish_non_exhaustive()
    }
}
