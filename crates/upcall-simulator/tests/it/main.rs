//! The simulator over real HTTP: uploads in on one side, a little application server on the other.

mod buckets;
mod callbacks;
mod failures;
mod faults;
mod forms;
mod https;
mod objects;
mod refusals;
mod support;
