//! Which line goes to which shard, and where epochs end between them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::append::queue::{Abandoned, Lines, Message, Queue};

/// How lines are dealt out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// In turn.
    Line,
    /// By the value of this field of a JSON object.
    Field(String),
}

impl By {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("field:") {
            Some("") => Err("the field's name is missing".to_owned()),
            Some(name) => Ok(Self::Field(name.to_owned())),
            None if text == "line" => Ok(Self::Line),
            None => Err("must be `line` or `field:NAME`".to_owned()),
        }
    }
}

/// Why a line could not be passed on.
#[derive(Debug)]
pub(crate) enum RouteError {
    /// It has no value to go by.
    Line(String),
    /// A shard takes no more.
    Abandoned,
}

impl From<Abandoned> for RouteError {
    fn from(_: Abandoned) -> Self {
        Self::Abandoned
    }
}

/// Deals lines out to the shards' queues, and closes epochs on all of them at one place in the input.
#[derive(Debug)]
pub(crate) struct Router<'a> {
    queues: &'a [Queue],
    by: &'a By,
    /// Lines that were not passed on yet, by shard.
    held: Vec<Lines>,
    turn: usize,
    lines_in_epoch: u64,
    /// How many epochs were closed.
    pub(crate) epochs: u64,
}

impl<'a> Router<'a> {
    pub(crate) fn new(queues: &'a [Queue], by: &'a By) -> Self {
        let held = queues.iter().map(|_| Lines::default()).collect();
        Self { queues, by, held, turn: 0, lines_in_epoch: 0, epochs: 0 }
    }

    /// Lines since the last end of an epoch.
    pub(crate) fn lines_in_epoch(&self) -> u64 {
        self.lines_in_epoch
    }

    /// Takes a line; it is passed on by the next [`flush`](Self::flush).
    pub(crate) fn take(&mut self, line: &[u8]) -> Result<(), RouteError> {
        let shard = match self.by {
            By::Line => {
                self.turn = (self.turn + 1) % self.queues.len();
                (self.turn + self.queues.len() - 1) % self.queues.len()
            }
            By::Field(name) => {
                shard_of(&value_of(line, name).map_err(RouteError::Line)?, self.queues.len())
            }
        };
        self.held[shard].push(line);
        self.lines_in_epoch += 1;
        Ok(())
    }

    /// Passes on what was taken.
    pub(crate) fn flush(&mut self) -> Result<(), Abandoned> {
        for (lines, queue) in self.held.iter_mut().zip(self.queues) {
            if !lines.is_empty() {
                queue.push(Message::Lines(std::mem::take(lines)))?;
            }
        }
        Ok(())
    }

    /// Ends the epoch here, on every shard, if it has any line.
    pub(crate) fn close_epoch(&mut self) -> Result<(), Abandoned> {
        if self.lines_in_epoch == 0 {
            return Ok(());
        }
        self.flush()?;
        for queue in self.queues {
            queue.push(Message::CloseEpoch)?;
        }
        self.lines_in_epoch = 0;
        self.epochs += 1;
        Ok(())
    }
}

/// The shard of a value: 64-bit FNV-1a of its bytes, modulo the number of shards. Never to be changed: logs
/// that are appended to by later versions rely on it.
fn shard_of(value: &str, shard_count: usize) -> usize {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash =
        value.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    usize::try_from(hash % shard_count as u64).expect("less than the number of shards")
}

/// The value of a field: the text of a string, or of a number, `true`, `false` or `null` as it is written.
fn value_of<'a>(line: &'a [u8], name: &str) -> Result<Cow<'a, str>, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let found = FieldOf(name)
        .deserialize(&mut json)
        .and_then(|found| json.end().map(|()| found))
        .map_err(|error| format!("not a JSON object: {error}"))?;
    let raw = found.ok_or_else(|| format!("no field {name:?}"))?.get();
    match raw.as_bytes()[0] {
        b'"' => serde_json::from_str::<Text<'_>>(raw)
            .map(|text| text.0)
            .map_err(|error| format!("field {name:?}: {error}")),
        b'{' | b'[' => Err(format!("field {name:?} is no string, number, true, false or null")),
        _ => Ok(Cow::Borrowed(raw)),
    }
}

/// A string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Finds one field of an object; everything else is only checked. Of two with this name, the last counts.
struct FieldOf<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(key)) = map.next_key()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_found_wherever_and_however_it_stands() {
        let value = |line: &'static str| value_of(line.as_bytes(), "k").map(Cow::into_owned);
        assert_eq!(value(r#"{"k":"DTW"}"#).as_deref(), Ok("DTW"));
        assert_eq!(value(r#" {"a":{"k":1},"k" : "\u0044TW","z":[]} "#).as_deref(), Ok("DTW"));
        assert_eq!(value(r#"{"\u006b":-1.50}"#).as_deref(), Ok("-1.50"));
        assert_eq!(value(r#"{"k":null}"#).as_deref(), Ok("null"));
        assert_eq!(value(r#"{"k":1,"k":2}"#).as_deref(), Ok("2"));
        for wrong in ["", "k", "[]", "3", r#"{"a":1}"#, r#"{"k":{}}"#, r#"{"k":1"#, r#"{"k":1}x"#] {
            assert!(value(wrong).is_err(), "{wrong}");
        }
    }

    /// Lines of equal values must go on to the same shard in every later version.
    #[test]
    fn a_value_keeps_its_shard_for_ever() {
        let shards = ["", "DTW", "HNL", "LAS", "-1.50", "ä"].map(|value| shard_of(value, 1000));
        assert_eq!(shards, [37, 566, 461, 815, 74, 562]);
    }

    #[test]
    fn lines_are_dealt_out_in_turn_and_epochs_end_on_every_shard() {
        let queues = [Queue::default(), Queue::default()];
        let mut router = Router::new(&queues, &By::Line);
        for line in [b"0", b"1", b"2"] {
            router.take(line).expect("any line goes");
        }
        router.close_epoch().expect("nobody left");
        router.close_epoch().expect("an empty epoch is left open");
        assert_eq!(router.epochs, 1);
        let told = queues.each_ref().map(|queue| {
            queue.end();
            let mut told = String::new();
            while let crate::append::queue::Taken::Message(message) = queue.take() {
                match message {
                    Message::CloseEpoch => told.push('|'),
                    Message::Lines(lines) => {
                        let all = (0..).map_while(|index| lines.line(index));
                        told.extend(all.flatten().map(|&byte| char::from(byte)));
                    }
                }
            }
            told
        });
        assert_eq!(told, ["02|", "1|"]);
    }
}
