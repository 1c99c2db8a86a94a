//! The simulator over real HTTP: uploads in on one side, a little application server on the other.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod buckets;
mod callbacks;
mod failures;
mod faults;
mod forms;
mod https;
mod objects;
mod refusals;
mod support;
