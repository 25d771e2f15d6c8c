//! Short inputs: one word after the other through the CRC instruction of SSE 4.2.

use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

/// From here on three loops side by side are faster than one: their routine's smallest stride.
const LONG_LEN: usize = 768;

/// Continues `crc` over `bytes`; none if they are long, or the processor does not have the instruction.
#[inline]
pub(crate) fn extend(crc: u32, bytes: &[u8]) -> Option<u32> {
    if bytes.len() >= LONG_LEN || !is_x86_feature_detected!("sse4.2") {
        return None;
    }
    // SAFETY: the processor has SSE 4.2, as was asked in the line before.
    Some(unsafe { words(crc, bytes) })
}

#[target_feature(enable = "sse4.2")]
fn words(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    let mut rest = bytes;
    // An entry's CRC starts behind its own four bytes: with them the words behind are aligned.
    if let Some((word, behind)) = rest.split_first_chunk()
        && rest.len() % 8 >= 4
    {
        crc = _mm_crc32_u32(crc, u32::from_le_bytes(*word));
        rest = behind;
    }
    let (words, rest) = rest.as_chunks();
    let crc = words
        .iter()
        .fold(u64::from(crc), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
    let [a, b, c, d, ..] = crc.to_le_bytes();
    let crc = u32::from_le_bytes([a, b, c, d]);
    !rest.iter().fold(crc, |crc, &byte| _mm_crc32_u8(crc, byte))
}
