//! Any processor, without std.

/// Continues `crc` over `bytes`, byte by byte.
pub(crate) fn extend(crc: u32, bytes: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "an index of 256 values fits")]
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!crc, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        crc >> 8 ^ TABLE[usize::from(low ^ byte)]
    })
}
