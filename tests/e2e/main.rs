//! The built executable, as a user meets it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod backup;
mod check;
mod command;
mod consume;
mod dev;
mod doctor;
mod documented;
mod full_disk;
mod function;
mod health;
mod kill;
mod log;
mod operate;
mod reload;
mod rollout;
mod serve;
mod start;
mod vectors;
mod walk;
mod webhook;
