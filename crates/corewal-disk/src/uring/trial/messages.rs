//! Messages between rings: `IORING_OP_MSG_RING` (5.18).

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};

use super::super::entry;
use super::super::setup::{Running, Sizes, require_opcodes, step_down};
use super::wait;

/// Messages that a mailbox holds before the kernel puts them aside.
const MAILBOX_ENTRIES: u32 = 8;

/// A ring that one thread waits on for messages.
pub struct Mailbox {
    /// Without flags, so that the kernel puts a message in on the thread of the sender: a ring that defers its
    /// completions gets them by way of its own thread.
    ring: IoUring,
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// Why there is no ring.
    pub fn new() -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(MAILBOX_ENTRIES)? })
    }

    /// Where a [`Messenger`] sends to.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn address(&self) -> io::Result<Address> {
        // SAFETY: the ring keeps its descriptor open for as long as it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        fd.try_clone_to_owned().map(Address)
    }

    /// The next message; sleeps until there is one.
    ///
    /// # Errors
    /// Those of io_uring_enter(2); an interruption is not one.
    pub fn receive(&mut self) -> io::Result<u64> {
        loop {
            if let Some(message) = self.ring.completion().next() {
                return Ok(message.user_data());
            }
            wait(&self.ring)?;
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// The address of a [`Mailbox`]: a descriptor of its ring.
#[derive(Debug)]
pub struct Address(OwnedFd);

/// Sends messages, as many as there are addresses by one system call.
pub struct Messenger {
    ring: IoUring,
}

impl Messenger {
    /// For at most `most` messages in a call; more take several. Belongs to the thread that makes it.
    ///
    /// # Errors
    /// Why there is no ring; `Unsupported` if the kernel lacks the operation.
    pub fn new(most: usize) -> io::Result<Self> {
        let (ring, _, _) = step_down(&Running, Sizes::of_entries(most))?;
        let needed = [(opcode::MsgRingData::CODE, "the operation MSG_RING")];
        require_opcodes(&Running, &ring, &needed)?;
        Ok(Self { ring })
    }

    /// Sends `message` to each address, and returns when it is in all mailboxes.
    ///
    /// # Errors
    /// Those of io_uring_enter(2), and the first refusal of a message.
    pub fn send<'a>(
        &mut self,
        message: u64,
        to: impl IntoIterator<Item = &'a Address>,
    ) -> io::Result<()> {
        let room = self.ring.params().sq_entries() as usize;
        let mut staged = 0;
        for Address(fd) in to {
            let entry = opcode::MsgRingData::new(Fd(fd.as_raw_fd()), 0, message, None).build();
            // SAFETY: names no memory; the descriptor is borrowed until `flush` has seen the completion.
            unsafe { entry::push(&mut self.ring, &entry) }
            staged += 1;
            if staged == room {
                self.flush(std::mem::take(&mut staged))?;
            }
        }
        self.flush(staged)
    }

    /// Hands over what is staged, and takes a completion for each.
    fn flush(&mut self, staged: usize) -> io::Result<()> {
        let mut outcome = Ok(());
        let mut left = staged;
        while left > 0 {
            match self.ring.submitter().submit_and_wait(left) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(_) | Err(_) => {}
            }
            for completion in self.ring.completion() {
                left -= 1;
                if completion.result() < 0 && outcome.is_ok() {
                    outcome = Err(io::Error::from_raw_os_error(-completion.result()));
                }
            }
        }
        outcome
    }
}

impl fmt::Debug for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messenger").finish_non_exhaustive()
    }
}
