//! Reading and writing little-endian fields at fixed offsets.

/// Writes `value`'s bytes at `at`.
///
/// The offsets are constants that const assertions hold inside the buffers.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// The `N` bytes at `at`.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Words first: padding of whole blocks is checked on the recovery path.
    let (head, words, tail) = (bytes.chunks_exact(16), bytes, bytes);
    let tail = &tail[words.len() - head.remainder().len()..];
    head.into_iter().all(|word| u128::from_le_bytes(take(word, 0)) == 0)
        && tail.iter().all(|&byte| byte == 0)
}
