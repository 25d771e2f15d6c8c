//! Sizes, times and paces as people write them.

use std::num::NonZeroU64;
use std::time::Duration;

/// When epochs are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// After so many lines.
    Lines(NonZeroU64),
    /// After so much time, if anything was read in it.
    Time(Duration),
}

/// Parses a size in bytes: `4096`, `256KiB`, `64M`, `1GiB`. Units are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("unit {unit:?} is not one of B, KiB, MiB, GiB")),
    };
    let number: u64 = number.parse().map_err(|_| "a size starts with a whole number".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is too large".to_owned())
}

/// Parses a time: `250us`, `100ms`, `2s`, `1m`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let us_each: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        _ => return Err(format!("unit {unit:?} is not one of us, ms, s, m")),
    };
    let number: u64 = number.parse().map_err(|_| "a time starts with a whole number".to_owned())?;
    match number.checked_mul(us_each) {
        None => Err("that is too long".to_owned()),
        Some(0) => Err("must be above zero".to_owned()),
        Some(us) => Ok(Duration::from_micros(us)),
    }
}

/// Parses a pace: a whole number of lines, or a time.
pub(crate) fn parse_pace(text: &str) -> Result<Pace, String> {
    match text.parse::<u64>() {
        Ok(lines) => {
            NonZeroU64::new(lines).map(Pace::Lines).ok_or_else(|| "must be above zero".to_owned())
        }
        Err(_) => parse_time(text)
            .map(Pace::Time)
            .map_err(|why| format!("neither a number of lines nor a time: {why}")),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("64 m"), Ok(64 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        for wrong in ["", "MiB", "64MB", "-1", "1.5M", "99999999999GiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pace_is_a_count_or_a_time() {
        assert_eq!(parse_pace("100ms"), Ok(Pace::Time(Duration::from_millis(100))));
        assert_eq!(parse_pace("2s"), Ok(Pace::Time(Duration::from_secs(2))));
        assert_eq!(parse_pace("1000").ok(), NonZeroU64::new(1000).map(Pace::Lines));
        for wrong in ["0", "0ms", "", "ms", "1h", "-5", "99999999999999999999m"] {
            assert!(parse_pace(wrong).is_err(), "{wrong}");
        }
    }
}
