//! CRC32C (RFC 3720, appendix B.4; polynomial 0x1EDC6F41, reflected), fast for short inputs too.
//!
//! A log computes a CRC for each entry, and entries are short: at a hundred bytes the entry and exit of a
//! routine made for long inputs costs as much as the bytes. So short inputs go through one loop of the
//! processor's CRC instruction, long ones through the `crc32c` crate, which runs three such loops side by side.
//!
//! ```
//! assert_eq!(corewal_crc::crc32c(b"123456789"), 0xE306_9283);
//! assert_eq!(corewal_crc::extend(corewal_crc::crc32c(b"1234"), b"56789"), 0xE306_9283);
//! ```
#![cfg_attr(not(any(feature = "std", test)), no_std)]

#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod short;
#[cfg(any(test, not(feature = "std")))]
mod table;

/// CRC32C of `bytes`.
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    extend(0, bytes)
}

/// Continues `crc` over `bytes`: `extend(extend(0, a), b)` is the CRC of `a` followed by `b`.
#[cfg(feature = "std")]
#[must_use]
#[inline]
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = short::extend(crc, bytes) {
        return crc;
    }
    crc32c::crc32c_append(crc, bytes)
}

/// Continues `crc` over `bytes`, by a table.
#[cfg(not(feature = "std"))]
#[must_use]
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    table::extend(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        (0..u32::try_from(len).expect("short"))
            .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2])
            .collect()
    }

    #[test]
    fn the_check_value_holds() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(table::extend(0, b"123456789"), 0xE306_9283);
    }

    /// Around the length where the long routine takes over, and at every alignment.
    #[test]
    fn all_ways_agree_at_every_length_and_alignment() {
        let bytes = noise(1100);
        for at in 0..9 {
            for len in 0..1000 {
                let part = &bytes[at..at + len];
                assert_eq!(extend(7, part), table::extend(7, part), "{len} bytes at {at}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_crc_continues_over_any_cut(bytes: Vec<u8>, crc: u32, cut: proptest::sample::Index) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            assert_eq!(extend(extend(crc, head), tail), extend(crc, &bytes));
        }
    }
}
