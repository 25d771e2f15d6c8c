//! Submission entries.

use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Fixed, FsyncFlags};
use io_uring::{IoUring, opcode};

/// How an entry names its file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// By its index in the kernel's table.
    Registered(u32),
    /// By its descriptor.
    Plain(RawFd),
}

/// A write of `bytes`; `buffer` is the index of the registered buffer that holds them.
pub(super) fn write(
    target: Target,
    bytes: &[u8],
    buffer: Option<u16>,
    at: u64,
    rw_flags: i32,
) -> Entry {
    use opcode::{Write, WriteFixed};

    let start = bytes.as_ptr();
    let len = u32::try_from(bytes.len()).expect("a part is short");
    match (target, buffer) {
        (Target::Registered(index), Some(buffer)) => {
            WriteFixed::new(Fixed(index), start, len, buffer).offset(at).rw_flags(rw_flags).build()
        }
        (Target::Plain(fd), Some(buffer)) => {
            WriteFixed::new(Fd(fd), start, len, buffer).offset(at).rw_flags(rw_flags).build()
        }
        (Target::Registered(index), None) => {
            Write::new(Fixed(index), start, len).offset(at).rw_flags(rw_flags).build()
        }
        (Target::Plain(fd), None) => {
            Write::new(Fd(fd), start, len).offset(at).rw_flags(rw_flags).build()
        }
    }
}

/// fdatasync.
pub(super) fn sync(target: Target) -> Entry {
    match target {
        Target::Registered(index) => {
            opcode::Fsync::new(Fixed(index)).flags(FsyncFlags::DATASYNC).build()
        }
        Target::Plain(fd) => opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC).build(),
    }
}

/// Completes once when `fd` is readable.
pub(super) fn watch(fd: RawFd) -> Entry {
    opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build()
}

/// Makes the next entry wait for this one, and be cancelled if this one fails or is short.
pub(super) fn link(entry: Entry) -> Entry {
    entry.flags(Flags::IO_LINK)
}

/// Makes this entry wait for all before it, and all after it wait for this one.
pub(super) fn drain(entry: Entry) -> Entry {
    entry.flags(Flags::IO_DRAIN)
}

/// Puts an entry into the submission queue, which has room.
///
/// # Safety
/// The memory and the descriptor that the entry names stay valid, and the memory unchanged, until
/// its completion was taken from the completion queue.
pub(super) unsafe fn push(ring: &mut IoUring, entry: &Entry) {
    // SAFETY: as the caller promises.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.expect("the caller has seen that the queue has room");
}
