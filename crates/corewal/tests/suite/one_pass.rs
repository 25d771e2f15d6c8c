//! A log that was not closed is read once: its end is judged, the rest is verified on the way.

use corewal::inspect::Inspection;
use corewal::{BatchNumber, Claim, Epoch, Log, OpenError, Options, RecoverError, RunEnd, Seq};
use corewal_format::ShardRecord;

use crate::support::image::{
    BLOCK, Draft, FIRST, Image, SEGMENT, Segment, active, barrier, batch, manifest, vouch,
};
use crate::support::tap::Tap;
use crate::support::{contents, open_one, persist, read, recover, refused, temp_dir, tiny};

/// Numbers without end, of which one seed makes the same.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % end
    }

    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// A run, as a writer makes it.
struct Run {
    segments: Vec<Segment>,
    /// Where its batches stand: segment, offset, length.
    places: Vec<(usize, u64, u64)>,
    durable: u64,
    /// The last epoch whose barrier is durable.
    closed: u64,
}

impl Run {
    fn draw(shard: u16, others_closed: u64, rng: &mut Rng) -> Self {
        let depth = 1 + rng.below(6);
        // Batches of which a search meets many at once, or few.
        let largest = [300, 3000, 150_000][usize::try_from(rng.below(3)).unwrap()];
        let segment_count = 1 + rng.below(3);
        let mut run = Self {
            segments: vec![Segment::new(shard, 1)],
            places: Vec::new(),
            durable: 0,
            closed: 0,
        };
        let (mut epoch, mut committed, mut barriers) = (1, 0, Vec::new());
        let mut seq = 1;
        for number in 1.. {
            run.durable = run.durable.max(number - 1 - rng.below(depth).min(number - 1));
            run.closed = barriers.iter().filter(|it| **it <= run.durable).count() as u64;
            if rng.chance(4) {
                committed = run.closed.min(others_closed);
            }
            let closes = rng.chance(12);
            let draft = match rng.below(30) {
                _ if closes => barrier(number, epoch),
                0 => vouch(number),
                _ => batch(number).payload(vec![7; usize::try_from(rng.below(largest)).unwrap()]),
            };
            let draft = draft.epoch(epoch).seq(seq).promise(run.durable).committed(committed);
            if !run.put(shard, &draft, segment_count) {
                return run;
            }
            seq += draft.entry_count();
            if closes {
                barriers.push(number);
                epoch += 1;
            }
        }
        run
    }

    /// Writes the next batch; none if it would need one more segment than there are to be.
    fn put(&mut self, shard: u16, draft: &Draft, segment_count: u64) -> bool {
        let len = draft.disk_len();
        if self.segments.last().unwrap().at + len > SEGMENT {
            if self.segments.len() as u64 == segment_count {
                return false;
            }
            self.segments.push(Segment::new(shard, self.segments.len() as u64 + 1));
        }
        let index = self.segments.len() - 1;
        let segment = self.segments.pop().unwrap();
        self.places.push((index, segment.at, len));
        self.segments.push(segment.put(draft));
        true
    }

    /// What a power cut leaves of the last batches, or a writer that had not come so far.
    fn cut(&mut self, rng: &mut Rng) {
        let kept = self.places.len() as u64 - rng.below(self.places.len() as u64 / 2 + 1);
        for &(segment, at, len) in &self.places[usize::try_from(kept).unwrap()..] {
            if !rng.chance(6) || kept + 8 < self.places.len() as u64 {
                fill(&mut self.segments[segment], at, len, 0);
            }
        }
    }

    /// Something in the middle goes bad.
    fn damage(&mut self, rng: &mut Rng) {
        let index = usize::try_from(rng.below(self.places.len() as u64)).unwrap();
        let (segment, at, len) = self.places[index];
        match rng.below(4) {
            0 => fill(&mut self.segments[segment], at, len, 0),
            1 => fill(&mut self.segments[segment], at, 512, 9),
            2 => fill(&mut self.segments[segment], at + len - 512, 512, 9),
            _ => fill(&mut self.segments[segment], at, rng.below(100_000), 0),
        }
    }
}

fn fill(segment: &mut Segment, at: u64, len: u64, byte: u8) {
    let end = usize::try_from((at + len).min(SEGMENT)).unwrap();
    segment.bytes[usize::try_from(at).unwrap()..end].fill(byte);
}

/// Ends, last batches, barriers, and the committed epoch; or the damage.
type Verdict = Result<(Vec<(RunEnd, Option<(BatchNumber, Seq)>, Epoch)>, Epoch), String>;

fn verdict(report: &corewal::Report) -> Verdict {
    let shards = report.shards.iter().map(|it| (it.end, it.last, it.barrier)).collect();
    Ok((shards, report.committed_epoch))
}

/// Place, reason and claim. That an epoch was committed many batches say, and any of them may be named.
fn told(error: &RecoverError) -> String {
    let RecoverError::Damaged(damage) = error else { panic!("{error}") };
    format!("{}: {}, {:?}", damage.at, damage.reason, damage.witness.map(|it| it.claim))
}

/// What reading all of the run before judging it says.
fn of_whole(options: &Options) -> Verdict {
    let whole = Inspection::read(options).unwrap();
    match whole.damage() {
        [] => verdict(whole.report().unwrap()),
        [first, ..] => Err(told(first)),
    }
}

#[test]
fn judging_the_end_and_reading_the_rest_say_what_judging_all_of_it_says() {
    let (mut sound, mut at_once, mut on_the_way) = (0, 0, 0);
    for seed in 0..100 {
        let mut rng = Rng(seed);
        // What one of them says of committed epochs was true of both.
        let other = Run::draw(1, 0, &mut rng);
        let mut runs = [Run::draw(0, other.closed, &mut rng), other];
        let (mut records, mut touched) = (Vec::new(), 0);
        for (shard, run) in runs.iter_mut().enumerate() {
            let mut record = active(u16::try_from(shard).unwrap());
            if rng.chance(4) {
                record.durable_batch = BatchNumber(rng.below(run.durable + 1));
            }
            let is_cut = rng.chance(3);
            if is_cut {
                run.cut(&mut rng);
            }
            let damage_count = rng.below(4) / 2;
            (0..damage_count).for_each(|_| run.damage(&mut rng));
            touched += u64::from(is_cut || damage_count > 0);
            records.push(record);
        }
        let segments = runs.map(|run| run.segments).concat();
        let image = Image::new(&manifest(records), &segments);
        let whole = of_whole(&image.options().shards(2));
        let options = || image.options().shards(2);
        let recovered = recover(options());
        match (&whole, &recovered) {
            (Ok(_), _) => sound += 1,
            (Err(_), Err(_)) if Log::recover(options()).is_err() => at_once += 1,
            (Err(_), _) => on_the_way += 1,
        }
        // Of several damaged runs either may be named.
        let is_clear = touched < 2;
        let name = |text: String| if is_clear { text } else { String::new() };
        let whole = whole.map_err(name);
        let found = |outcome: Result<(_, corewal::Report), RecoverError>| match outcome {
            Ok((_, report)) => verdict(&report),
            Err(error) => Err(name(told(&error))),
        };
        assert_eq!(found(recovered), whole, "seed {seed}");
        assert_eq!(found(read(options())), whole, "seed {seed}, beside");
    }
    assert!(sound > 10 && at_once > 10 && on_the_way > 10, "{sound} {at_once} {on_the_way}");
}

/// A run of three segments, of which every batch promises the one before, and where its batches stand.
fn long_run() -> (Vec<Segment>, Vec<(usize, u64)>) {
    let mut segments = vec![Segment::new(0, 1)];
    let mut places = Vec::new();
    for number in 1.. {
        if segments.last().unwrap().at == SEGMENT {
            if segments.len() == 3 {
                break;
            }
            segments.push(Segment::new(0, segments.len() as u64 + 1));
        }
        let segment = segments.pop().unwrap();
        places.push((segments.len(), segment.at));
        segments.push(segment.put(&batch(number).promise(number - 1)));
    }
    (segments, places)
}

#[test]
fn a_log_that_is_damaged_in_the_middle_of_an_open_run_is_never_opened() {
    let (mut segments, places) = long_run();
    let (segment, at) = places[700];
    fill(&mut segments[segment], at + 100, 1, 3);
    let image = Image::of_one(&segments);
    let before = contents(&image.dir());
    let damage = refused(image.options());
    let promised = Claim::Durable(BatchNumber(places.len() as u64 - 1));
    assert_eq!(damage.at, segments[segment].place(at));
    assert_eq!(damage.witness.map(|witness| witness.claim), Some(promised));
    // Whoever does not read the stream does not get a log either.
    let unread = Log::recover(image.options()).unwrap();
    assert_eq!(unread.report().shards[0].batches, None);
    match unread.open() {
        Err(OpenError::Recover(RecoverError::Damaged(found))) => {
            assert_eq!(found.to_string(), damage.to_string());
        }
        other => panic!("{other:?}"),
    }
    let unread = Log::recover(image.options()).unwrap().committed_only();
    unread.open().unwrap_err();
    // Nor who has read one shard to where it breaks.
    let mut recovery = Log::recover(image.options()).unwrap();
    let mut shards = recovery.shards();
    let count = std::iter::from_fn(|| shards[0].next_entry().ok()?.map(|_| ())).count();
    assert_eq!(count, 700);
    assert_eq!(shards[0].next_entry().unwrap_err().to_string(), damage.to_string());
    recovery.open().unwrap_err();
    assert_eq!(contents(&image.dir()), before);
}

/// The last batch that is promised ends its segment, and the one behind it is torn: the run has an end all the same.
#[test]
fn a_torn_batch_right_behind_the_last_promise_leaves_everything_before_it() {
    for torn_at in [0, 3] {
        let (mut segments, _) = long_run();
        let number = (SEGMENT - FIRST) / u64::from(BLOCK) * 3 + 1;
        let mut last = Segment::new(0, 4);
        for more in 0..torn_at {
            last = last.put(&batch(number + more).promise(number + more - 1));
        }
        let place = last.place(last.at);
        let torn = last.tear(&batch(number + torn_at).promise(number + torn_at - 1));
        segments.push(torn);
        let image = Image::of_one(&segments);
        let (items, report) = recover(image.options()).unwrap();
        let count = number + torn_at - 1;
        assert_eq!(items.len() as u64, count);
        assert_eq!(report.shards[0].last, Some((BatchNumber(count), Seq(count))));
        assert_eq!(report.shards[0].batches, Some(count));
        let end = RunEnd::Torn { at: place, ignored: u64::from(BLOCK) };
        assert_eq!(report.shards[0].end, end);
    }
}

/// Barriers before the place from which a run is judged count as if they had been read.
#[test]
fn the_committed_epoch_is_known_without_reading_the_barriers() {
    let (mut segments, places) = long_run();
    let last = places.len() as u64;
    let open = Segment::new(0, 4)
        .put(&barrier(last + 1, 1).promise(last))
        .put(&barrier(last + 2, 2).promise(last + 1));
    let more = Segment::new(0, 5)
        .put(&batch(last + 3).epoch(3).promise(last + 2))
        .put(&batch(last + 4).epoch(3).promise(last + 3));
    segments.extend([open, more]);
    let image = Image::of_one(&segments);
    let recovery = Log::recover(image.options()).unwrap();
    assert_eq!(recovery.report().committed_epoch, Epoch(2));
    assert_eq!(recovery.report().shards[0].barrier, Epoch(2));
    // What an incarnation begins with is closed by none of its barriers.
    let mut first = manifest(vec![ShardRecord { barrier: Epoch(0), ..active(0) }]);
    first.first_epoch = Epoch(3);
    let third = Segment::new(0, 1).put(&batch(1).epoch(3)).put(&batch(2).epoch(3).promise(1));
    let image = Image::new(&first, &[third]);
    assert_eq!(Log::recover(image.options()).unwrap().report().committed_epoch, Epoch(0));
}

/// How often the bytes of a log that was not closed are read.
#[test]
fn a_log_that_was_not_closed_is_read_once() {
    const SEGMENT: u64 = 4 << 20;
    const USED: u64 = 6 * SEGMENT;
    for len in [400, 300_000] {
        let home = temp_dir();
        let dir = home.path().join("log");
        let options = || {
            tiny(&dir)
                .block_len(4096)
                .segment_len(SEGMENT)
                .first_segment_len(SEGMENT)
                .write_len(16 << 10)
                .max_batch(1 << 20)
                .max_record(512 << 10)
        };
        let (log, mut writer) = open_one(options());
        let payload = vec![7; len];
        while writer.stats().batch_bytes < USED {
            persist(&log, &mut writer, |writer| writer.append_bytes(corewal::Kind::PUT, &payload))
                .unwrap();
        }
        writer.sync().unwrap();
        drop((writer, log));
        let on_disk: u64 = contents(&dir).iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let tap = Tap::new(&dir);
        let (items, _) = recover(options().disk(tap.clone())).unwrap();
        assert!(items.iter().all(|item| item.bytes == payload));
        let read_len = tap.state().read_len;
        assert!(read_len < on_disk + USED / 2, "{read_len} bytes were read of {on_disk}");
    }
}
