//! Lines of a real file, to one shard and to four, as fast as they become durable. Default options: the
//! segments are prepared while the lines are appended.

use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use corewal::{AppendError, Engine, Kind, Log, Options, Seat, ShardStats, Turn};

use crate::{Anything, fresh};

/// Appends between two turns: about 100 KiB.
const APPENDS_OF_A_TURN: usize = 1024;

/// One kind of log, over all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) lines_per_s: Vec<f64>,
    pub(crate) lines_per_batch: f64,
    pub(crate) unfilled: u64,
}

pub(crate) fn measure(dir: &Path, rounds: u64, passes: u64) -> Result<Vec<Row>, Anything> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights-20k.ndjson");
    let text = std::fs::read_to_string(path)?;
    let lines: Vec<&str> = text.lines().collect();
    let mut rows = Vec::new();
    for (shards, engine) in [1_u16, 4]
        .into_iter()
        .flat_map(|shards| [Engine::Uring, Engine::Blocking].map(|engine| (shards, engine)))
    {
        let name = format!("{shards} shards, {engine:?}").replace("1 shards", "1 shard");
        rows.push((
            shards,
            engine,
            Row { name, lines_per_s: Vec::new(), lines_per_batch: 0.0, unfilled: 0 },
            0,
        ));
    }
    for round in 0..usize::try_from(rounds)? {
        for place in 0..rows.len() {
            let index = (round + place) % rows.len();
            let (shards, engine, row, batches) = &mut rows[index];
            let dir = fresh(dir, "lines")?;
            let options = Options::new(&dir).shards(*shards).engine(*engine);
            let (lines_per_s, stats) = run(options, &lines, passes)?;
            row.lines_per_s.push(lines_per_s);
            row.unfilled += stats.iter().map(|it| it.unfilled).sum::<u64>();
            *batches += stats.iter().map(|it| it.batches).sum::<u64>();
            std::fs::remove_dir_all(&dir)?;
        }
    }
    let all = (rounds * passes * lines.len() as u64) as f64;
    let finish = |(_, _, row, batches)| Row { lines_per_batch: all / batches as f64, ..row };
    Ok(rows.into_iter().map(finish).collect())
}

/// Appends all lines, each to the shard of its turn, and finds them again.
fn run(options: Options, lines: &[&str], passes: u64) -> Result<(f64, Vec<ShardStats>), Anything> {
    let mut log = Log::recover(options.clone())?.open()?;
    let seats = log.take_seats();
    let shards = seats.len();
    let begin = Barrier::new(shards + 1);
    let (start, stats) = thread::scope(|scope| {
        let writers: Vec<_> = seats
            .into_iter()
            .map(|seat| {
                let begin = &begin;
                scope.spawn(move || write(seat, lines, shards, passes, begin))
            })
            .collect();
        begin.wait();
        let start = Instant::now();
        let stats: Result<Vec<_>, _> =
            writers.into_iter().map(|it| it.join().expect("a writer does not panic")).collect();
        (start, stats)
    });
    let (ends, stats): (Vec<Instant>, Vec<ShardStats>) = stats?.into_iter().unzip();
    let took = ends.into_iter().max().ok_or("no shard")?.duration_since(start);
    log.close()?;
    let mut recovery = Log::recover(options)?;
    let mut found = vec![0; shards];
    while let Some(entry) = recovery.next_entry()? {
        let shard = usize::from(entry.stamp().shard.0);
        if entry.bytes() != line_of(lines, shards, shard, found[shard]).as_bytes() {
            return Err(format!("line {} of shard {shard} is another", found[shard]).into());
        }
        found[shard] += 1;
    }
    let expected = lines.len() as u64 * passes;
    if found.iter().sum::<usize>() as u64 != expected {
        return Err(format!("{found:?} of {expected} acknowledged lines are there").into());
    }
    Ok((expected as f64 / took.as_secs_f64(), stats))
}

/// The line that `shard` appends after `count` others.
fn line_of<'a>(lines: &[&'a str], shards: usize, shard: usize, count: usize) -> &'a str {
    lines[(count * shards + shard) % lines.len()]
}

fn write(
    seat: Seat,
    lines: &[&str],
    shards: usize,
    passes: u64,
    begin: &Barrier,
) -> Result<(Instant, ShardStats), Anything> {
    let shard = usize::from(seat.shard().0);
    let count = usize::try_from(passes)? * lines.len() / shards;
    let sat = seat.sit();
    begin.wait();
    let mut writer = sat?;
    for index in 0..count {
        let line = line_of(lines, shards, shard, index).as_bytes();
        while let Err(error) = writer.append_bytes(Kind::PUT, line) {
            let AppendError::Full = error else { return Err(error.into()) };
            if writer.turn()? != Turn::Again {
                writer.sleep(Some(std::time::Duration::from_micros(200)))?;
            }
        }
        if index % APPENDS_OF_A_TURN == 0 {
            writer.turn()?;
        }
    }
    writer.sync()?;
    let end = Instant::now();
    let stats = writer.stats();
    writer.close()?;
    Ok((end, stats))
}
