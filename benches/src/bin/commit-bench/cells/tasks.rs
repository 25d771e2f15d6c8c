//! Async tasks on one thread; each awaits each of its appends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::Instant;

use corewal::{Kind, Producer, Turn};
use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome};
use corewal_benches::record::Records;
use corewal_benches::work::RECORD_LEN;
use corewal_probe::histogram;
use futures::executor::block_on;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::noop_waker_ref;

use super::log::{LogUnderTest, Variant, method};
use super::poll::with_stats;
use super::producers::{Served, limit, sum};

/// On the thread that drives the shard: no other thread takes part.
pub(crate) fn own(variant: &Variant, asked: &Asked, count: u32) -> Result<Answer, Anything> {
    let log = RefCell::new(LogUnderTest::open(variant, &asked.dir, asked.room())?);
    let (start, limit) = (Instant::now(), limit(asked, count));
    let end = start + asked.time();
    let commit = async |number| -> Result<_, Anything> {
        let mut records = Records::new(number, RECORD_LEN);
        let mut latencies_ns = histogram();
        let mut now = Instant::now();
        while now < end && records.count() < limit {
            // Fewer bytes than the blocks hold are outstanding, so it is never full.
            let stamp = log.borrow_mut().writer.append_bytes(Kind::PUT, records.bytes())?;
            let durable = log.borrow().durable(stamp);
            durable.await?;
            let start = std::mem::replace(&mut now, Instant::now());
            latencies_ns += u64::try_from((now - start).as_nanos())?;
            records.advance();
        }
        Ok((records.count(), latencies_ns))
    };
    let mut tasks: FuturesUnordered<_> = (0..count)
        .map(|number| {
            let done = commit(number);
            async move { (number, done.await) }
        })
        .collect();
    let mut done = BTreeMap::new();
    // Nothing but a turn of this thread makes a task go on.
    let mut context = Context::from_waker(noop_waker_ref());
    loop {
        match tasks.poll_next_unpin(&mut context) {
            Poll::Ready(Some((number, counted))) => {
                done.insert(number, counted?);
                continue;
            }
            Poll::Ready(None) => break,
            Poll::Pending => {}
        }
        let mut log = log.borrow_mut();
        let before = log.writer.frontier();
        let turn = log.writer.turn()?;
        if turn == Turn::Sleep && log.writer.frontier() == before {
            log.writer.sleep(None)?;
        }
    }
    drop(tasks);
    let done = sum(done.into_values().collect(), start);
    let log = log.into_inner();
    let facts = method(log.writer.ring_facts(), variant);
    let outcome = with_stats(Outcome::new(facts), &log.writer.stats())
        .with_latencies(&done.latencies_ns)
        .with(Figure::PerS, done.counts.iter().sum::<u64>() as f64 / done.took_s);
    let found = log.verify(RECORD_LEN, &done.counts)?;
    Ok(Answer::Measured(outcome.found(found)))
}

/// With the writer on a thread of the log.
pub(crate) fn remote(variant: &Variant, asked: &Asked, count: u32) -> Result<Answer, Anything> {
    let served = Served::open(variant, asked)?;
    let (start, limit) = (Instant::now(), limit(asked, count));
    let end = start + asked.time();
    let commit = async |producer: Producer, number| -> Result<_, Anything> {
        let mut records = Records::new(number, RECORD_LEN);
        let mut latencies_ns = histogram();
        let mut now = Instant::now();
        while now < end && records.count() < limit {
            // Fewer bytes than the blocks hold are outstanding, so it never waits in line.
            let stamp = producer.append_bytes(Kind::PUT, records.bytes())?;
            producer.durable(stamp).await?;
            let start = std::mem::replace(&mut now, Instant::now());
            latencies_ns += u64::try_from((now - start).as_nanos())?;
            records.advance();
        }
        Ok((records.count(), latencies_ns))
    };
    let mut tasks: FuturesUnordered<_> = (0..count)
        .map(|number| {
            let done = commit(served.producer.clone(), number);
            async move { (number, done.await) }
        })
        .collect();
    let mut done = BTreeMap::new();
    while let Some((number, counted)) = block_on(tasks.next()) {
        done.insert(number, counted?);
    }
    drop(tasks);
    served.finish(variant, &sum(done.into_values().collect(), start))
}
