//! Ways to wake threads by io_uring, there to be measured. No ring of a log uses them: see what was tried in
//! docs/PERFORMANCE.md.
//!
//! | trial | who wakes | how a thread knows that its bytes are durable |
//! |---|---|---|
//! | [`LinkedWake`] | the kernel, as links of the durable write | its word is zero, which the kernel makes it after the write |
//! | [`Messenger`] | the writer, one message for each thread | the message, which the writer sends after the write |
//!
//! Where there is no io_uring, none of them can be made.

#[cfg(not(target_os = "linux"))]
pub use absent::{Address, LinkedWake, Mailbox, Messenger};

#[cfg(target_os = "linux")]
pub use crate::uring::trial::{Address, LinkedWake, Mailbox, Messenger};

/// Two words, for every other batch each; see [`LinkedWake`].
pub type Words = std::sync::Arc<[std::sync::atomic::AtomicU32; 2]>;

/// The same names where they cannot be had.
#[cfg(not(target_os = "linux"))]
mod absent {
    use std::convert::Infallible;
    use std::io;

    use super::Words;
    use crate::File;

    fn absent<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring is a part of Linux"))
    }

    /// Cannot be made here.
    #[derive(Debug)]
    pub struct LinkedWake(Infallible);

    impl LinkedWake {
        /// There is none here.
        ///
        /// # Errors
        /// Always.
        pub fn new(_file: &File, _len: usize, _words: &Words) -> io::Result<Self> {
            absent()
        }

        /// Cannot be called.
        ///
        /// # Errors
        /// None.
        pub fn commit(&mut self, _bytes: &[u8], _at: u64, _word: usize) -> io::Result<()> {
            match self.0 {}
        }
    }

    /// Cannot be made here.
    #[derive(Debug)]
    pub struct Mailbox(Infallible);

    impl Mailbox {
        /// There is none here.
        ///
        /// # Errors
        /// Always.
        pub fn new() -> io::Result<Self> {
            absent()
        }

        /// Cannot be called.
        ///
        /// # Errors
        /// None.
        pub fn address(&self) -> io::Result<Address> {
            match self.0 {}
        }

        /// Cannot be called.
        ///
        /// # Errors
        /// None.
        pub fn receive(&mut self) -> io::Result<u64> {
            match self.0 {}
        }
    }

    /// Cannot be made here.
    #[derive(Debug)]
    pub struct Address(Infallible);

    /// Cannot be made here.
    #[derive(Debug)]
    pub struct Messenger(Infallible);

    impl Messenger {
        /// There is none here.
        ///
        /// # Errors
        /// Always.
        pub fn new(_most: usize) -> io::Result<Self> {
            absent()
        }

        /// Cannot be called.
        ///
        /// # Errors
        /// None.
        pub fn send<'a>(
            &mut self,
            _message: u64,
            _to: impl IntoIterator<Item = &'a Address>,
        ) -> io::Result<()> {
            match self.0 {}
        }
    }
}
