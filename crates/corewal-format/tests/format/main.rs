//! What the format promises: round trips, golden files, and that no damage passes unnoticed.

#[cfg(test)]
mod batch;
#[cfg(test)]
mod fault;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod manifest;
mod samples;
#[cfg(test)]
mod segment;
