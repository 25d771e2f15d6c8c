//! What a recorder of the `metrics` facade is told.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewal::{Kind, Log, Options};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Every value that was told, by `name{labels}`; the last one of counters and gauges.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

impl Told {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> =
            key.labels().map(|it| format!("{}={}", it.key(), it.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::new(Cell { name, told: self.clone() })
    }

    fn get(&self, name: &str) -> Vec<f64> {
        self.0.lock().unwrap().get(name).cloned().unwrap_or_else(|| panic!("{name} was not told"))
    }
}

struct Cell {
    name: String,
    told: Told,
}

impl Cell {
    fn put(&self, value: f64) {
        self.told.0.lock().unwrap().insert(self.name.clone(), vec![value]);
    }
}

impl CounterFn for Cell {
    fn increment(&self, _value: u64) {
        panic!("counters are told as they are");
    }

    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _value: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _value: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        self.told.0.lock().unwrap().entry(self.name.clone()).or_default().push(value);
    }
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

#[test]
fn a_recorder_is_told_the_statistics_and_each_batch_once() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = Options::new(temp.path().join("log"));
    let options = options.vouch_after(Duration::from_secs(3600));
    let mut log = Log::recover(options).unwrap().open().unwrap();
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let told = Told::default();
    let of_shard = |name: &str| told.get(&format!("{name}{{log={},shard=0}}", log.id()));
    for round in 1..=3_u32 {
        for _ in 0..4 {
            let stamp = writer.append_bytes(Kind::PUT, &[7; 100]).unwrap();
            writer.wait(stamp).unwrap();
        }
        metrics::with_local_recorder(&told, || log.publish_metrics());
        let batches = 4 * round;
        assert_eq!(of_shard("corewal_entries_total"), [f64::from(batches)]);
        assert_eq!(of_shard("corewal_payload_bytes_total"), [f64::from(100 * batches)]);
        assert_eq!(of_shard("corewal_durable_lag_entries"), [0.0]);
        assert_eq!(of_shard("corewal_failed"), [0.0]);
        let latencies = of_shard("corewal_commit_latency_seconds");
        assert_eq!(latencies.len(), batches as usize, "each batch is told of once");
        assert!(latencies.iter().all(|&it| it > 0.0 && it < 60.0), "in seconds: {latencies:?}");
        assert_eq!(of_shard("corewal_batch_entries"), vec![1.0; batches as usize]);
    }
    assert!(of_shard("corewal_write_amplification")[0] > 4096.0 / 100.0);
    let of_log = |name: &str| told.get(&format!("{name}{{log={}}}", log.id()));
    assert_eq!(of_log("corewal_committed_epoch"), [0.0]);
    assert_eq!(of_log("corewal_keeps_nothing"), [0.0]);

    drop(writer);
    metrics::with_local_recorder(&told, || log.publish_metrics());
    assert_eq!(of_shard("corewal_failed"), [1.0], "its writer was dropped");
}

/// The table in the documentation is what is told.
#[test]
fn every_name_is_documented() {
    let mut log = Log::recover(Options::new("/nowhere").disk(Arc::new(corewal::NullDisk::new())))
        .unwrap()
        .open()
        .unwrap();
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let stamp = writer.append_bytes(Kind::PUT, b"an event").unwrap();
    writer.wait(stamp).unwrap();
    let told = Told::default();
    metrics::with_local_recorder(&told, || log.publish_metrics());
    let source = include_str!("../src/metrics.rs");
    for name in told.0.lock().unwrap().keys() {
        let name = name.split('{').next().unwrap();
        assert!(source.contains(&format!("`{name}`")), "{name} is not in the table");
    }
}
