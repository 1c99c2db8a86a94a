//! The relay.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};
use upcall_bus_journal::Backlog;
use upcall_bus_nats::NatsBus;

use crate::worker::{Worker, asked};
use crate::{Options, RelayHandle, RelayStatus};

/// How soon it begins again after a first failure, and at the latest after many: a server that is back should not wait.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Publishes the journal's events to the stream of uploads, in their order, and releases those that the stream keeps.
pub struct Relay {
    backlog: Backlog,
    bus: NatsBus,
    options: Options,
    handle: RelayHandle,
}

/// Why a pass over the backlog has ended.
pub(crate) enum End {
    /// It was asked to.
    Stopped,
    /// Events do not flow, for a reason in words. To be begun again.
    Failed(String),
    /// Something is to be looked at anew, for a reason in words.
    Again(String),
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<&str> for End {
    fn from(why: &str) -> Self {
        Self::Failed(why.to_owned())
    }
}

impl Relay {
    /// A relay from this backlog to this bus. It does nothing until it is run.
    #[must_use]
    pub fn new(backlog: Backlog, bus: NatsBus, options: Options) -> Self {
        let handle = RelayHandle::default();
        let waits = backlog.last().saturating_sub(backlog.floor());
        handle.report(&RelayStatus { connected: bus.is_connected(), backlog: waits, ..RelayStatus::default() }, None);
        Self { backlog, bus, options, handle }
    }

    /// What tells how it is doing.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }

    /// Relays until `shutdown` completes, whatever goes wrong meanwhile. Then waits a moment for what was sent and
    /// not yet acknowledged, and writes down how far it came.
    ///
    /// # Cancel safety
    /// Dropping the future is like killing the process: nothing is lost, and nothing doubled when a relay is run again.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let (stop, stopped) = watch::channel(false);
        let wait = async {
            shutdown.await;
            stop.send_replace(true);
        };
        tokio::join!(wait, self.work(stopped));
    }

    async fn work(self, mut stopped: watch::Receiver<bool>) {
        let mut worker = Worker::new(self.backlog, self.bus, self.options, self.handle, stopped.clone()).await;
        let mut pause = PAUSE_MIN;
        let mut fault = None;
        loop {
            let before = worker.progress();
            match worker.pass().await {
                End::Stopped => break,
                End::Again(why) => {
                    info!("the relay begins anew: {why}");
                    pause = PAUSE_MIN;
                }
                End::Failed(why) => {
                    if worker.progress() > before {
                        (pause, fault) = (PAUSE_MIN, None);
                    }
                    // Once, not at each attempt.
                    if fault.as_ref() != Some(&why) {
                        warn!(fault = %why, "events do not get from the journal to NATS");
                    }
                    worker.failed(&why).await;
                    fault = Some(why);
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = asked(&mut stopped) => break,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        worker.finish().await;
        info!("the relay has ended");
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("backlog", &self.backlog).field("options", &self.options).finish_non_exhaustive()
    }
}
