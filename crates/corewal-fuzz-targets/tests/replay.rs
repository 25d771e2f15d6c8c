//! The checked-in corpus, and every cut and some changes of it, through the targets: short and deterministic.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use corewal::{Epoch, Log, LogId, OpenError, Options, Seq};
use corewal_format::{BatchHeader, Manifest};
use corewal_fuzz_targets::{SAMPLE_COUNT, log, manifest, pack, reseal, sample, segment, unpack};

/// The most that the whole corpus may take, in bytes.
const MAX_CORPUS_LEN: u64 = 200 << 10;

fn replay(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&dir).unwrap().map(|it| it.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no inputs in {}", dir.display());
    for path in inputs {
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
    }
}

#[test]
fn segment_inputs_do_no_harm() {
    replay("segment", segment);
}

#[test]
fn manifest_inputs_do_no_harm() {
    replay("manifest", manifest);
}

#[test]
fn log_inputs_do_no_harm() {
    replay("log", log);
}

#[test]
fn resealed_inputs_do_no_harm() {
    replay("reseal", reseal);
}

/// The seeds of `log` are the samples, byte by byte: the corpus cannot go stale unnoticed.
#[test]
fn the_corpus_holds_the_samples() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/log");
    for index in 0..SAMPLE_COUNT {
        let path = dir.join(format!("sample-{index}"));
        let packed = pack(&sample(index));
        assert_eq!(unpack(&packed).files(), sample(index).files(), "packing loses something");
        if std::env::var_os("COREWAL_WRITE_CORPUS").is_some() {
            fs::write(&path, &packed).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), packed, "{}", path.display());
    }
}

/// A sample is a log that recovery takes whole: a fuzzer that starts from refused logs finds nothing.
#[test]
fn samples_hold_entries() {
    for index in 0..SAMPLE_COUNT {
        let options = Options::new("/log").disk(Arc::new(sample(index)));
        let mut reader = Log::read(options).unwrap();
        let mut count = 0;
        while reader.next_entry().unwrap().is_some() {
            count += 1;
        }
        assert!(count >= 8, "sample {index} has {count} entries");
    }
}

/// Numbers that nothing ever counted up to are refused by name, not run into the end of 64 bits.
#[test]
fn a_log_whose_numbers_are_used_up_is_not_opened() {
    for number in [u64::MAX - 1, u64::MAX / 2] {
        let disk = sample(0);
        for (path, bytes) in disk.files() {
            if let Ok(mut manifest) = Manifest::decode(&bytes) {
                manifest.shards.iter_mut().for_each(|shard| shard.next_seq = Seq(number));
                disk.put(path, manifest.encode());
            }
        }
        let options = Options::new("/log").disk(Arc::new(disk));
        let refused = Log::recover(options).unwrap().open().unwrap_err();
        assert!(matches!(refused, OpenError::Exhausted { what: "next seq", .. }), "{refused}");
    }
}

/// Epochs ascend from run to run: a batch of an ended run with an epoch above the next one's would break the
/// order of the merge.
#[test]
fn an_ended_run_with_a_later_epoch_than_the_next_run_is_refused() {
    let disk = sample(1);
    let id = LogId(*b"fuzzed log no. 1");
    for (path, mut bytes) in disk.files() {
        for batch in bytes.chunks_exact_mut(512) {
            match BatchHeader::decode_anywhere(id, batch) {
                Ok(header) if header.incarnation.0 == 1 && header.number.0 >= 4 => {
                    BatchHeader { epoch: Epoch(1000), ..header }.encode(id, batch);
                }
                _ => {}
            }
        }
        disk.put(path, bytes);
    }
    log(&pack(&disk));
    let mut reader = Log::read(Options::new("/log").disk(Arc::new(disk))).unwrap();
    let refused = loop {
        match reader.next_entry() {
            Ok(entry) => assert!(entry.is_some(), "read to the end"),
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("epoch"), "{refused}");
}

#[test]
fn the_corpus_is_small() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let targets = fs::read_dir(corpus).unwrap().map(|it| it.unwrap().path());
    let inputs = targets.flat_map(|dir| fs::read_dir(dir).unwrap().map(|it| it.unwrap()));
    let len: u64 = inputs.map(|input| input.metadata().unwrap().len()).sum();
    assert!(len <= MAX_CORPUS_LEN, "the corpus has {len} bytes");
}
