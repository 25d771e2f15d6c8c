use std::collections::BTreeMap;

use crate::support::{CODE_GOOD, Place};

#[test]
fn a_closed_log_is_described() {
    let place = Place::new();
    let ran = place.feed("append", &["--shards", "2", "--epoch-every", "2"], b"a\nb\nc\n\xff\n");
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let ran = place.run("inspect", &["--json", "--entries"]);
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("one document");
    assert_eq!(document["manifest"]["committed_epoch"], 2);
    assert_eq!(document["found"]["committed_epoch"], 2);
    assert_eq!(document["damage"], serde_json::json!([]));
    for shard in document["manifest"]["shards"].as_array().expect("shards") {
        assert_eq!((&shard["active"], &shard["current"]), (&true.into(), &serde_json::Value::Null));
        assert_eq!(shard["runs"].as_array().map(Vec::len), Some(1));
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut payloads = Vec::new();
    for batch in document["batches"].as_array().expect("batches") {
        for entry in batch["entries"].as_array().expect("entries") {
            let kind = entry["kind"].as_str().expect("a name");
            *kinds.entry(kind.to_owned()).or_default() += 1;
            if kind == "put" {
                payloads.push(entry["payload"].clone());
            }
        }
    }
    assert_eq!(kinds, BTreeMap::from([("put".to_owned(), 4), ("barrier".to_owned(), 4)]));
    assert_eq!(
        payloads,
        ["a".into(), "c".into(), "b".into(), serde_json::json!({ "base64": "/w==" }),]
    );
    let text = place.good("inspect", &["--entries"]);
    let text = String::from_utf8(text).expect("text");
    for expected in ["shard 1: active", "ended run of incarnation 1", "\\xff", " barrier"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}
