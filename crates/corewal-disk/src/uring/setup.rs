//! Making a ring from what the kernel grants.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, Probe, opcode};

use crate::block::PoolId;
use crate::inflight::PART_LEN;
use crate::real::RealFile;
use crate::{Block, RingConfig};

/// A flag of io_uring_setup(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// Only the thread that made the ring submits (6.0).
    SingleIssuer,
    /// Completions are worked on in calls that ask for them, not in interrupts (6.1).
    DeferTaskrun,
    /// Completions do not interrupt the thread (5.19).
    CoopTaskrun,
    /// The ring says in memory when completions wait for a call (5.19).
    Taskrun,
    /// An entry that is refused does not stop the submission of the next (5.18).
    SubmitAll,
}

impl Flag {
    fn name(self) -> &'static str {
        match self {
            Self::SingleIssuer => "SINGLE_ISSUER",
            Self::DeferTaskrun => "DEFER_TASKRUN",
            Self::CoopTaskrun => "COOP_TASKRUN",
            Self::Taskrun => "TASKRUN_FLAG",
            Self::SubmitAll => "SUBMIT_ALL",
        }
    }
}

const SETUP: &str = "io_uring_setup";

/// What is tried, in order. Each step is without some flag of the one before.
const STEPS: [&[Flag]; 4] = [
    &[Flag::SingleIssuer, Flag::DeferTaskrun, Flag::Taskrun, Flag::SubmitAll],
    &[Flag::SingleIssuer, Flag::CoopTaskrun, Flag::Taskrun, Flag::SubmitAll],
    &[Flag::CoopTaskrun, Flag::Taskrun, Flag::SubmitAll],
    &[],
];

/// Entries of a table of registered files; the first is the lock's.
const FILE_COUNT: usize = 64;
/// The kernel's limit (io_uring_setup(2)).
const MAX_COMPLETIONS: usize = 65_536;
/// Submission entries: more are handed over in several calls.
const MAX_SUBMISSIONS: usize = 4_096;
/// Room for the parts of operations with more of them than a block of the pool.
const SPARE_COMPLETIONS: usize = 64;

/// Sizes of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    submissions: u32,
    completions: u32,
}

impl Sizes {
    /// Room for `depth` operations on blocks of the pool with a sync each. What a larger operation
    /// needs beyond that waits for completions.
    fn of(config: &RingConfig) -> Self {
        let parts = config.block_len.div_ceil(PART_LEN).saturating_add(1);
        let entries = parts.saturating_mul(config.depth as usize);
        let submissions = entries.clamp(8, MAX_SUBMISSIONS).next_power_of_two();
        let completions = entries
            .saturating_add(SPARE_COMPLETIONS)
            .max(submissions)
            .min(MAX_COMPLETIONS)
            .next_power_of_two();
        let narrow = |count| u32::try_from(count).expect("at most 65,536");
        Self { submissions: narrow(submissions), completions: narrow(completions) }
    }

    /// Room for `entries` entries with a completion each.
    pub(super) fn of_entries(entries: usize) -> Self {
        let entries = entries.clamp(1, MAX_SUBMISSIONS).next_power_of_two();
        let entries = u32::try_from(entries).expect("at most 4,096");
        Self { submissions: entries, completions: entries }
    }
}

/// The calls of the set-up. Each stands alone so that a test can refuse it.
pub(super) trait Kernel {
    fn ring(&self, sizes: Sizes, flags: &[Flag]) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(sizes.completions);
        for flag in flags {
            match flag {
                Flag::SingleIssuer => builder.setup_single_issuer(),
                Flag::DeferTaskrun => builder.setup_defer_taskrun(),
                Flag::CoopTaskrun => builder.setup_coop_taskrun(),
                Flag::Taskrun => builder.setup_taskrun_flag(),
                Flag::SubmitAll => builder.setup_submit_all(),
            };
        }
        builder.build(sizes.submissions)
    }

    /// One io_uring_enter(2) that submits nothing.
    fn enter(&self, ring: &IoUring) -> io::Result<()> {
        ring.submitter().submit().map(|_| ())
    }

    fn probe(&self, ring: &IoUring) -> io::Result<Probe> {
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        Ok(probe)
    }

    fn register_files(&self, ring: &IoUring, fds: &[RawFd]) -> io::Result<()> {
        ring.submitter().register_files(fds)
    }

    fn register_blocks(&self, ring: &IoUring, pool: &[Block]) -> io::Result<()> {
        register_blocks(ring, pool)
    }
}

/// The kernel that runs this program.
#[derive(Debug)]
pub(super) struct Running;

impl Kernel for Running {}

/// A ring, and what the kernel granted.
pub(super) struct Made {
    pub(super) ring: IoUring,
    pub(super) flags: Vec<&'static str>,
    pub(super) refused_flags: Vec<&'static str>,
    /// Entries of the table of registered files; 0 if there is none.
    pub(super) file_count: usize,
    pub(super) pool: Vec<Block>,
    pub(super) pool_id: PoolId,
    pub(super) registered_blocks: Result<(), String>,
}

/// Makes a ring, on the thread that will use it.
pub(super) fn make(
    kernel: &impl Kernel,
    config: &RingConfig,
    pool_id: PoolId,
) -> Result<Made, Refusal> {
    let (ring, flags, refused_flags) = step_down(kernel, Sizes::of(config))?;
    // A filter may let rings be made and refuse their use; the first commit is too late to learn that.
    kernel.enter(&ring).map_err(|error| Refusal { call: "io_uring_enter", error })?;
    require_opcodes(kernel, &ring, &NEEDED)?;
    let file_count = register_files(kernel, &ring, config)?;
    let mut pool = config.pool();
    let registered_blocks = if pool.is_empty() {
        Err("the pool has no blocks".into())
    } else {
        kernel.register_blocks(&ring, &pool).map_err(|error| {
            let refusal = Refusal { call: "io_uring_register(BUFFERS)", error };
            refusal.to_string()
        })
    };
    if registered_blocks.is_ok() {
        for (index, block) in pool.iter_mut().enumerate() {
            let index = u16::try_from(index).expect("the kernel registers at most 16,384 buffers");
            block.set_registered(pool_id, index);
        }
    }
    Ok(Made { ring, flags, refused_flags, file_count, pool, pool_id, registered_blocks })
}

/// The ring, the names of its flags, and of those that were refused.
type Stepped = (IoUring, Vec<&'static str>, Vec<&'static str>);

/// The first of [`STEPS`] that the kernel knows. `EINVAL` is how it refuses a flag; any other error
/// would meet every step.
pub(super) fn step_down(kernel: &impl Kernel, sizes: Sizes) -> Result<Stepped, Refusal> {
    let mut refused = Vec::new();
    for (step, flags) in STEPS.iter().enumerate() {
        match kernel.ring(sizes, flags) {
            Ok(ring) => return Ok((ring, flags.iter().map(|flag| flag.name()).collect(), refused)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let next = STEPS.get(step + 1).copied().unwrap_or_default();
                let dropped = flags.iter().filter(|flag| !next.contains(flag));
                refused.extend(dropped.map(|flag| flag.name()));
            }
            Err(error) => return Err(Refusal { call: SETUP, error }),
        }
    }
    let error = io::Error::from_raw_os_error(libc::EINVAL);
    Err(Refusal { call: SETUP, error })
}

/// What every ring of a log needs.
const NEEDED: [(u8, &str); 3] = [
    (opcode::Write::CODE, "the operation WRITE"),
    (opcode::WriteFixed::CODE, "the operation WRITE_FIXED"),
    (opcode::Fsync::CODE, "the operation FSYNC"),
];

/// Operations by their codes, with what they are called in a refusal.
pub(super) fn require_opcodes(
    kernel: &impl Kernel,
    ring: &IoUring,
    needed: &[(u8, &'static str)],
) -> Result<(), Refusal> {
    let probe =
        kernel.probe(ring).map_err(|error| Refusal { call: "io_uring_register(PROBE)", error })?;
    for &(code, call) in needed {
        if !probe.is_supported(code) {
            return Err(Refusal { call, error: io::Error::from_raw_os_error(libc::EOPNOTSUPP) });
        }
    }
    Ok(())
}

/// Registers the lock and as many empty places as can be had. Without the lock there is no ring:
/// after a kill the lock must stay until the last write has landed.
fn register_files(
    kernel: &impl Kernel,
    ring: &IoUring,
    config: &RingConfig,
) -> Result<usize, Refusal> {
    let refusal = |error| Refusal { call: "io_uring_register(FILES)", error };
    let mut fds = [NO_FILE; FILE_COUNT];
    if let Some(lock) = &config.lock {
        fds[0] = RealFile::of(lock.file()).map_err(refusal)?.as_raw_fd();
    }
    match kernel.register_files(ring, &fds) {
        Ok(()) => Ok(fds.len()),
        Err(_) if config.lock.is_none() => Ok(0),
        Err(_) => kernel.register_files(ring, &fds[..1]).map(|()| 1).map_err(refusal),
    }
}

/// An empty place in a table of registered files.
pub(super) const NO_FILE: RawFd = -1;
/// The lock's place in the table.
pub(super) const LOCK_PLACE: u32 = 0;

fn register_blocks(ring: &IoUring, pool: &[Block]) -> io::Result<()> {
    let parts: Vec<libc::iovec> = pool
        .iter()
        .map(|block| libc::iovec {
            iov_base: block.as_ptr().cast_mut().cast(),
            iov_len: block.len(),
        })
        .collect();
    // SAFETY: the parts are live memory. The kernel pins its pages, so that a block may be freed
    // before the ring; it reads them only for a write that names the buffer's index, and such a
    // write is made only from the live block with that index, which its operation owns until it
    // is reaped.
    unsafe { ring.submitter().register_buffers(&parts) }
}

/// A call that the kernel refused, so that there is no ring.
#[derive(Debug)]
pub(super) struct Refusal {
    call: &'static str,
    error: io::Error,
}

impl Refusal {
    fn hint(&self) -> &'static str {
        match self.error.raw_os_error() {
            Some(libc::EPERM) => " (EPERM): forbidden by seccomp or kernel.io_uring_disabled",
            Some(libc::EACCES) => " (EACCES): forbidden by a security module",
            Some(libc::ENOSYS) => " (ENOSYS): not in this kernel, or hidden by a sandbox",
            Some(libc::ENOMEM) => {
                " (ENOMEM): the limit of locked memory, RLIMIT_MEMLOCK, is too low"
            }
            Some(libc::EMFILE) => " (EMFILE): the limit of open files, RLIMIT_NOFILE, is reached",
            Some(libc::EINVAL) if self.call == SETUP => " (EINVAL): the kernel is too old",
            _ => "",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.call, self.error, self.hint())
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.error.kind(), refusal.to_string())
    }
}
