//! Options as a TOML table: one key for each, sizes and times as strings with units.

use std::path::PathBuf;
use std::time::Duration;

use corewal_disk::Engine;
use corewal_format::SchemaId;
use toml::{Table, Value};

use super::{AccessWish, Options, OptionsError, Policy, Preparing, SyncMethod};

/// Why a text gives no options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TomlError {
    /// It is not TOML.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// There is no such option.
    #[error("unknown option {key}; known are {}", known().join(", "))]
    Unknown {
        /// What the text has.
        key: String,
    },
    /// An option cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// An option in a table. `set` returns the rule that a value breaks.
struct Key {
    name: &'static str,
    set: fn(&mut Options, &Value) -> Result<(), String>,
    show: fn(&Options) -> Value,
}

/// A key whose option is converted by these two functions.
macro_rules! key {
    ($field:ident, $parse:expr, $show:expr) => {
        Key {
            name: stringify!($field),
            set: |options, value| {
                options.$field = $parse(value)?;
                Ok(())
            },
            show: |options| $show(options.$field.clone()),
        }
    };
}

const KEYS: [Key; 22] = [
    key!(dir, parse_path, |it: PathBuf| Value::from(it.display().to_string())),
    key!(engine, |it| parse_name(it, &ENGINES), |it| show_name(it, &ENGINES)),
    key!(shards, parse_count, show_count),
    key!(block_len, parse_size, show_size),
    key!(segment_len, parse_size, show_size),
    key!(first_segment_len, parse_size, show_size),
    key!(write_len, parse_size, show_size),
    key!(depth, parse_count, show_count),
    key!(max_record, parse_size, show_size),
    key!(max_batch, parse_size, show_size),
    key!(prepared_ahead, parse_count, show_count),
    key!(pipeline_bound, parse_count, show_count),
    key!(vouch_after, parse_time, show_time),
    key!(sync_method, |it| parse_name(it, &SYNC_METHODS), |it| show_name(it, &SYNC_METHODS)),
    key!(policy, parse_policy, show_policy),
    key!(access, |it| parse_name(it, &ACCESS), |it| show_name(it, &ACCESS)),
    key!(schema, parse_schema, |it: SchemaId| Value::from(format!("{:#x}", it.0))),
    key!(lock_patience, parse_time, show_time),
    key!(preparing, |it| parse_name(it, &PREPARING), |it| show_name(it, &PREPARING)),
    key!(spare_segments, parse_count, show_count),
    key!(rotate_after_entries, parse_count, show_count),
    key!(rotate_after, parse_time, show_time),
];

type Names<T, const N: usize> = [(&'static str, T); N];

const ENGINES: Names<Engine, 3> =
    [("auto", Engine::Auto), ("uring", Engine::Uring), ("blocking", Engine::Blocking)];
const SYNC_METHODS: Names<SyncMethod, 4> = [
    ("auto", SyncMethod::Auto),
    ("dsync", SyncMethod::Dsync),
    ("after-write", SyncMethod::AfterWrite),
    ("linked", SyncMethod::Linked),
];
const ACCESS: Names<AccessWish, 2> =
    [("direct", AccessWish::Direct), ("buffered", AccessWish::Buffered)];
const PREPARING: Names<Preparing, 2> =
    [("thread", Preparing::Thread), ("manual", Preparing::Manual)];

const SIZES: Names<u64, 4> = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIMES: Names<u64, 5> =
    [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("min", 60_000_000_000)];

impl Options {
    /// Options from a TOML text: `dir`, and what is not as by default. Keys are the names of the methods that set
    /// them; what only code can give (the disk, hooks) has none.
    ///
    /// ```
    /// # use corewal::{Options, TomlError};
    /// let options = Options::from_toml(
    ///     r#"
    ///     dir = "/var/lib/app/log"
    ///     shards = 4
    ///     segment_len = "128 MiB"      # bytes, with B, KiB, MiB or GiB
    ///     vouch_after = "20 ms"        # ns, us, ms, s or min
    ///     engine = "auto"              # uring, blocking
    ///     sync_method = "auto"         # dsync, after-write, linked
    ///     policy = "every-batch"       # on-demand, or a time: the interval
    ///     "#,
    /// )?;
    /// assert_eq!(options.dir().to_str(), Some("/var/lib/app/log"));
    ///
    /// let refused = Options::from_toml("dir = 'log'\ndepht = 8").unwrap_err();
    /// assert!(refused.to_string().starts_with("unknown option depht; known are dir, engine, "));
    /// # Ok::<(), TomlError>(())
    /// ```
    ///
    /// # Errors
    /// [`TomlError`]: no TOML, an unknown key, a value that cannot be, by itself or with the others. Nothing is
    /// clamped and nothing is passed over.
    pub fn from_toml(text: &str) -> Result<Self, TomlError> {
        let table = parse(text)?;
        if !table.contains_key("dir") {
            return Err(refusal("dir", "not given", "the directory of the log").into());
        }
        Self::new("").with_table(&table)
    }

    /// Sets what a TOML text names, as [`from_toml`](Self::from_toml) does, and leaves the rest as it is.
    ///
    /// # Errors
    /// Those of [`from_toml`](Self::from_toml).
    pub fn with_toml(self, text: &str) -> Result<Self, TomlError> {
        self.with_table(&parse(text)?)
    }

    fn with_table(mut self, table: &Table) -> Result<Self, TomlError> {
        for (name, value) in table {
            let Some(key) = KEYS.iter().find(|key| key.name == name) else {
                return Err(TomlError::Unknown { key: name.clone() });
            };
            (key.set)(&mut self, value)
                .map_err(|rule| refusal(key.name, &value.to_string(), &rule))?;
        }
        self.validate()?;
        Ok(self)
    }

    /// Every option as TOML; [`from_toml`](Self::from_toml) gives the same options again. The disk and hooks are
    /// left out, and a directory that is not Unicode is given lossily.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let line = |key: &Key| format!("{} = {}\n", key.name, (key.show)(self));
        KEYS.iter().map(line).collect()
    }
}

fn known() -> Vec<&'static str> {
    KEYS.iter().map(|key| key.name).collect()
}

fn refusal(option: &'static str, value: &str, rule: &str) -> OptionsError {
    OptionsError { option, value: value.into(), rule: rule.into() }
}

fn parse(text: &str) -> Result<Table, TomlError> {
    text.parse::<Table>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        TomlError::Syntax { line, message: error.message().into() }
    })
}

fn parse_path(value: &Value) -> Result<PathBuf, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(PathBuf::from).ok_or_else(|| "a path, as a string".into())
}

fn parse_name<T: Copy>(value: &Value, names: &[(&'static str, T)]) -> Result<T, String> {
    let named = names.iter().find(|(name, _)| value.as_str() == Some(name));
    named.map(|&(_, it)| it).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

fn show_name<T: Copy + PartialEq>(it: T, names: &[(&'static str, T)]) -> Value {
    let name = names.iter().find(|(_, named)| *named == it);
    Value::from(name.expect("every variant has a name").0)
}

fn parse_count<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    let count = value.as_integer().and_then(|count| T::try_from(count).ok());
    count.ok_or_else(|| format!("a whole number that fits {} bytes", size_of::<T>()))
}

fn show_count<T: TryInto<i64>>(count: T) -> Value {
    // What is above was not read from TOML, and is refused by `validate`.
    Value::from(count.try_into().unwrap_or(i64::MAX))
}

/// A number and one of the units.
fn parse_quantity(value: &Value, units: &[(&'static str, u64)]) -> Option<u64> {
    let text = value.as_str()?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// In the largest unit that makes it a whole number.
fn show_quantity(quantity: u64, units: &[(&'static str, u64)]) -> Value {
    let (unit, scale) = units
        .iter()
        .rev()
        .find(|(_, scale)| quantity >= *scale && quantity.is_multiple_of(*scale))
        .unwrap_or(&units[0]);
    Value::from(format!("{} {unit}", quantity / scale))
}

fn parse_size<T: TryFrom<u64>>(value: &Value) -> Result<T, String> {
    let bytes = value.as_integer().and_then(|bytes| u64::try_from(bytes).ok());
    let bytes = bytes.or_else(|| parse_quantity(value, &SIZES));
    let size = bytes.and_then(|bytes| T::try_from(bytes).ok());
    size.ok_or_else(|| "bytes as a number, or a string as \"64 MiB\" (B, KiB, MiB, GiB)".into())
}

fn show_size<T: TryInto<u64>>(bytes: T) -> Value {
    show_quantity(bytes.try_into().unwrap_or(u64::MAX), &SIZES)
}

fn parse_time(value: &Value) -> Result<Duration, String> {
    let time = parse_quantity(value, &TIMES).map(Duration::from_nanos);
    time.ok_or_else(|| "a string as \"10 ms\" (ns, us, ms, s, min)".into())
}

fn show_time(time: Duration) -> Value {
    show_quantity(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), &TIMES)
}

fn parse_policy(value: &Value) -> Result<Policy, String> {
    match value.as_str() {
        Some("every-batch") => Ok(Policy::EveryBatch),
        Some("on-demand") => Ok(Policy::OnDemand),
        _ => parse_time(value).map(Policy::Interval).map_err(|_| {
            "every-batch, on-demand, or an interval as \"10 ms\" (ns, us, ms, s, min)".into()
        }),
    }
}

fn show_policy(policy: Policy) -> Value {
    match policy {
        Policy::EveryBatch => Value::from("every-batch"),
        Policy::OnDemand => Value::from("on-demand"),
        Policy::Interval(interval) => show_time(interval),
    }
}

fn parse_schema(value: &Value) -> Result<SchemaId, String> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    let hex = || u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok();
    let id = number.or_else(hex).map(SchemaId);
    id.ok_or_else(|| "a number, or a string as \"0x1f\"".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stops to compile when an option is added: it has a key then, or is one that only code can give.
    #[test]
    fn every_option_has_a_key_or_is_named_here() {
        let Options {
            dir: _,
            engine: _,
            shards: _,
            block_len: _,
            segment_len: _,
            first_segment_len: _,
            write_len: _,
            depth: _,
            max_record: _,
            max_batch: _,
            prepared_ahead: _,
            pipeline_bound: _,
            vouch_after: _,
            sync_method: _,
            policy: _,
            access: _,
            schema: _,
            lock_patience: _,
            preparing: _,
            spare_segments: _,
            rotate_after_entries: _,
            rotate_after: _,
            // Only code can give these.
            disk: _,
            hooks: _,
        } = Options::new("");
        assert_eq!(KEYS.len(), 22);
    }
}
