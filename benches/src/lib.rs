//! What the benchmarks of corewal share: the machine they ran on, and what may be said about a median.
#![forbid(unsafe_code)]

pub mod machine;
pub mod median;
