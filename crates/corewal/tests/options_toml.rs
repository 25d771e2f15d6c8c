//! Options as TOML: nothing is clamped, nothing is passed over.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::time::Duration;

use corewal::{AccessWish, Engine, Options, Policy, Preparing, SchemaId, SyncMethod, TomlError};

/// Every option in another state than by default.
fn unusual() -> Options {
    Options::new("a \"quoted\"\\dir")
        .engine(Engine::Blocking)
        .shards(3)
        .block_len(8192)
        .segment_len(32 << 20)
        .first_segment_len((2 << 20) + 8192)
        .write_len(128 << 10)
        .depth(7)
        .max_record(1_000_001)
        .max_batch(16 << 20)
        .prepared_ahead(3)
        .pipeline_bound(5)
        .vouch_after(Duration::from_micros(12_345))
        .sync_method(SyncMethod::Linked)
        .policy(Policy::Interval(Duration::from_millis(1500)))
        .access(AccessWish::Buffered)
        .schema(SchemaId(u64::MAX))
        .lock_patience(Duration::from_secs(120))
        .preparing(Preparing::Manual)
        .spare_segments(0)
        .rotate_after_entries(1_000_000)
        .rotate_after(Duration::from_secs(3600))
}

fn value_of<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).unwrap()
}

#[test]
fn every_option_comes_back_as_it_was() {
    let by_default = Options::new("d").to_toml();
    let written = unusual().to_toml();
    let keys: Vec<_> = written.lines().map(|line| line.split(" = ").next().unwrap()).collect();
    assert_eq!(keys.len(), 22);
    for key in keys {
        assert_ne!(value_of(&written, key), value_of(&by_default, key), "{key} is unusual");
        // Alone, so that no key stands for another.
        if key != "dir" {
            let line = format!("{key} = {}", value_of(&written, key));
            let base = Options::new("d").max_batch(8 << 20).max_record(1 << 20);
            let alone = base.with_toml(&line).unwrap().to_toml();
            assert_eq!(value_of(&alone, key), value_of(&written, key));
        }
    }
    let read = Options::from_toml(&written).unwrap();
    assert_eq!(read.to_toml(), written);
    assert_eq!(read.dir(), unusual().dir());
    for policy in [Policy::EveryBatch, Policy::OnDemand] {
        let written = unusual().policy(policy).to_toml();
        assert_eq!(Options::from_toml(&written).unwrap().to_toml(), written);
    }
    for method in [SyncMethod::Auto, SyncMethod::Dsync, SyncMethod::AfterWrite] {
        let written = unusual().sync_method(method).to_toml();
        assert_eq!(Options::from_toml(&written).unwrap().to_toml(), written);
    }
}

#[test]
fn units_say_how_much() {
    for (text, expected) in [
        ("segment_len = 33554432", "\"32 MiB\""),
        ("segment_len = '32MiB'", "\"32 MiB\""),
        ("segment_len = '32768 KiB'", "\"32 MiB\""),
        ("segment_len = '33554432 B'", "\"32 MiB\""),
        ("vouch_after = '0 ns'", "\"0 ns\""),
        ("vouch_after = '90000us'", "\"90 ms\""),
        ("vouch_after = '2 min'", "\"2 min\""),
        ("policy = '3 s'", "\"3 s\""),
        ("schema = 31", "\"0x1f\""),
    ] {
        let options = Options::new("d").max_batch(16 << 20).max_record(1 << 20);
        let written = options.with_toml(text).unwrap().to_toml();
        let key = text.split(' ').next().unwrap();
        assert_eq!(value_of(&written, key), expected, "{text}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_known_ones() {
    let refused = Options::from_toml("dir = 'd'\nsegment_size = 1").unwrap_err();
    assert_eq!(refused, TomlError::Unknown { key: "segment_size".into() });
    let text = refused.to_string();
    assert!(text.starts_with("unknown option segment_size; known are dir, engine, shards, "));
    assert!(text.contains("segment_len") && text.ends_with("rotate_after"), "{text}");
}

#[test]
fn what_cannot_be_is_refused_and_never_clamped() {
    for (text, expected) in [
        ("shards = 1", "option dir is not given: the directory of the log"),
        ("dir = 3", "option dir is 3: a path, as a string"),
        ("dir = 'd'\nshards = 0", "option shards is 0: at least 1"),
        ("dir = 'd'\nshards = 70000", "option shards is 70000: a whole number that fits 2 bytes"),
        ("dir = 'd'\nshards = -1", "option shards is -1: a whole number that fits 2 bytes"),
        ("dir = 'd'\ndepth = 1025", "option depth is 1025: from 1 to 1024"),
        (
            "dir = 'd'\nengine = 'io_uring'",
            "option engine is \"io_uring\": one of auto, uring, blocking",
        ),
        (
            "dir = 'd'\nsegment_len = '64 MB'",
            "option segment_len is \"64 MB\": bytes as a number, or a string as \"64 MiB\" (B, KiB, \
             MiB, GiB)",
        ),
        (
            "dir = 'd'\nsegment_len = '99999999999 GiB'",
            "option segment_len is \"99999999999 GiB\": bytes as a number, or a string as \"64 MiB\" \
             (B, KiB, MiB, GiB)",
        ),
        (
            "dir = 'd'\nvouch_after = 10",
            "option vouch_after is 10: a string as \"10 ms\" (ns, us, ms, s, min)",
        ),
        (
            "dir = 'd'\npolicy = 'never'",
            "option policy is \"never\": every-batch, on-demand, or an interval as \"10 ms\" (ns, us, \
             ms, s, min)",
        ),
        (
            "dir = 'd'\nmax_record = '40 MiB'",
            "option max_record is 41943040: at least 1, and with its headers at most max_batch",
        ),
    ] {
        assert_eq!(Options::from_toml(text).unwrap_err().to_string(), expected, "{text}");
    }
    let refused = Options::from_toml("dir = 'd'\nshards = 2\nshards = = 3").unwrap_err();
    assert!(matches!(refused, TomlError::Syntax { line: 3, .. }), "{refused:?}");
}
