//! The built executable on real NATS servers while things break. The long form is the command `chaos`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conservation;
mod outage;
mod power;

use std::path::Path;
use std::time::Duration;

use upcall_tests::chaos::{Ack, Setup};
use upcall_tests::executable;

/// One server and two gateways with journals.
fn setup(folder: &Path, ack: Ack) -> Setup {
    Setup {
        folder: folder.to_owned(),
        executable: executable::path().to_owned(),
        ack,
        journal: true,
        servers: 1,
        gateways: 2,
        deadline: Duration::from_millis(4_500),
        sync_hold: Duration::from_secs(10),
        small_disks: false,
    }
}
