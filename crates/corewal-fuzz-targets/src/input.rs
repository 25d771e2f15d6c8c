//! Reading a fuzzer's bytes: never fails, gives zeros behind the end.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Up to `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `count`; 0 if there is none.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        usize::from(self.u16()) % count.max(1)
    }

    /// A number that a check may stumble over, or any.
    pub(crate) fn number(&mut self, old: u64) -> u64 {
        match self.u8() {
            choice @ 0..=15 => u64::from(choice),
            16 => u64::MAX,
            17 => u64::MAX - 1,
            18 => u64::MAX - 2,
            19 => i64::MAX.cast_unsigned(),
            20 => u64::from(u32::MAX),
            21 => u64::from(u32::MAX) + 1,
            22 => u64::from(u32::MAX) - 1,
            23 => old.wrapping_add(1),
            24 => old.wrapping_sub(1),
            25 => old.wrapping_mul(2),
            26 => old >> 1,
            27 => old ^ (1 << (self.u8() % 64)),
            28 => old.wrapping_add(u64::from(self.u16())),
            29 => u64::MAX - u64::from(self.u16()),
            30 => u64::from(self.u8()) * 512,
            31 => u64::from(self.u16()),
            _ => self.u64(),
        }
    }
}
