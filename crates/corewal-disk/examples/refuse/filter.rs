//! The filter, and who answers for it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;

pub(crate) const USAGE: &str = "\
usage: refuse REFUSAL... -- PROGRAM ARGUMENT...
  setup=ERRNO enter=ERRNO register=ERRNO    a system call of io_uring
  buffers=ERRNO files=ERRNO probe=ERRNO     one kind of io_uring_register
  table=ERRNO                               files, if more than one is to be registered
  flag=NAME                                 a flag of io_uring_setup, as by a kernel that does not know it";

const ERRORS: [(&str, i32); 7] = [
    ("EPERM", libc::EPERM),
    ("EACCES", libc::EACCES),
    ("ENOSYS", libc::ENOSYS),
    ("ENOMEM", libc::ENOMEM),
    ("EMFILE", libc::EMFILE),
    ("EINVAL", libc::EINVAL),
    ("EAGAIN", libc::EAGAIN),
];

/// Bits of `flags` in `io_uring_params` (linux/io_uring.h).
const FLAGS: [(&str, u32); 5] = [
    ("SUBMIT_ALL", 1 << 7),
    ("COOP_TASKRUN", 1 << 8),
    ("TASKRUN_FLAG", 1 << 9),
    ("SINGLE_ISSUER", 1 << 12),
    ("DEFER_TASKRUN", 1 << 13),
];

/// The place of `flags` in `io_uring_params`, behind the two sizes.
const FLAGS_AT: u64 = 8;

/// Opcodes of io_uring_register(2).
const REGISTRATIONS: [(&str, u32); 3] = [("buffers", 0), ("files", REGISTER_FILES), ("probe", 8)];
const REGISTER_FILES: u32 = 2;

/// What the kernel refuses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    /// System calls, with the error.
    calls: Vec<(libc::c_long, i32)>,
    /// Opcodes of io_uring_register(2), with the error.
    registrations: Vec<(u32, i32)>,
    /// Tables of more than one file, with the error.
    table: Option<i32>,
    flags: u32,
}

impl Refusals {
    pub(crate) fn parse(wishes: &[String]) -> Result<Self, String> {
        let mut refusals = Self::default();
        for wish in wishes {
            let (what, how) = wish.split_once('=').ok_or(format!("{wish:?} is no refusal"))?;
            let errno = || named(&ERRORS, how).ok_or(format!("{how:?} is no error"));
            match what {
                "setup" => refusals.calls.push((libc::SYS_io_uring_setup, errno()?)),
                "enter" => refusals.calls.push((libc::SYS_io_uring_enter, errno()?)),
                "register" => refusals.calls.push((libc::SYS_io_uring_register, errno()?)),
                "flag" => {
                    refusals.flags |= named(&FLAGS, how).ok_or(format!("{how:?} is no flag"))?;
                }
                "table" => refusals.table = Some(errno()?),
                _ => {
                    let opcode = named(&REGISTRATIONS, what);
                    let opcode = opcode.ok_or(format!("{what:?} cannot be refused"))?;
                    refusals.registrations.push((opcode, errno()?));
                }
            }
        }
        if refusals.flags != 0 && refusals.refuses(libc::SYS_io_uring_setup) {
            return Err("a refused call has no flags".into());
        }
        Ok(refusals)
    }

    fn refuses(&self, call: libc::c_long) -> bool {
        self.calls.iter().any(|&(it, _)| it == call)
    }

    /// The filter as a program for the kernel. What it does not name is allowed.
    fn program(&self) -> Vec<libc::sock_filter> {
        let mut program = vec![load(NUMBER_AT)];
        for &(call, errno) in &self.calls {
            program.extend([unless(narrow(call), 1), answer(refusal(errno))]);
        }
        if self.flags != 0 {
            let setup = narrow(libc::SYS_io_uring_setup);
            program.extend([unless(setup, 1), answer(libc::SECCOMP_RET_USER_NOTIF)]);
        }
        let register = narrow(libc::SYS_io_uring_register);
        program.extend([unless(register, 0), load(SECOND_ARGUMENT_AT)]);
        let last = program.len() - 2;
        for &(opcode, errno) in &self.registrations {
            program.extend([unless(opcode, 1), answer(refusal(errno))]);
        }
        if let Some(errno) = self.table {
            program.extend([
                unless(REGISTER_FILES, 4),
                load(FOURTH_ARGUMENT_AT),
                unless_above(1, 1),
                answer(refusal(errno)),
                load(SECOND_ARGUMENT_AT),
            ]);
        }
        // Another call goes past all that asks for an opcode.
        let past = program.len() - last - 1;
        program[last] = unless(register, u8::try_from(past).expect("a short program"));
        program.push(answer(libc::SECCOMP_RET_ALLOW));
        program
    }
}

fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(it, _)| *it == name).map(|&(_, value)| value)
}

/// Offsets in `seccomp_data`; of an argument the low half, which comes first on little-endian
/// machines.
const NUMBER_AT: u32 = 0;
const SECOND_ARGUMENT_AT: u32 = 24 + LOW_HALF;
const FOURTH_ARGUMENT_AT: u32 = 40 + LOW_HALF;
const LOW_HALF: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };

fn narrow(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("numbers of system calls are small")
}

fn refusal(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

/// Loads a word of `seccomp_data`.
fn load(at: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, at)
}

/// Skips so many instructions unless the loaded word is `value`.
fn unless(value: u32, skip: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, value)
}

/// Skips so many instructions unless the loaded word is larger than `value`.
fn unless_above(value: u32, skip: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, skip, value)
}

fn answer(action: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, action)
}

fn instruction(code: u32, if_false: u8, operand: u32) -> libc::sock_filter {
    let code = u16::try_from(code).expect("operations are small");
    libc::sock_filter { code, jt: 0, jf: if_false, k: operand }
}

/// Runs `program` under the filter, and ends as it ends.
pub(crate) fn run(refusals: Refusals, program: Vec<OsString>) -> ExitCode {
    match start(refusals, program) {
        Ok(status) => {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|it| u8::try_from(it).ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(127)
        }
    }
}

fn start(refusals: Refusals, program: Vec<OsString>) -> io::Result<ExitStatus> {
    let (name, arguments) =
        program.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
    let child = thread::scope(|scope| {
        // The thread that is under the filter starts the child, which inherits it.
        let start = || -> io::Result<_> {
            let listener = install(&refusals)?;
            let child = Command::new(name).args(arguments).spawn();
            let child = child.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", name.display()))
            })?;
            Ok((listener, child))
        };
        scope.spawn(start).join().expect("it does not panic")
    });
    let (listener, mut child) = child?;
    if let Some(listener) = listener {
        // It ends with this process.
        thread::spawn(move || while decide(&listener, refusals.flags).is_ok() {});
    }
    child.wait()
}

/// Puts this thread under the filter, for ever. With a question in it, returns where it is asked.
fn install(refusals: &Refusals) -> io::Result<Option<OwnedFd>> {
    let mut program = refusals.program();
    let len = u16::try_from(program.len()).expect("a short program");
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: takes no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let asks = refusals.flags != 0;
    let flags = if asks { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    // SAFETY: the filter and its program are borrowed for the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    };
    match libc::c_int::try_from(result) {
        Ok(fd) if fd >= 0 && asks => {
            // SAFETY: the kernel has just opened it for this process.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        Ok(0) => Ok(None),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Answers one question: refuses the flags, or lets the call go on.
fn decide(listener: &OwnedFd, refused: u32) -> io::Result<()> {
    let question = receive(listener)?;
    let flags = flags_of(&question);
    let is_refused = flags.is_ok_and(|flags| flags & refused != 0);
    let go_on = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).expect("a small flag");
    let (error, flags) = if is_refused { (-libc::EINVAL, 0) } else { (0, go_on) };
    let answer = libc::seccomp_notif_resp { id: question.id, val: 0, error, flags };
    match send(listener, &answer) {
        // Who asked was killed.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Reads the flags from the memory of who asks; it waits for the answer meanwhile.
fn flags_of(question: &libc::seccomp_notif) -> io::Result<u32> {
    let memory = File::open(format!("/proc/{}/mem", question.pid))?;
    let mut flags = [0; 4];
    memory.read_exact_at(&mut flags, question.data.args[1] + FLAGS_AT)?;
    Ok(u32::from_ne_bytes(flags))
}

/// `SECCOMP_IOCTL_NOTIF_RECV`, `SECCOMP_IOCTL_NOTIF_SEND` (linux/seccomp.h).
const RECEIVE: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif>(b'!' as u32, 0);
const SEND: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif_resp>(b'!' as u32, 1);

fn receive(listener: &OwnedFd) -> io::Result<libc::seccomp_notif> {
    loop {
        // SAFETY: plain integers, for which zeros are valid; the kernel asks for zeros.
        let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: a place for one question, borrowed for the call.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut question) };
        match io::Error::last_os_error() {
            _ if result == 0 => return Ok(question),
            // Who asked was killed, or a signal came.
            error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            error => return Err(error),
        }
    }
}

fn send(listener: &OwnedFd, answer: &libc::seccomp_notif_resp) -> io::Result<()> {
    // SAFETY: one answer, borrowed for the call.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, std::ptr::from_ref(answer)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
