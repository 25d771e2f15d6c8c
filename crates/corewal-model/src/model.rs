//! The steps that the protocol can take, as a `stateright` model.

use stateright::{Model, Property};

use crate::config::Bounds;
use crate::disk::{Content, Disk, Fate, Header, Piece, Slot};
use crate::jobs::first_manifest;
use crate::ledger::{Damaged, Ledger, Violation};
use crate::recovery::{Look, Opening, Place};
use crate::rules::{Rule, Rules};
use crate::state::{Phase, Progress, Purpose, Reader, ReaderStep, Spent, State, Writer};
use crate::writer::Kind;

/// The protocol under some rules, within some bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
}

/// A piece of the disk that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Display says each in words")]
pub enum Damage {
    Batch { shard: u8, segment: u8, block: u8 },
    BothHeaderCopies { shard: u8, segment: u8 },
    FileGone { shard: u8, segment: u8 },
    ManifestBroken { slot: u8 },
    ManifestGone { slot: u8 },
}

/// A step. Shards, segments, blocks and batches are numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "Display says each in words")]
pub enum Action {
    Append(u8),
    AppendBecauseOf { shard: u8, cause: u8 },
    Transaction(u8),
    TransactionPart(u8),
    TransactionMark { shard: u8, part: u8 },
    Submit(u8),
    CloseEpoch(u8),
    Vouch(u8),
    Complete { shard: u8, batch: u8 },
    StartSync(u8),
    EndSync(u8),
    FailSync(u8),
    Publish,
    ReportUnpublished,
    Rotate(u8),
    StartPreparing(u8),
    FillLands(u8),
    Prepared(u8),
    PreparingFails(u8),
    Truncate { shard: u8, after: u8, dropped: u32 },
    Checkpoint,
    Close,
    RenameManifest,
    SyncDirectory,
    PrepareEarly(u8),
    PowerCut(Vec<(Piece, Fate)>),
    Kill(Vec<(Piece, Fate)>),
    LateWriteLands { shard: u8, segment: u8 },
    Recover(Opening),
    Damage(Damage),
    ReaderTakesManifest,
    ReaderMeetsBadPlace,
    ReaderFindsWitness,
    ReaderDecides,
}

impl Protocol {
    fn first_state(&self) -> State {
        let shards = usize::from(self.bounds.shards.iter().copied().max().unwrap_or(1));
        let mut disk = Disk {
            shards: vec![Vec::new(); shards],
            slots: [Slot::Absent, Slot::Absent],
            renamed: None,
        };
        if !self.bounds.from_empty {
            disk.hold(first_manifest(1, shards).into());
            disk.hold(first_manifest(2, shards).into());
        }
        State {
            disk,
            phase: Phase::Down,
            ledger: Ledger::default(),
            reader: None,
            was_quiet: false,
            spent: Spent::default(),
            violation: None,
        }
    }

    fn writer_actions(&self, state: &State, shard: u8, writer: &Writer, out: &mut Vec<Action>) {
        let (bounds, spent) = (&self.bounds, &state.spent);
        for flying in &writer.flight {
            if flying.progress == Progress::Submitted && !writer.failed {
                out.push(Action::Complete { shard, batch: flying.number });
            }
        }
        if bounds.syncs && !writer.failed {
            match writer.sync {
                None if writer.flight.iter().any(|it| it.progress == Progress::Written) => {
                    out.push(Action::StartSync(shard));
                }
                None => {}
                Some(_) => {
                    out.push(Action::EndSync(shard));
                    if spent.failures < bounds.failures {
                        out.push(Action::FailSync(shard));
                    }
                }
            }
        }
        if bounds.steps {
            self.preparing_actions(state, shard, writer, out);
        }
        let truncates = matches!(
            state.job().map(|job| job.purpose),
            Some(Purpose::Truncate { shard: cut, .. }) if cut == shard
        );
        let closes = matches!(state.job().map(|job| job.purpose), Some(Purpose::Close));
        if writer.failed || closes || truncates && self.rules.has(Rule::TruncationDrains) {
            return;
        }
        self.appending_actions(state, shard, writer, out);
        let may_submit = self.in_flight(writer) < bounds.depth && self.has_place(state, shard);
        if !writer.open.is_empty() && may_submit {
            out.push(Action::Submit(shard));
        }
        let process = state.process();
        let closed = writer.epoch - 1;
        let floor = process.committed.max(process.manifest.first_epoch - 1);
        let may_close = closed.saturating_sub(floor) < process.manifest.bound;
        if writer.open.is_empty() && may_submit && may_close && spent.closes < bounds.closes {
            out.push(Action::CloseEpoch(shard));
        }
        let base = process.manifest.committed;
        if bounds.vouches
            && writer.is_idle()
            && may_submit
            && writer.owes_vouch(process.committed, base)
            && self.rules.has(Rule::IdleShardsVouch)
            && self.leaves_room_for_barriers(state, shard)
        {
            out.push(Action::Vouch(shard));
        }
        if spent.rotations < bounds.rotations && writer.at > 0 && writer.at < bounds.blocks {
            out.push(Action::Rotate(shard));
        }
        if spent.truncations < bounds.truncations && state.job().is_none() {
            let drains = self.rules.has(Rule::TruncationDrains);
            if !drains || writer.is_idle() {
                let cuts = self.cuts(state, shard).into_iter();
                out.extend(cuts.map(|(after, dropped)| Action::Truncate { shard, after, dropped }));
            }
        }
    }

    fn appending_actions(&self, state: &State, shard: u8, writer: &Writer, out: &mut Vec<Action>) {
        let bounds = &self.bounds;
        let left = bounds.entries - state.spent.entries.min(bounds.entries);
        let open = u8::try_from(writer.open.len()).unwrap_or(u8::MAX);
        let last_group =
            writer.open.last().and_then(|entry| state.ledger.given[usize::from(entry.id)].group);
        if left == 0 || open >= bounds.batch || last_group.is_some() || !self.has_room(state, shard)
        {
            return;
        }
        out.push(Action::Append(shard));
        if bounds.observes {
            let others = (0_u8..).zip(&state.ledger.given).filter(|(_, given)| {
                let is_ahead = given.stamp.epoch > writer.epoch;
                given.stamp.shard != shard
                    && !(is_ahead && self.rules.has(Rule::EpochBehindIsRefused))
            });
            out.extend(others.map(|(cause, _)| Action::AppendBecauseOf { shard, cause }));
        }
        if bounds.transactions && left >= 2 && open == 0 {
            out.push(match self.rules.has(Rule::ATransactionIsOneBatch) {
                true => Action::Transaction(shard),
                false => Action::TransactionPart(shard),
            });
        }
        if bounds.transactions && !self.rules.has(Rule::ATransactionIsOneBatch) {
            for (part, given) in (0_u8..).zip(&state.ledger.given) {
                if given.stamp.shard == shard && !given.barrier && open == 0 {
                    out.push(Action::TransactionMark { shard, part });
                }
            }
        }
    }

    /// An append that opens a batch leaves room for the bound's barriers and a vouch.
    fn has_room(&self, state: &State, shard: u8) -> bool {
        if !state.writer(shard).open.is_empty() || self.bounds.files == u8::MAX {
            return true;
        }
        let reserves = self.rules.has(Rule::RoomIsReserved);
        let reserve = if reserves { state.process().manifest.bound + 1 } else { 0 };
        self.room(state, shard) > reserve
    }

    /// A vouch leaves room for the barriers that may still have to follow it.
    fn leaves_room_for_barriers(&self, state: &State, shard: u8) -> bool {
        let limited = self.bounds.files != u8::MAX;
        let bound = state.process().manifest.bound;
        !limited
            || !self.rules.has(Rule::VouchesLeaveRoomForBarriers)
            || self.room(state, shard) > bound
    }

    fn preparing_actions(&self, state: &State, shard: u8, writer: &Writer, out: &mut Vec<Action>) {
        let ready = u8::try_from(writer.queue.len()).unwrap_or(u8::MAX);
        let Some(number) = writer.preparing else {
            if ready < self.bounds.ahead && self.can_prepare(state, shard) {
                out.push(Action::StartPreparing(shard));
            }
            return self.filling_actions(state, shard, out);
        };
        let is_filling = state.disk.file(shard, number).is_some_and(|file| file.is_filling);
        if !is_filling || !self.rules.has(Rule::PreparersWritesCompleteFirst) {
            out.push(Action::Prepared(shard));
        }
        if !self.rules.has(Rule::NoNumberIsSkipped) && state.spent.skips == 0 {
            out.push(Action::PreparingFails(shard));
        }
        self.filling_actions(state, shard, out);
    }

    fn filling_actions(&self, state: &State, shard: u8, out: &mut Vec<Action>) {
        if state.disk.shards[usize::from(shard)].iter().any(|file| file.is_filling) {
            out.push(Action::FillLands(shard));
        }
    }

    fn running_actions(&self, state: &State, out: &mut Vec<Action>) {
        let (bounds, spent, process) = (&self.bounds, &state.spent, state.process());
        for (shard, writer) in process.live() {
            self.writer_actions(state, shard, writer, out);
        }
        if process.closed_everywhere() > process.committed {
            out.push(Action::Publish);
            if !self.rules.has(Rule::PublishedBeforeReported)
                && process.closed_everywhere() > state.ledger.reported
            {
                out.push(Action::ReportUnpublished);
            }
        }
        if process.job.is_none() {
            if spent.checkpoints < bounds.checkpoints && self.release(state).is_some() {
                out.push(Action::Checkpoint);
            }
            let is_idle = process.live().all(|(_, writer)| writer.is_idle());
            if spent.clean_closes < bounds.clean_closes && is_idle {
                out.push(Action::Close);
            }
        }
        if bounds.reader {
            self.reader_actions(state, out);
        }
        if spent.kills < bounds.kills {
            self.fates(state, true, out);
        }
    }

    /// What may become of each volatile piece, in every combination.
    fn fates(&self, state: &State, is_kill: bool, out: &mut Vec<Action>) {
        let mut histories: Vec<Vec<(Piece, Fate)>> = vec![Vec::new()];
        for piece in state.disk.volatile() {
            let mut fates = vec![Fate::Survives, Fate::Lost];
            if is_kill {
                if !is_submitted(state, piece) {
                    continue;
                }
                if !self.rules.has(Rule::LockIsHeldUntilTheLastWriteLanded) {
                    fates.push(Fate::Late);
                }
            } else if self.bounds.tears && matches!(piece, Piece::Block { .. }) {
                fates.push(Fate::Torn);
            }
            let longer = histories.iter().flat_map(|history| {
                fates.iter().map(move |&fate| [history.as_slice(), &[(piece, fate)]].concat())
            });
            histories = longer.collect();
        }
        let action = if is_kill { Action::Kill } else { Action::PowerCut };
        out.extend(histories.into_iter().map(action));
    }

    fn reader_actions(&self, state: &State, out: &mut Vec<Action>) {
        let Some(reader) = &state.reader else {
            return out.push(Action::ReaderTakesManifest);
        };
        match reader.step {
            ReaderStep::HasManifest => out.push(Action::ReaderMeetsBadPlace),
            ReaderStep::SawBadPlace => {
                let behind = self.reader_look(state).behind(0, reader.place, reader.incarnation);
                if behind.iter().any(|batch| batch.durable >= reader.place.expected) {
                    out.push(Action::ReaderFindsWitness);
                }
            }
            ReaderStep::SawWitness => out.push(Action::ReaderDecides),
        }
    }

    fn reader_look<'a>(&self, state: &'a State) -> Look<'a> {
        Look { disk: &state.disk, rules: self.rules }
    }

    fn down_actions(&self, state: &State, out: &mut Vec<Action>) {
        let (bounds, spent) = (&self.bounds, &state.spent);
        if spent.opens < bounds.opens {
            let is_new = state.ledger.incarnations.is_empty();
            let some = |all: &'static [u8]| if is_new { &all[..1] } else { all };
            for &shards in some(bounds.shards) {
                for &bound in some(bounds.pipeline) {
                    let modes: &[bool] =
                        if bounds.committed_only { &[false, true] } else { &[false] };
                    for &committed_only in modes {
                        out.push(Action::Recover(Opening { shards, bound, committed_only }));
                    }
                }
            }
        }
        let is_settled = state.disk.volatile().is_empty();
        if spent.damages < bounds.damages && !state.ledger.incarnations.is_empty() && is_settled {
            out.extend(damages(&state.disk).map(Action::Damage));
        }
    }

    fn apply(&self, state: &mut State, action: &Action) -> Result<(), Violation> {
        match *action {
            Action::Append(shard) => drop(self.append(state, shard, false, None)?),
            Action::AppendBecauseOf { shard, cause } => self.observe(state, shard, cause)?,
            Action::Transaction(shard) => {
                let first = self.append(state, shard, false, None)?;
                self.append(state, shard, false, Some(first.id))?;
            }
            Action::TransactionPart(shard) => drop(self.append(state, shard, false, None)?),
            Action::TransactionMark { shard, part } => {
                self.append(state, shard, false, Some(part))?;
            }
            Action::Submit(shard) => self.submit(state, shard, Kind::Entries),
            Action::CloseEpoch(shard) => self.close_epoch(state, shard)?,
            Action::Vouch(shard) => self.submit(state, shard, Kind::Vouch),
            Action::Complete { shard, batch } => self.complete(state, shard, batch),
            Action::StartSync(shard) => self.start_sync(state, shard),
            Action::EndSync(shard) => self.end_sync(state, shard),
            Action::FailSync(shard) => self.fail_sync(state, shard),
            Action::Publish => self.publish(state)?,
            Action::ReportUnpublished => self.report(state)?,
            Action::Rotate(shard) => {
                self.take_segment(state, shard);
                state.spent.rotations += 1;
            }
            Action::StartPreparing(shard) => self.start_preparing(state, shard),
            Action::FillLands(shard) => {
                for file in &mut state.disk.shards[usize::from(shard)] {
                    if file.is_filling {
                        file.fill();
                    }
                }
            }
            Action::Prepared(shard) => self.finish_preparing(state, shard),
            Action::PreparingFails(shard) => {
                let writer = state.writer_mut(shard);
                let number = writer.preparing.take();
                writer.skipped = 1;
                state.disk.shards[usize::from(shard)].retain(|file| Some(file.number) != number);
                state.spent.skips += 1;
            }
            Action::Truncate { shard, after, dropped } => {
                self.truncate(state, shard, after, dropped);
            }
            Action::Checkpoint => self.start_release(state),
            Action::Close => self.close(state),
            Action::RenameManifest => self.rename_manifest(state),
            Action::SyncDirectory => self.finish_manifest(state)?,
            Action::PrepareEarly(shard) => prepare_early(state, shard, self.bounds.blocks),
            Action::PowerCut(ref fates) => self.power_cut(state, fates),
            Action::Kill(ref fates) => self.kill(state, fates),
            Action::LateWriteLands { shard, segment } => {
                if let Some(file) = state.disk.file_mut(shard, segment) {
                    let (block, content) = file.late.remove(0);
                    file.blocks[usize::from(block)].write(content);
                }
            }
            Action::Recover(opening) => self.recover(state, opening)?,
            Action::Damage(damage) => self.damage(state, damage),
            Action::ReaderTakesManifest => self.reader_starts(state),
            Action::ReaderMeetsBadPlace => self.reader_walks(state),
            Action::ReaderFindsWitness => {
                state.reader = state.reader.map(|it| Reader { step: ReaderStep::SawWitness, ..it });
            }
            Action::ReaderDecides => self.reader_decides(state)?,
        }
        self.check_room(state)
    }

    fn is_quiet(&self, state: &State) -> bool {
        let Phase::Running(process) = &state.phase else { return state.was_quiet };
        let base = process.manifest.committed;
        let owes = |writer: &Writer| {
            self.rules.has(Rule::IdleShardsVouch) && writer.owes_vouch(process.committed, base)
        };
        self.bounds.vouches
            && process.closed_everywhere() == process.committed
            && process.live().all(|(_, writer)| writer.is_idle() && !owes(writer))
    }

    fn power_cut(&self, state: &mut State, fates: &[(Piece, Fate)]) {
        state.was_quiet = self.is_quiet(state);
        state.disk.cut(fates);
        state.phase = Phase::Down;
        state.reader = None;
        state.spent.cuts += 1;
    }

    /// The process is killed: what was written stays in the cache, each write in flight lands, or not, or later.
    fn kill(&self, state: &mut State, fates: &[(Piece, Fate)]) {
        state.was_quiet = self.is_quiet(state);
        for &(piece, fate) in fates {
            let Piece::Block { shard, segment, block } = piece else { continue };
            let Some(file) = state.disk.file_mut(shard, segment) else { continue };
            let slot = &mut file.blocks[usize::from(block)].volatile;
            match fate {
                Fate::Survives | Fate::Torn => {}
                Fate::Lost => *slot = None,
                Fate::Late => {
                    let content = slot.take();
                    file.late.extend(content.map(|content| (block, content)));
                }
            }
        }
        for file in state.disk.shards.iter_mut().flatten().filter(|file| file.is_filling) {
            file.fill();
        }
        state.phase = Phase::Down;
        state.reader = None;
        state.spent.kills += 1;
    }

    fn damage(&self, state: &mut State, damage: Damage) {
        state.spent.damages += 1;
        let by_quiet = if state.was_quiet { Damaged::Accountable } else { Damaged::Excusable };
        let disk = &mut state.disk;
        state.ledger.damaged = Some(match damage {
            Damage::Batch { shard, segment, block } => {
                if let Some(file) = disk.file_mut(shard, segment) {
                    file.blocks[usize::from(block)].durable = Content::Garbage;
                }
                by_quiet
            }
            Damage::BothHeaderCopies { shard, segment } => {
                if let Some(file) = disk.file_mut(shard, segment) {
                    file.header = Header::Broken;
                }
                by_quiet
            }
            Damage::FileGone { shard, segment } => {
                let files = &mut disk.shards[usize::from(shard)];
                files.retain(|file| file.number != segment);
                let is_below = files.iter().any(|file| file.number > segment);
                if is_below { Damaged::Accountable } else { Damaged::LastFile }
            }
            Damage::ManifestBroken { slot } => {
                disk.slots[usize::from(slot)] = Slot::Broken;
                Damaged::Accountable
            }
            Damage::ManifestGone { slot } => {
                disk.slots[usize::from(slot)] = Slot::Absent;
                Damaged::Accountable
            }
        });
    }

    fn reader_starts(&self, state: &mut State) {
        let manifest = &state.process().manifest;
        let Some(start) = manifest.shards[0].current else { return };
        state.reader = Some(Reader {
            generation: manifest.generation,
            incarnation: manifest.incarnation,
            place: Place { segment: start.segment, at: 0, expected: start.batch },
            step: ReaderStep::HasManifest,
        });
    }

    fn reader_walks(&self, state: &mut State) {
        let Some(mut reader) = state.reader else { return };
        let look = self.reader_look(state);
        while look.step(0, &mut reader.place, reader.incarnation).is_some() {}
        reader.step = ReaderStep::SawBadPlace;
        state.reader = Some(reader);
    }

    /// Reads the bad place again, then the manifest, and reports damage if neither explains it.
    fn reader_decides(&self, state: &mut State) -> Result<(), Violation> {
        let Some(mut reader) = state.reader.take() else { return Ok(()) };
        let is_good_now = self.rules.has(Rule::ReaderReadsAgain)
            && self.reader_look(state).step(0, &mut reader.place, reader.incarnation).is_some();
        let is_newer = self.rules.has(Rule::ReaderAsksTheManifestLast)
            && state.process().manifest.generation > reader.generation;
        if is_good_now || is_newer { Ok(()) } else { Err(Violation::FalseAlarm) }
    }

    /// A shard that has no room for a barrier must have nothing left to commit.
    fn check_room(&self, state: &State) -> Result<(), Violation> {
        let Phase::Running(process) = &state.phase else { return Ok(()) };
        let incarnation = process.manifest.incarnation;
        for (shard, writer) in process.live() {
            let is_covered = |stamp: crate::ledger::Stamp| stamp.epoch < writer.epoch;
            let uncovered = state.ledger.given.iter().any(|given| {
                given.stamp.shard == shard
                    && given.incarnation == incarnation
                    && !is_covered(given.stamp)
            });
            let limited = self.bounds.files != u8::MAX;
            let is_full = limited && writer.is_idle() && self.room(state, shard) == 0;
            let has_way_out = process.job.is_some()
                || process.closed_everywhere() > process.committed
                || self.release(state).is_some();
            if is_full && uncovered && !has_way_out {
                return Err(Violation::StuckWithoutRoom);
            }
        }
        Ok(())
    }
}

/// Whether a piece is a write that was submitted and has not completed.
fn is_submitted(state: &State, piece: Piece) -> bool {
    let Piece::Block { shard, segment, block } = piece else { return false };
    let Phase::Running(process) = &state.phase else { return false };
    process.writer(shard).is_some_and(|writer| {
        writer
            .flight
            .iter()
            .any(|it| (it.segment, it.at, it.progress) == (segment, block, Progress::Submitted))
    })
}

/// Every single piece of damage that a disk can suffer.
fn damages(disk: &Disk) -> impl Iterator<Item = Damage> {
    let mut all = Vec::new();
    for (shard, files) in (0..).zip(&disk.shards) {
        for file in files {
            let segment = file.number;
            for (block, it) in (0..).zip(&file.blocks) {
                if matches!(it.durable, Content::Whole(_) | Content::Torn(_)) {
                    all.push(Damage::Batch { shard, segment, block });
                }
            }
            all.push(Damage::BothHeaderCopies { shard, segment });
            all.push(Damage::FileGone { shard, segment });
        }
    }
    for slot in 0..2 {
        if matches!(disk.slots[usize::from(slot)], Slot::Held(_)) {
            all.extend([Damage::ManifestBroken { slot }, Damage::ManifestGone { slot }]);
        }
    }
    all.into_iter()
}

/// Without the rule that nothing is made before the manifest: a segment of the next incarnation.
fn prepare_early(state: &mut State, shard: u8, blocks: u8) {
    use crate::disk::{Block, File, HeaderText};
    state.spent.early += 1;
    let Some(job) = state.job() else { return };
    let incarnation = job.next.incarnation;
    let Some(current) = job.next.shards[usize::from(shard)].current else { return };
    let file = File {
        number: current.segment,
        is_named: true,
        was: None,
        header: Header::Durable(HeaderText { incarnation, cut: None }),
        is_filling: false,
        blocks: vec![Block::zero(); usize::from(blocks)],
        late: Vec::new(),
    };
    state.disk.put(shard, file);
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first_state()]
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        if state.violation.is_some() || state.phase == Phase::Over {
            return;
        }
        match &state.phase {
            Phase::Running(_) => self.running_actions(state, out),
            Phase::Down => self.down_actions(state, out),
            Phase::Opening(job) => {
                let early = !self.rules.has(Rule::NothingBeforeTheManifest);
                let opens = matches!(job.purpose, Purpose::Open { .. });
                if early && opens && state.spent.early == 0 {
                    out.push(Action::PrepareEarly(0));
                }
            }
            Phase::Over => {}
        }
        if let Some(job) = state.job() {
            out.push(if job.is_renamed { Action::SyncDirectory } else { Action::RenameManifest });
        }
        for (shard, files) in (0..).zip(&state.disk.shards) {
            for file in files.iter().filter(|file| !file.late.is_empty()) {
                out.push(Action::LateWriteLands { shard, segment: file.number });
            }
        }
        let has_something = state.phase != Phase::Down || !state.disk.volatile().is_empty();
        if state.spent.cuts < self.bounds.cuts && state.ledger.damaged.is_none() && has_something {
            self.fates(state, false, out);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if let Err(violation) = self.apply(&mut state, &action) {
            state.violation = Some(violation);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        use Violation::*;
        macro_rules! never {
            ($($kind:ident),*) => {
                vec![$(Property::always(name($kind), |_, state: &State| {
                    state.violation != Some($kind)
                })),*]
            };
        }
        never![
            AcknowledgedIsLost,
            GoneComesBack,
            OrderIsBroken,
            HalfAGroup,
            CommittedGoesBack,
            CommittedIsNotWhole,
            StampGivenOutTwice,
            EpochGivenOutTwice,
            EffectBeforeCause,
            PowerCutIsRefused,
            DamageIsSilent,
            WindowIsTooWide,
            WrongAnswer,
            FalseAlarm,
            StuckWithoutRoom
        ]
    }
}

fn name(violation: Violation) -> &'static str {
    let found = Violation::ALL.iter().find(|(kind, _)| *kind == violation);
    found.map_or("", |(_, name)| name)
}
