//! What the integration tests share.

use std::io::Write;

pub mod authority;
#[path = "../chaos/lib.rs"]
pub mod chaos;
pub mod collector;
pub mod conservation;
pub mod disk;
pub mod executable;
pub mod http;
pub mod nats;
pub mod proxy;
#[path = "../rollout/lib.rs"]
pub mod rollout;
pub mod signer;
pub mod sql;

/// Says that a test can't run here, and why. `tests/run --ci` fails when anything was skipped.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(path) = std::env::var_os("UPCALL_TEST_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| writeln!(file, "{reason}")).expect("the list of skipped tests can be written");
    }
}
