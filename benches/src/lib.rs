//! Benchmarks of corewal.
