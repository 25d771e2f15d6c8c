use crate::support::{CODE_DAMAGE, Live, Place, flip, lines};

/// A log of one shard with a batch for each of ten epochs, and the place of one in the middle.
fn log_with_batches() -> (Place, u64) {
    let place = Place::new();
    let input: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    let file = place.file("lines", input.join("\n").as_bytes());
    place.good("append", &["--epoch-every", "10", &file]);
    let document = place.inspect();
    let batches = document["batches"].as_array().expect("batches");
    let middle = &batches[batches.len() / 2];
    assert_eq!(middle["segment"], 1);
    let at = middle["at"].as_u64().expect("an offset");
    (place, at)
}

#[test]
fn damage_in_a_closed_log_is_named_by_every_verb() {
    let (place, at) = log_with_batches();
    let before = place.good("replay", &["--format", "raw"]);
    let segment = place.path("log/shard-0000/0000000001.seg");
    flip(&segment, usize::try_from(at).expect("small") + 150);

    let expected = format!("segment 0-000001 at {at}: batch");
    let ran = place.run("replay", &["--format", "raw"]);
    assert_eq!(ran.code, CODE_DAMAGE);
    assert!(ran.error().starts_with(&expected), "{}", ran.stderr);
    assert!(ran.error().contains("generation 4 of the manifest says that the run ends with"));
    let kept = lines(&ran.stdout).len();
    assert!((1..100).contains(&kept) && before.starts_with(&ran.stdout), "{kept} lines before it");

    let ran = place.run("append", &[]);
    assert_eq!(ran.code, CODE_DAMAGE);
    assert!(ran.error().starts_with(&expected), "{}", ran.stderr);

    let ran = place.run("inspect", &["--batches"]);
    assert_eq!(ran.code, CODE_DAMAGE);
    assert!(ran.error().starts_with(&expected), "{}", ran.stderr);
    let document = place.inspect();
    assert_eq!(document["damage"][0]["at"], at);
    assert_eq!(document["segments"][0]["state"], "ended");
    let batches = document["batches"].as_array().expect("batches");
    assert!(batches.iter().all(|batch| batch["at"].as_u64().expect("an offset") < at));
    assert!(!batches.is_empty());
}

#[test]
fn damage_in_the_run_of_a_killed_append_is_named() {
    let place = Place::new();
    let mut live = Live::start(&place, &[]);
    // The second acknowledgement is of a batch that was sealed after the first: it vouches for it.
    for text in ["a\n", "b\n"] {
        live.write(text);
        live.ack();
    }
    live.kill();
    let batches = place.inspect()["batches"].clone();
    let at = batches[0]["at"].as_u64().expect("an offset");
    flip(&place.path("log/shard-0000/0000000001.seg"), usize::try_from(at).expect("small"));
    for verb in ["replay", "inspect", "append"] {
        let ran = place.run(verb, &[]);
        assert_eq!(ran.code, CODE_DAMAGE, "{verb}");
        assert!(ran.error().starts_with(&format!("segment 0-000001 at {at}: ")), "{}", ran.stderr);
    }
    assert_eq!(place.inspect()["segments"][0]["state"], "current");
}

#[test]
fn without_a_manifest_the_segments_are_still_shown() {
    let (place, _) = log_with_batches();
    flip(&place.path("log/MANIFEST-0"), 30);
    let ran = place.run("inspect", &["--json"]);
    assert_eq!(ran.code, CODE_DAMAGE);
    assert!(ran.error().contains("MANIFEST-0"), "{}", ran.stderr);
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("one document");
    assert!(document["manifest"].is_null());
    assert_eq!(document["segments"][0]["state"], "unknown");
    assert_eq!(document["segments"][0]["incarnation"], 1);
    assert_eq!(place.run("inspect", &[]).code, CODE_DAMAGE);
    assert_eq!(place.run("replay", &[]).code, CODE_DAMAGE);
}
