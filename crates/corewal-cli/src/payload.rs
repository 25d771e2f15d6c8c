//! Payloads as text, without loss.

use std::borrow::Cow;
use std::io::{self, Write};

use corewal::Kind;

/// Writes a payload like the text of a JSON string, without quotes.
///
/// Quote and backslash get a backslash; control characters become `\n`, `\t`, `\r`, `\b`, `\f` or `\u00XX`.
/// A byte that is not part of valid UTF-8 becomes `\xHH`, which no JSON text contains: so the way back is
/// unique.
pub(crate) fn write_escaped(out: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    for chunk in payload.utf8_chunks() {
        write_text(out, chunk.valid().as_bytes())?;
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Writes a payload as a JSON value: a string, or `{"base64":".."}` if it is not UTF-8.
pub(crate) fn write_json(out: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    use base64::Engine as _;
    match std::str::from_utf8(payload) {
        Ok(text) => {
            out.write_all(b"\"")?;
            write_text(out, text.as_bytes())?;
            out.write_all(b"\"")
        }
        Err(_) => {
            let text = base64::engine::general_purpose::STANDARD.encode(payload);
            write!(out, "{{\"base64\":\"{text}\"}}")
        }
    }
}

/// The name of a kind; none for those that users define.
pub(crate) fn kind_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::PUT => Some("put"),
        Kind::DELETE => Some("delete"),
        Kind::COMMIT => Some("commit"),
        Kind::CHECKPOINT => Some("checkpoint"),
        Kind::BARRIER => Some("barrier"),
        _ => None,
    }
}

/// The name of a kind, or its number.
pub(crate) fn kind_text(kind: Kind) -> Cow<'static, str> {
    kind_name(kind).map_or_else(|| format!("kind {}", kind.0).into(), Cow::Borrowed)
}

fn write_text(out: &mut impl Write, text: &[u8]) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        out.write_all(&rest[..at])?;
        match rest[at] {
            b'"' => out.write_all(b"\\\"")?,
            b'\\' => out.write_all(b"\\\\")?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            b'\t' => out.write_all(b"\\t")?,
            0x08 => out.write_all(b"\\b")?,
            0x0c => out.write_all(b"\\f")?,
            byte => write!(out, "\\u{byte:04x}")?,
        }
        rest = &rest[at + 1..];
    }
    out.write_all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(payload: &[u8]) -> String {
        let mut out = Vec::new();
        write_escaped(&mut out, payload).expect("memory");
        String::from_utf8(out).expect("escaped text is UTF-8")
    }

    #[test]
    fn utf8_is_escaped_as_json_does_it() {
        for text in ["", "plain", "a\tb\nc\r", "q\"b\\", "\u{0}\u{1f}\u{7f}\u{8}\u{c}", "ä€𝄞"]
        {
            let json = serde_json::to_string(text).expect("a string");
            assert_eq!(format!("\"{}\"", escaped(text.as_bytes())), json);
            let mut out = Vec::new();
            write_json(&mut out, text.as_bytes()).expect("memory");
            assert_eq!(out, json.into_bytes());
        }
    }

    #[test]
    fn other_bytes_are_told_from_text_that_looks_like_their_escape() {
        assert_eq!(escaped(b"a\xff\xfe\n"), "a\\xff\\xfe\\n");
        assert_eq!(escaped(b"a\\xff"), "a\\\\xff");
    }

    #[test]
    fn bytes_that_are_not_text_are_base64_in_json() {
        let mut out = Vec::new();
        write_json(&mut out, b"\xff\x00\x01\x02").expect("memory");
        assert_eq!(out, br#"{"base64":"/wABAg=="}"#);
    }
}
