use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{LinkedWake, Mailbox, Messenger};
use crate::trial::Words;
use crate::{Disk, Open, RealDisk};

const LEN: usize = 4096;

/// `None` where the kernel lacks the operation, unless `COREWAL_REQUIRE_URING` is set.
fn had<T>(made: io::Result<T>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(reason) => {
            assert!(std::env::var_os("COREWAL_REQUIRE_URING").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

fn words() -> Words {
    Arc::new([AtomicU32::new(2), AtomicU32::new(1)])
}

fn now(words: &Words) -> [u32; 2] {
    [0, 1].map(|index| words[index].load(Ordering::Acquire))
}

#[test]
fn a_durable_write_clears_its_word_and_wakes_who_sleeps_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let file = RealDisk::new().open(&path, Open::CREATE.direct()).unwrap();
    let words = words();
    let Some(mut linked) = had(LinkedWake::new(&file, 2 * LEN, &words)) else { return };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while words[1].load(Ordering::Acquire) == 1 {
                    wait_on(&words[1], 1);
                }
                assert_eq!(std::fs::read(&path).unwrap()[..LEN], [b'x'; LEN]);
            });
        }
        linked.commit(&[b'x'; LEN], 0, 1).unwrap();
    });
    assert_eq!(now(&words), [2, 0]);
    linked.commit(&[b'y'; LEN + 1], LEN as u64, 0).unwrap();
    assert_eq!(now(&words), [0, 0]);
    assert_eq!(std::fs::read(&path).unwrap().len(), 3 * LEN);
}

fn wait_on(word: &AtomicU32, value: u32) {
    // SAFETY: the number outlives the call; no timeout.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            value,
            std::ptr::null::<libc::timespec>(),
        );
    }
}

#[test]
fn a_write_that_fails_leaves_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let disk = RealDisk::new();
    disk.open(&path, Open::CREATE).unwrap();
    let file = disk.open(&path, Open::READ).unwrap();
    let words = words();
    let Some(mut linked) = had(LinkedWake::new(&file, LEN, &words)) else { return };
    let error = linked.commit(&[b'x'; LEN], 0, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(now(&words), [2, 1]);
}

#[test]
fn each_address_gets_its_message() {
    let Some(mut messenger) = had(Messenger::new(4)) else { return };
    let mut mailboxes: Vec<_> = (0..7).map(|_| Mailbox::new().unwrap()).collect();
    let addresses: Vec<_> = mailboxes.iter().map(|it| it.address().unwrap()).collect();
    messenger.send(5, &addresses).unwrap();
    messenger.send(6, &addresses[1..2]).unwrap();
    for (index, mailbox) in mailboxes.iter_mut().enumerate() {
        assert_eq!(mailbox.receive().unwrap(), 5, "{index}");
    }
    assert_eq!(mailboxes[1].receive().unwrap(), 6);
    std::thread::scope(|scope| {
        let mailbox = &mut mailboxes[0];
        let sleeper = scope.spawn(move || mailbox.receive().unwrap());
        messenger.send(7, &addresses[..1]).unwrap();
        assert_eq!(sleeper.join().unwrap(), 7);
    });
}
