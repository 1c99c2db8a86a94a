//! How the crates hang together, and what several of them do together in one process.

mod structure;
