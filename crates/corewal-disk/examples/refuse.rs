//! Runs a program for which the kernel refuses parts of io_uring, as containers, limits and older
//! kernels do. For trying what a program does then:
//!
//! ```text
//! cargo run -p corewal-disk --example refuse -- setup=EPERM -- corewal doctor --dir wal
//! cargo run -p corewal-disk --example refuse -- flag=DEFER_TASKRUN buffers=ENOMEM -- my-program
//! ```
//!
//! The program and all that it starts run under a filter of seccomp(2). It sees registers but no
//! memory, and the flags of `io_uring_setup` are in memory: for these the kernel asks this process
//! (seccomp_unotify(2)), which reads them.

#[cfg(target_os = "linux")]
#[path = "refuse/filter.rs"]
mod filter;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let wishes: Vec<String> =
        arguments.by_ref().map_while(|it| it.into_string().ok().filter(|it| it != "--")).collect();
    match filter::Refusals::parse(&wishes) {
        Ok(refusals) => filter::run(refusals, arguments.collect()),
        Err(problem) => {
            eprintln!("error: {problem}\n{}", filter::USAGE);
            std::process::ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("error: only Linux has io_uring");
}
