//! Rates and latencies.
fn main() {}
