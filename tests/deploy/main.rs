//! What is in `deploy/`: rendered as a cluster would get it, and checked without one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chart;
mod configurations;
mod function;
mod image;
mod observability;
mod privileges;
mod references;
mod rendered;
mod walks;
