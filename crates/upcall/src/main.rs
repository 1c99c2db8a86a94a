//! The `upcall` executable.
fn main() {}
