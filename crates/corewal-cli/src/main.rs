//! The `corewal` command.

fn main() {}
