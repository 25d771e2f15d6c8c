//! The records that cells append, and how they are found again: each names its producer and its number.

/// Where the number stands, in bytes; behind it stands the producer's.
const INDEX: std::ops::Range<usize> = 0..8;
const PRODUCER: std::ops::Range<usize> = 8..12;
/// The shortest record, in bytes.
pub const MIN_LEN: usize = 16;

/// Makes the records of one producer, one after the other, in the same memory.
#[derive(Clone, Debug)]
pub struct Records {
    bytes: Vec<u8>,
    index: u64,
}

impl Records {
    /// Records of `len` bytes.
    ///
    /// # Panics
    /// If `len` is below [`MIN_LEN`].
    #[must_use]
    pub fn new(producer: u32, len: usize) -> Self {
        assert!(len >= MIN_LEN, "records of {len} bytes");
        let mut bytes: Vec<u8> =
            (1..=u8::MAX).cycle().skip(producer as usize % 97).take(len).collect();
        bytes[PRODUCER].copy_from_slice(&producer.to_le_bytes());
        bytes[PRODUCER.end..MIN_LEN].fill(0xA5);
        let mut records = Self { bytes, index: 0 };
        records.stamp();
        records
    }

    fn stamp(&mut self) {
        self.bytes[INDEX].copy_from_slice(&self.index.to_le_bytes());
    }

    /// The next record; the same one until [`advance`](Self::advance).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The record was appended.
    pub fn advance(&mut self) {
        self.index += 1;
        self.stamp();
    }

    /// How many were appended.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.index
    }
}

/// Sees the records of a log that was reopened.
#[derive(Debug)]
pub struct Check {
    /// Of each producer, the next record that should come.
    next: Vec<Records>,
}

impl Check {
    /// For the records of `producers` producers, numbered from 0.
    #[must_use]
    pub fn new(producers: u32, len: usize) -> Self {
        Self { next: (0..producers).map(|it| Records::new(it, len)).collect() }
    }

    /// The log begins with this record: what stood before it was released. Returns its number.
    ///
    /// # Errors
    /// It is nobody's.
    pub fn begin_at(&mut self, bytes: &[u8]) -> Result<u64, String> {
        let index = bytes.first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        let next = self.producer_of(bytes)?;
        next.index = index;
        next.stamp();
        Ok(index)
    }

    fn producer_of(&mut self, bytes: &[u8]) -> Result<&mut Records, String> {
        let producer = bytes.get(PRODUCER).and_then(|it| it.first_chunk());
        let producer = producer.map(|it| u32::from_le_bytes(*it));
        let next = producer.and_then(|it| self.next.get_mut(it as usize));
        next.ok_or_else(|| "a record of nobody".into())
    }

    /// Takes a record in, in the order of the log.
    ///
    /// # Errors
    /// It is not the next one of its producer.
    pub fn see(&mut self, bytes: &[u8]) -> Result<(), String> {
        let next = self.producer_of(bytes)?;
        if bytes != next.bytes() {
            return Err(format!("record {} of its producer is another", next.count()));
        }
        next.advance();
        Ok(())
    }

    /// Whether what each producer knows to be durable was there. Returns how many records were seen.
    ///
    /// # Errors
    /// Acknowledged records are missing.
    pub fn end(self, acknowledged: &[u64]) -> Result<u64, String> {
        for (producer, acknowledged) in acknowledged.iter().enumerate() {
            let found = self.next.get(producer).map_or(0, Records::count);
            if found < *acknowledged {
                return Err(format!(
                    "{found} of {acknowledged} acknowledged records of producer {producer} are there"
                ));
            }
        }
        Ok(self.next.iter().map(Records::count).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_different_is_noticed() {
        let (mut first, second) = (Records::new(0, 128), Records::new(1, 128));
        let mut check = Check::new(2, 128);
        assert_eq!(check.see(first.bytes()), Ok(()));
        assert_eq!(check.see(second.bytes()), Ok(()));
        assert!(check.see(first.bytes()).is_err(), "twice");
        first.advance();
        let mut changed = first.bytes().to_vec();
        changed[127] ^= 1;
        assert!(check.see(&changed).is_err());
        assert!(check.see(&first.bytes()[..127]).is_err());
        assert!(check.see(Records::new(2, 128).bytes()).is_err(), "of nobody");
        assert_eq!(check.see(first.bytes()), Ok(()));
        assert_eq!(Check { next: check.next.clone() }.end(&[2, 1]), Ok(3));
        assert!(check.end(&[2, 2]).is_err());
    }
}
