//! The command as scripts see it: arguments, standard streams, exit codes.

mod append;
mod bench;
mod damage;
mod demo;
mod doctor;
#[cfg(target_os = "linux")]
mod forbidden;
mod full_disk;
mod harms;
mod inspect;
mod live;
mod operating;
mod repair;
mod replay;
mod streams;
mod support;
mod tools;
mod verify;
