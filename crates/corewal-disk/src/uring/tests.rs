//! What cannot be provoked from outside: a kernel that refuses, and one that consumes half.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, Probe, opcode};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::setup::{Flag, Kernel, Refusal, Sizes};
use super::*;
use crate::{Disk, Durability, Open, RealDisk, Token};

/// The running kernel, but for what it refuses.
#[derive(Default)]
struct Refusing {
    /// With `EINVAL`, as a kernel does that does not know them.
    flags: Vec<Flag>,
    ring: Option<i32>,
    enter: Option<i32>,
    probe: Option<i32>,
    opcodes: bool,
    /// Tables of more than this many files.
    files: Option<usize>,
    blocks: Option<i32>,
}

fn refuse(errno: Option<i32>) -> io::Result<()> {
    errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

impl Kernel for Refusing {
    fn ring(&self, sizes: Sizes, flags: &[Flag]) -> io::Result<IoUring> {
        refuse(self.ring)?;
        refuse(flags.iter().any(|flag| self.flags.contains(flag)).then_some(libc::EINVAL))?;
        Running.ring(sizes, flags)
    }

    fn enter(&self, ring: &IoUring) -> io::Result<()> {
        refuse(self.enter)?;
        Running.enter(ring)
    }

    fn probe(&self, ring: &IoUring) -> io::Result<Probe> {
        refuse(self.probe)?;
        if self.opcodes { Ok(Probe::new()) } else { Running.probe(ring) }
    }

    fn register_files(&self, ring: &IoUring, fds: &[RawFd]) -> io::Result<()> {
        refuse(self.files.filter(|&limit| fds.len() > limit).map(|_| libc::EMFILE))?;
        Running.register_files(ring, fds)
    }

    fn register_blocks(&self, ring: &IoUring, pool: &[Block]) -> io::Result<()> {
        refuse(self.blocks)?;
        Running.register_blocks(ring, pool)
    }
}

struct Place {
    dir: tempfile::TempDir,
    disk: RealDisk,
}

impl Place {
    /// `None` where io_uring is forbidden, unless `COREWAL_REQUIRE_URING` is set.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir, disk: RealDisk::new() };
        if let Err(reason) = UringRing::new(&config()) {
            assert!(std::env::var_os("COREWAL_REQUIRE_URING").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        Some(place)
    }

    fn file(&self) -> File {
        let open = Open::CREATE;
        self.disk.open(&self.dir.path().join("a"), open).unwrap()
    }

    fn lock(&self) -> Lock {
        self.disk.lock(&self.dir.path().join("LOCK"), "test").unwrap().unwrap()
    }
}

fn config() -> RingConfig {
    RingConfig { engine: Engine::Uring, depth: 4, block_count: 2, block_len: 4096, lock: None }
}

fn write(token: u64, file: FileSlot, block: Block, durability: Durability) -> Operation {
    let len = block.len();
    Operation::Write { token: Token(token), file, block, len, at: token * 4096, durability }
}

fn reap_all(ring: &mut UringRing) -> Vec<Completion> {
    let mut completions = Vec::new();
    while ring.in_flight() > 0 {
        ring.wait(None).unwrap();
        ring.reap(&mut completions).unwrap();
    }
    completions
}

/// Writes by each durability, and reads back.
fn assert_works(place: &Place, mut ring: UringRing) {
    let path = place.dir.path().join("a");
    let file = place.file();
    let slot = ring.register(&file).unwrap();
    let durabilities = [Durability::Written, Durability::Dsync, Durability::LinkedSync];
    for (token, durability) in (0..).zip(durabilities) {
        let mut block = ring.take_block().unwrap_or_else(|| Block::zeroed(4096));
        block.fill(b'x');
        ring.push(write(token, slot, block, durability)).unwrap();
    }
    ring.submit().unwrap();
    for completion in reap_all(&mut ring) {
        assert_eq!(completion.result.unwrap(), 4096);
    }
    assert_eq!(std::fs::read(&path).unwrap(), [b'x'; 3 * 4096]);
    place.disk.remove(&path).unwrap();
}

fn refusal(kernel: &Refusing, config: &RingConfig) -> Refusal {
    UringRing::with_kernel(kernel, config).map(|_| ()).unwrap_err()
}

#[test]
fn flags_step_down_one_by_one() {
    use Flag::{CoopTaskrun, DeferTaskrun, SingleIssuer, SubmitAll, Taskrun};

    let Some(place) = Place::new() else { return };
    let defer = ["SINGLE_ISSUER", "DEFER_TASKRUN", "TASKRUN_FLAG", "SUBMIT_ALL"];
    let single = ["SINGLE_ISSUER", "COOP_TASKRUN", "TASKRUN_FLAG", "SUBMIT_ALL"];
    let coop = ["COOP_TASKRUN", "TASKRUN_FLAG", "SUBMIT_ALL"];
    let all = ["DEFER_TASKRUN", "SINGLE_ISSUER", "COOP_TASKRUN", "TASKRUN_FLAG", "SUBMIT_ALL"];
    let cases: [(&[Flag], &[&str], &[&str]); 6] = [
        (&[], &defer, &[]),
        (&[DeferTaskrun], &single, &all[..1]),
        (&[SingleIssuer], &coop, &all[..2]),
        (&[DeferTaskrun, CoopTaskrun], &[], &all),
        (&[Taskrun], &[], &all),
        (&[SubmitAll], &[], &all),
    ];
    for (refused, flags, refused_flags) in cases {
        let kernel = Refusing { flags: refused.to_vec(), ..Refusing::default() };
        let ring = UringRing::with_kernel(&kernel, &config()).unwrap();
        // An older kernel refuses more by itself.
        if place.knows_all_flags() {
            assert_eq!(ring.facts().flags, flags, "{refused:?}");
            assert_eq!(ring.facts().refused_flags, refused_flags, "{refused:?}");
        }
        assert_works(&place, ring);
    }
}

impl Place {
    fn knows_all_flags(&self) -> bool {
        UringRing::new(&config()).unwrap().facts().refused_flags.is_empty()
    }
}

#[test]
fn each_refusal_says_its_call_and_a_reason() {
    for (errno, text) in [
        (libc::EPERM, "seccomp or kernel.io_uring_disabled"),
        (libc::EACCES, "security module"),
        (libc::ENOSYS, "not in this kernel"),
        (libc::ENOMEM, "RLIMIT_MEMLOCK"),
        (libc::EMFILE, "RLIMIT_NOFILE"),
        (libc::EINVAL, "too old"),
    ] {
        let kernel = Refusing { ring: Some(errno), ..Refusing::default() };
        let found = refusal(&kernel, &config()).to_string();
        assert!(found.starts_with("io_uring_setup: ") && found.contains(text), "{found}");
    }
    let kernel = Refusing { ring: Some(libc::EPERM), ..Refusing::default() };
    let error = io::Error::from(refusal(&kernel, &config()));
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_kernel_without_the_operations_is_refused() {
    if Place::new().is_none() {
        return;
    }
    let kernel = Refusing { probe: Some(libc::EINVAL), ..Refusing::default() };
    assert!(refusal(&kernel, &config()).to_string().contains("PROBE"));
    let kernel = Refusing { opcodes: true, ..Refusing::default() };
    assert!(refusal(&kernel, &config()).to_string().contains("the operation WRITE"));
}

#[test]
fn a_ring_that_may_not_be_entered_is_refused() {
    if Place::new().is_none() {
        return;
    }
    let kernel = Refusing { enter: Some(libc::EPERM), ..Refusing::default() };
    let found = refusal(&kernel, &config()).to_string();
    assert!(found.starts_with("io_uring_enter: ") && found.contains("seccomp"), "{found}");
}

#[test]
fn refused_blocks_are_written_unregistered() {
    let Some(place) = Place::new() else { return };
    let kernel = Refusing { blocks: Some(libc::ENOMEM), ..Refusing::default() };
    let mut ring = UringRing::with_kernel(&kernel, &config()).unwrap();
    let reason = ring.facts().registered_blocks.unwrap_err();
    assert!(reason.contains("BUFFERS") && reason.contains("RLIMIT_MEMLOCK"), "{reason}");
    let block = ring.take_block().unwrap();
    assert_eq!(block.registered_with(ring.pool_id), None);
    assert_works(&place, ring);
}

#[test]
fn a_refused_table_leaves_plain_descriptors() {
    let Some(place) = Place::new() else { return };
    let kernel = Refusing { files: Some(0), ..Refusing::default() };
    let ring = UringRing::with_kernel(&kernel, &config()).unwrap();
    assert!(!ring.facts().registered_files);
    assert_works(&place, ring);
}

#[test]
fn the_lock_is_registered_alone_or_there_is_no_ring() {
    let Some(place) = Place::new() else { return };
    let config = RingConfig { lock: Some(place.lock()), ..config() };
    let kernel = Refusing { files: Some(1), ..Refusing::default() };
    let ring = UringRing::with_kernel(&kernel, &config).unwrap();
    assert!(!ring.facts().registered_files);
    assert_works(&place, ring);
    let kernel = Refusing { files: Some(0), ..Refusing::default() };
    assert!(refusal(&kernel, &config).to_string().contains("FILES"));
}

/// The kernel's own reference keeps the lock: descriptors of a killed process are closed at once.
#[test]
fn the_registration_alone_keeps_the_lock() {
    let Some(place) = Place::new() else { return };
    let config = RingConfig { lock: Some(place.lock()), ..config() };
    let mut ring = UringRing::new(&config).unwrap();
    drop(config);
    drop(ring.lock.take());
    let again = || place.disk.lock(&place.dir.path().join("LOCK"), "again").unwrap();
    assert!(again().is_err());
    drop(ring);
    let start = std::time::Instant::now();
    while again().is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "the lock stays");
        std::thread::yield_now();
    }
}

/// A link does not span submissions. If the kernel takes only the write, the sync behind it runs
/// beside it.
#[test]
fn a_link_cut_by_the_kernel_is_synced_again() {
    let Some(place) = Place::new() else { return };
    let mut ring = UringRing::new(&config()).unwrap();
    let slot = ring.register(&place.file()).unwrap();
    ring.push(write(0, slot, Block::zeroed(4096), Durability::LinkedSync)).unwrap();
    let index = ring.queued.pop_front().unwrap();
    ring.ops.op_mut(index).ready = true;
    ring.ready.push_back(index);
    ring.stage();
    assert_eq!(ring.staged.len(), 2);
    // SAFETY: no argument is passed.
    let consumed = unsafe { ring.ring.submitter().enter::<()>(1, 0, 0, None) };
    assert_eq!(consumed.unwrap(), 1);
    ring.settle();
    assert_eq!(ring.staged.len(), 1);
    assert_eq!(ring.tickets.issued_ever(), 2);
    assert_eq!(reap_all(&mut ring)[0].result.as_ref().unwrap(), &4096);
    assert_eq!(ring.tickets.issued_ever(), 3, "write, the sync beside it, the sync after both");
}

#[test]
fn a_whole_link_needs_no_other_sync() {
    let Some(place) = Place::new() else { return };
    let mut ring = UringRing::new(&config()).unwrap();
    let slot = ring.register(&place.file()).unwrap();
    ring.push(write(0, slot, Block::zeroed(4096), Durability::LinkedSync)).unwrap();
    ring.submit().unwrap();
    assert_eq!(reap_all(&mut ring)[0].result.as_ref().unwrap(), &4096);
    assert_eq!(ring.tickets.issued_ever(), 2);
}

#[test]
fn an_unknown_completion_panics() {
    let Some(_place) = Place::new() else { return };
    let mut ring = UringRing::new(&config()).unwrap();
    let nop = opcode::Nop::new().build().user_data(77);
    // SAFETY: a no-operation names nothing.
    unsafe { entry::push(&mut ring.ring, &nop) }
    ring.ring.submitter().submit_and_wait(1).unwrap();
    let reap = std::panic::AssertUnwindSafe(|| ring.reap(&mut Vec::new()));
    let panic = std::panic::catch_unwind(reap).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("0x4d that belongs to nothing"), "{text}");
}

/// Before Linux 5.11 no call takes a timeout.
#[test]
fn without_a_timed_call_the_descriptor_is_polled() {
    let Some(place) = Place::new() else { return };
    let kernel = Refusing { flags: vec![Flag::Taskrun], ..Refusing::default() };
    let mut ring = UringRing::with_kernel(&kernel, &config()).unwrap();
    let slot = ring.register(&place.file()).unwrap();
    ring.poll(Duration::ZERO).unwrap();
    ring.push(write(0, slot, Block::zeroed(4096), Durability::LinkedSync)).unwrap();
    ring.submit().unwrap();
    let mut completions = Vec::new();
    while completions.is_empty() {
        ring.poll(Duration::from_secs(3600)).unwrap();
        ring.reap(&mut completions).unwrap();
    }
    assert_eq!(completions[0].result.as_ref().unwrap(), &4096);
}

#[test]
fn being_put_off_is_an_error_only_in_the_end() {
    let Some(_place) = Place::new() else { return };
    let mut ring = UringRing::new(&config()).unwrap();
    let judge = |ring: &mut UringRing, errno| ring.judge(io::Error::from_raw_os_error(errno));
    for errno in [libc::EINTR, libc::ETIME, libc::EAGAIN, libc::EBUSY] {
        judge(&mut ring, errno).unwrap();
    }
    assert_eq!(judge(&mut ring, libc::EEXIST).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    ring.deferrals = MAX_DEFERRALS;
    judge(&mut ring, libc::EINTR).unwrap();
    assert_eq!(judge(&mut ring, libc::EAGAIN).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
}

/// A write that waits for a reader: the kernel has it, and nothing but the alarm can end the wait.
#[test]
fn the_alarm_ends_a_wait_for_what_does_not_complete() {
    let Some(place) = Place::new() else { return };
    let path = place.dir.path().join("fifo");
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: a C string, borrowed for the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let fifo = place.disk.open(&path, Open::WRITE).unwrap();
    let mut ring = UringRing::new(&config()).unwrap();
    let alarm = Arc::new(Alarm::new().unwrap());
    ring.listen(&alarm);
    let slot = ring.register(&fifo).unwrap();
    // As much as a pipe holds (pipe(7)), and then more.
    let len = 64 * 1024;
    ring.push(write(0, slot, Block::zeroed(len), Durability::Written)).unwrap();
    ring.submit().unwrap();
    assert_eq!(*reap_all(&mut ring)[0].result.as_ref().unwrap(), len);
    ring.push(write(1, slot, Block::zeroed(4096), Durability::Written)).unwrap();
    ring.submit().unwrap();
    let mut completions = Vec::new();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| alarm.raise());
            while alarm.clear() == 0 {
                ring.wait(None).unwrap();
            }
        });
        ring.reap(&mut completions).unwrap();
        assert!(completions.is_empty());
    }
    let mut reader = std::fs::File::open(&path).unwrap();
    std::io::Read::read_exact(&mut reader, &mut vec![0; len]).unwrap();
    assert_eq!(reap_all(&mut ring).len(), 1);
}

/// Runs `act` on a thread, since a ring belongs to one, and panics if it does not end.
fn in_bounded_time(act: impl FnOnce() + Send + 'static) {
    let (sender, done) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        act();
        sender.send(()).unwrap();
    });
    let hangs = std::sync::mpsc::RecvTimeoutError::Timeout;
    assert_ne!(done.recv_timeout(Duration::from_secs(60)), Err(hangs), "it hangs");
    thread.join().unwrap();
}

/// Of those that announce their completions, too; and whether its alarm is raised, which nobody clears any more.
#[test]
fn a_ring_that_is_dropped_waits_for_what_is_in_flight() {
    let Some(place) = Place::new() else { return };
    in_bounded_time(move || {
        for is_raised in [false, true] {
            for durability in [Durability::Dsync, Durability::LinkedSync] {
                let mut ring = UringRing::new(&config()).unwrap();
                let alarm = Arc::new(Alarm::new().unwrap());
                ring.listen(&alarm);
                ring.announce().unwrap();
                alarm.clear();
                let slot = ring.register(&place.file()).unwrap();
                let mut block = ring.take_block().unwrap();
                block.fill(b'y');
                ring.push(write(0, slot, block, durability)).unwrap();
                ring.submit().unwrap();
                if is_raised {
                    alarm.raise();
                }
                drop(ring);
                let path = place.dir.path().join("a");
                assert_eq!(std::fs::read(&path).unwrap(), [b'y'; 4096]);
                place.disk.remove(&path).unwrap();
            }
        }
    });
}

/// On this thread the kernel puts off every submission, for ever.
fn put_everything_off() {
    let errno = SeccompAction::Errno(libc::EAGAIN.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let rules = [(libc::SYS_io_uring_enter, Vec::new())].into();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// Nothing is in the kernel that would raise the alarm, so whoever sleeps on it is told to try again.
#[test]
fn what_is_put_off_raises_the_alarm_that_is_slept_on() {
    let Some(place) = Place::new() else { return };
    in_bounded_time(move || {
        let mut ring = UringRing::new(&config()).unwrap();
        let alarm = Arc::new(Alarm::new().unwrap());
        ring.listen(&alarm);
        ring.announce().unwrap();
        let slot = ring.register(&place.file()).unwrap();
        put_everything_off();
        ring.push(write(0, slot, Block::zeroed(4096), Durability::Dsync)).unwrap();
        alarm.clear();
        ring.submit().unwrap();
        assert!(alarm.clear() > 0, "an event loop sleeps for ever");
        ring.reap(&mut Vec::new()).unwrap();
        assert!(alarm.clear() > 0, "and after the next try");
        ring.wait(None).unwrap();
    });
}
