//! Aligned memory that the kernel can write from and read into.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of every [`Block`]'s address, in bytes: enough for direct I/O on any device of today.
pub const BLOCK_ALIGN: usize = 4096;

/// Names a table of registered buffers; unique in the process.
pub(crate) type PoolId = u64;

/// An owned, zeroed, aligned buffer.
///
/// While a ring writes from it, the ring owns it; so nobody can change or free what the kernel
/// reads.
pub struct Block {
    ptr: NonNull<u8>,
    len: usize,
    /// The pool that the block was registered with, and its index there. A block may be pushed to
    /// another ring, whose table holds other memory at that index; so the index alone says
    /// nothing.
    registered: Option<(PoolId, u16)>,
}

impl Block {
    /// A zeroed block of `len` bytes.
    ///
    /// # Panics
    /// If `len` is 0 or not a multiple of 512.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        assert!(len > 0 && len.is_multiple_of(512), "block of {len} bytes");
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not 0.
        let ptr = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        Self { ptr, len, registered: None }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_ALIGN).expect("a block's size fits the address space")
    }

    /// The block's index in the table of `pool`, if it was registered there.
    #[cfg(target_os = "linux")]
    pub(crate) fn registered_with(&self, pool: PoolId) -> Option<u16> {
        self.registered.filter(|(owner, _)| *owner == pool).map(|(_, index)| index)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn set_registered(&mut self, pool: PoolId, index: u16) {
        self.registered = Some((pool, index));
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with the same layout; nobody else has the pointer.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialized bytes, borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` initialized bytes, borrowed exclusively as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len)
            .field("registered", &self.registered)
            .finish_non_exhaustive()
    }
}

// SAFETY: a block owns its memory alone, as a `Box<[u8]>` does.
unsafe impl Send for Block {}
// SAFETY: a shared block is only read.
unsafe impl Sync for Block {}
