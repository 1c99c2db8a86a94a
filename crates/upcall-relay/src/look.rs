//! Looking for events that may be in the stream already.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use tracing::info;
use upcall_bus::Archive;
use upcall_bus_journal::RawEvent;
use upcall_telemetry::error_chain;

use crate::doubt::{From, Moment};
use crate::worker::Worker;

/// How many ids a look has in memory: some 10 MB.
const LOOK_MAX: usize = 262_144;

impl Worker {
    /// Finds out which of the events from `first` on are in the stream, as many as memory allows.
    pub(crate) async fn look(&mut self, first: &RawEvent) -> Result<(), String> {
        let since = Moment::now();
        let (event, first) = (first, first.sequence);
        let end = if self.options.spilled { self.backlog.last() } else { self.doubt.tried() };
        let (mut wanted, mut last) = (HashMap::new(), first.saturating_sub(1));
        while last < end && wanted.len() < LOOK_MAX {
            let events = self.read(last).await?;
            let Some(newest) = events.last() else { break };
            last = newest.sequence;
            wanted.extend(events.iter().filter(|event| event.sequence <= end).map(|event| (event.id, event.sequence)));
        }
        let last = last.min(end).max(first);
        let asked = wanted.len();
        let after = match self.doubt.earliest(event, last) {
            From::Sequence(after) => after,
            From::Time(moment) => {
                let behind = self.stream.as_ref().map_or(SignedDuration::ZERO, |state| clock_ahead(state.now));
                let moment = moment.checked_sub(behind).unwrap_or(moment);
                self.bus.sequence_before(moment).await.map_err(|error| error_chain(&error))?
            }
        };
        let mut scan = self.bus.scan_ids(after).await.map_err(|error| error_chain(&error))?;
        let mut found = BTreeMap::new();
        while !wanted.is_empty() {
            let Some((stream, id)) = scan.next().await.map_err(|error| error_chain(&error))? else { break };
            if let Some(journal) = id.and_then(|id| wanted.remove(&id)) {
                found.insert(journal, stream);
            }
        }
        info!(events = asked, found = found.len(), after, "looked in the stream for events that may be there already");
        self.doubt.looked(first, last, found, scan.last(), since);
        scan.close().await;
        Ok(())
    }
}

/// How far our clock is ahead of the server's; nothing where it is behind.
fn clock_ahead(server: Timestamp) -> SignedDuration {
    Timestamp::now().duration_since(server).max(SignedDuration::ZERO)
}
