//! io_uring forbidden by seccomp(2), as container engines do by default.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::io;

use corewal_disk::{Disk, Engine, RealDisk, RingConfig};

/// A classic BPF instruction: an operation, two jump distances, an operand.
fn instruction(code: u32, if_true: u8, if_false: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap(), jt: if_true, jf: if_false, k: operand }
}

/// Makes io_uring_setup(2) fail with `EPERM`, on this thread, for ever.
fn forbid_io_uring() {
    let setup = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let eperm = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut program = [
        // The number of the system call stands first in `seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, setup),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, eperm),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let len = u16::try_from(program.len()).unwrap();
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: takes no pointers.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    // SAFETY: the filter and its program are borrowed for the call.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn auto_falls_back_and_says_why() {
    let check = || {
        forbid_io_uring();
        let disk = RealDisk::new();
        let config =
            |engine| RingConfig { engine, depth: 1, block_count: 1, block_len: 4096, lock: None };
        let facts = disk.ring(config(Engine::Auto)).unwrap().facts();
        assert_eq!(facts.engine, Engine::Blocking);
        let reason = facts.fallback.unwrap();
        assert!(reason.starts_with("io_uring_setup: Operation not permitted"), "{reason}");
        assert!(reason.contains("seccomp or kernel.io_uring_disabled"), "{reason}");

        let error = disk.ring(config(Engine::Uring)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), reason);

        let facts = disk.ring(config(Engine::Blocking)).unwrap().facts();
        assert_eq!(facts.fallback, None);
    };
    // A thread of its own: a filter cannot be taken off.
    std::thread::spawn(check).join().unwrap();
}
