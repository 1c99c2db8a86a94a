//! Finding out what would lose events, in plain words: `upcall doctor`.

mod consumers;
mod finding;
pub mod kinds;
mod monitor;
mod server;
mod streams;

use std::time::Duration;

use jiff::Timestamp;
use upcall_bus::{ArchiveError, ConsumerSpec};
use upcall_telemetry::error_chain;

pub use finding::{Finding, Kind, Severity};
use monitor::Monitored;

use crate::NatsBus;

/// How long a connection is waited for before the looking is given up.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// What an examination goes by.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The consumers that there should be. Others that read the stream are looked at, too.
    pub consumers: Vec<ConsumerSpec>,
    /// The URL of the server's monitoring port, such as `http://nats:8222`, where `sync_interval` can be seen.
    pub monitor: Option<String>,
    /// How long a journal keeps an event after the stream has acknowledged it; `None` where none does.
    pub journal_hold: Option<Duration>,
    /// How old a consumer's oldest unsettled event may be before the consumer counts as behind.
    pub behind: Duration,
    /// The clock that the server's is compared with.
    pub clock: fn() -> Timestamp,
}

impl Default for Questions {
    /// No consumers, no monitoring port, no journal, ten minutes, this machine's clock.
    fn default() -> Self {
        Self {
            consumers: Vec::new(),
            monitor: None,
            journal_hold: None,
            behind: Duration::from_secs(600),
            clock: Timestamp::now,
        }
    }
}

impl NatsBus {
    /// Looks at server, streams and consumers, and says what would lose events, worst first. Changes nothing.
    ///
    /// # Errors
    /// If the server can't be reached in time, does not let us in, or does not answer.
    pub async fn examine(&self, questions: &Questions) -> Result<Vec<Finding>, ArchiveError> {
        self.connected_within(CONNECTION_TIME).await.map_err(ArchiveError::new)?;
        match self.look_at_all(questions).await {
            Ok(found) => Ok(found),
            // Where something is not permitted, the server says so beside, and does not answer.
            Err(error) => Err(match self.link().borrow().fault.clone() {
                Some(fault) => ArchiveError::new(format!("{}: {fault}", error_chain(&error))),
                None => error,
            }),
        }
    }

    async fn look_at_all(&self, questions: &Questions) -> Result<Vec<Finding>, ArchiveError> {
        let mut found = Vec::new();
        let monitored = match &questions.monitor {
            Some(url) => Monitored::ask(url).await,
            None => Err("no monitoring port is configured".to_owned()),
        };
        if self.examine_server(questions, &monitored, &mut found).await? {
            let uploads = self.examine_streams(questions, &mut found).await?;
            self.examine_consumers(questions, uploads.as_ref(), &mut found).await?;
        }
        found.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity));
        Ok(found)
    }
}
