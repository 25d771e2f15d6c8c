//! Short inputs: the processor's CRC instruction, three runs of it side by side where that pays.
//!
//! The instruction takes three cycles and could begin every cycle, but each waits for the one before: one run uses
//! a third of what the processor can do. So blocks are cut into three runs. The CRC of `a` followed by `b` is the
//! CRC of `a`, multiplied by `x^(8 |b|)`, plus the CRC of `b` from zero; all of it modulo the polynomial.

use std::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128,
    _mm_cvtsi128_si64, _mm_xor_si128,
};

/// From here on the routine for long inputs is faster: its smallest stride.
const LONG_LEN: usize = 768;
/// The polynomial without its highest power; the lowest bit stands for the highest power.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// `x^exponent`, modulo the polynomial.
const fn power(exponent: usize) -> u32 {
    let mut value = 1 << 31;
    let mut n = 0;
    while n < exponent {
        let carry = if value & 1 == 1 { POLYNOMIAL } else { 0 };
        value = value >> 1 ^ carry;
        n += 1;
    }
    value
}

/// Continues `crc` over `bytes`; none if they are long, or the processor does not have the instructions.
#[inline]
pub(crate) fn extend(crc: u32, bytes: &[u8]) -> Option<u32> {
    if bytes.len() >= LONG_LEN
        || !is_x86_feature_detected!("sse4.2")
        || !is_x86_feature_detected!("pclmulqdq")
    {
        return None;
    }
    // SAFETY: the processor has SSE 4.2 and PCLMULQDQ, as was asked in the lines before.
    Some(unsafe { all(crc, bytes) })
}

#[target_feature(enable = "sse4.2,pclmulqdq")]
fn all(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    let mut rest = bytes;
    // An entry's CRC starts behind its own four bytes: with them the words behind are aligned.
    if let Some((word, behind)) = rest.split_first_chunk()
        && rest.len() % 8 >= 4
    {
        crc = _mm_crc32_u32(crc, u32::from_le_bytes(*word));
        rest = behind;
    }
    let (crc, rest) = blocks::<192>(crc, rest);
    let (crc, rest) = blocks::<96>(crc, rest);
    let (mut crc, mut rest) = (crc, rest);
    while let Some((word, behind)) = rest.split_first_chunk() {
        crc = step(crc, *word);
        rest = behind;
    }
    if let Some((word, behind)) = rest.split_first_chunk() {
        crc = _mm_crc32_u32(crc, u32::from_le_bytes(*word));
        rest = behind;
    }
    !rest.iter().fold(crc, |crc, &byte| _mm_crc32_u8(crc, byte))
}

/// Continues `crc` over as many blocks of `LEN` bytes as there are, each in three runs; and what is left.
#[target_feature(enable = "sse4.2,pclmulqdq")]
#[inline]
fn blocks<const LEN: usize>(mut crc: u32, mut bytes: &[u8]) -> (u32, &[u8]) {
    // What moves a CRC over one run, and over two. A product of two such numbers stands for one power more than its
    // factors, and the CRC of the product adds 32: so the factor for `x^p` is `x^(p - 33)`.
    let (over_one, over_two) = const { (power(8 * LEN / 3 - 33), power(16 * LEN / 3 - 33)) };
    while let Some((block, behind)) = bytes.split_first_chunk::<LEN>() {
        let (words, _) = block.as_chunks();
        let run = LEN / 24;
        let (mut a, mut b, mut c) = (crc, 0, 0);
        for n in 0..run {
            a = step(a, words[n]);
            b = step(b, words[run + n]);
            c = step(c, words[2 * run + n]);
        }
        let moved = _mm_xor_si128(product(a, over_two), product(b, over_one));
        crc = c ^ step(0, _mm_cvtsi128_si64(moved).to_le_bytes());
        bytes = behind;
    }
    (crc, bytes)
}

#[target_feature(enable = "sse4.2")]
#[inline]
fn step(crc: u32, word: [u8; 8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the instruction clears the upper half")]
    let crc = _mm_crc32_u64(u64::from(crc), u64::from_le_bytes(word)) as u32;
    crc
}

#[target_feature(enable = "sse4.2,pclmulqdq")]
#[inline]
fn product(a: u32, b: u32) -> __m128i {
    _mm_clmulepi64_si128(_mm_cvtsi64_si128(a.into()), _mm_cvtsi64_si128(b.into()), 0)
}
