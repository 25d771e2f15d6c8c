//! The records whose serialization is measured.

use corewal::Record;

/// 128 bytes.
#[derive(rkyv::Archive, rkyv::Serialize, Clone, Copy, Debug)]
pub struct Fixed {
    /// All of it.
    pub fields: [u64; 16],
}

impl Record for Fixed {}

impl Fixed {
    /// An example.
    #[must_use]
    pub fn example() -> Self {
        Self { fields: [0xA5; 16] }
    }
}

/// 128 bytes when it is archived, with strings that are too long to be stored inline.
#[derive(rkyv::Archive, rkyv::Serialize, Clone, Debug)]
pub struct Flight {
    /// Of the departure.
    pub date: String,
    /// Airport.
    pub origin: String,
    /// Airport.
    pub destination: String,
    /// Two letters.
    pub carrier: String,
    /// In minutes.
    pub delay: i32,
    /// In miles.
    pub distance: u32,
}

impl Record for Flight {}

impl Flight {
    /// An example.
    #[must_use]
    pub fn example() -> Self {
        Self {
            date: "2001/01/01 00:47 local time".into(),
            origin: "Detroit Metropolitan".into(),
            destination: "Harry Reid International".into(),
            carrier: "WN".into(),
            delay: 66,
            distance: 1750,
        }
    }
}
