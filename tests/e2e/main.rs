//! The built executable, as a user meets it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod check;
mod consume;
mod dev;
mod doctor;
mod full_disk;
mod kill;
mod operate;
mod serve;
mod vectors;
mod webhook;
