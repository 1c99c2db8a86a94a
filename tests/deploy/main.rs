//! What is in `deploy/kubernetes` and `deploy/helm`: rendered as a cluster would get it, and checked without a cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chart;
mod configurations;
mod privileges;
mod references;
mod rendered;
