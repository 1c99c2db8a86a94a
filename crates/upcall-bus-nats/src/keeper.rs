//! Looking after the streams, from the start and for as long as the bus lives.

use std::sync::PoisonError;
use std::time::Duration;

use tracing::{info, warn};
use upcall_bus::ConsumerSpec;
use upcall_telemetry::error_chain;

use crate::{Difference, NatsBus, Severity};

/// How often the streams are looked at when all is well.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon they are looked at again when something is not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What was found when the streams were looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Looked {
    /// Nobody looks after them.
    ByNobody,
    /// Somebody is about to.
    NotYet,
    /// What is risky about them, or what keeps them from taking events.
    Found(Result<Option<String>, String>),
}

impl NatsBus {
    /// Looks after the streams in the background: compares them with what they should be whenever a connection was
    /// made and every ten seconds, makes what is missing if it is told to, writes down how far the consumers are, and says in
    /// [`NatsBus::fault`] what keeps the streams from taking events. A server that is not there yet is waited for.
    pub fn keep(&self, provision: bool, consumers: Vec<ConsumerSpec>) {
        let (bus, mut link) = (self.clone(), self.link());
        self.keep_consumers(consumers);
        self.shared.looked.send_replace(Looked::NotYet);
        self.shared.runtime.spawn(async move {
            loop {
                if link.wait_for(|link| link.connected).await.is_err() {
                    return;
                }
                let seen = link.borrow_and_update().generation;
                let consumers = bus.kept();
                let found = bus.look(provision, &consumers).await;
                let pause = if found.is_ok() { LOOK_EVERY } else { LOOK_AGAIN };
                bus.note(found);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    changed = link.wait_for(|link| link.generation != seen) => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }

    /// Looks after these consumers from the next look on, instead of those that it was told of before.
    pub fn keep_consumers(&self, consumers: Vec<ConsumerSpec>) {
        *self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner) = consumers;
    }

    /// The consumers that are looked after.
    pub(crate) fn kept(&self) -> Vec<ConsumerSpec> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the bus takes no events now, in words; `None` while it does, as far as is known. Cheap.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if !self.is_connected() {
            return Some(self.why_disconnected());
        }
        match &*self.shared.looked.borrow() {
            Looked::Found(found) => found.clone().err(),
            Looked::ByNobody | Looked::NotYet => Some("the streams have not been looked at yet".to_owned()),
        }
    }

    /// Waits until the streams were looked at for the first time, and what is missing was made, where somebody looks
    /// after them ([`NatsBus::keep`]).
    pub async fn first_look(&self) {
        // Whoever looks after them lives as long as the bus.
        let _ = self.shared.looked.subscribe().wait_for(|looked| *looked != Looked::NotYet).await;
    }

    /// What is risky about the streams, in words, while the bus takes events: who reads `/ready` may want to know. Cheap.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        match &*self.shared.looked.borrow() {
            Looked::Found(found) => found.clone().ok().flatten(),
            Looked::ByNobody | Looked::NotYet => None,
        }
    }

    async fn look(&self, provision: bool, consumers: &[ConsumerSpec]) -> Result<Option<String>, String> {
        let in_words = |error| error_chain(&error);
        let mut differences = self.check(consumers).await.map_err(in_words)?;
        if provision && differences.iter().any(|difference| difference.severity == Severity::Missing) {
            for done in self.make_missing(consumers).await.map_err(in_words)? {
                info!("{done}");
            }
            differences = self.check(consumers).await.map_err(in_words)?;
        }
        let unwritten = self.note_floors(consumers).await.err();
        let unwritten =
            unwritten.map(|error| format!("how far consumers are can't be written down: {}", error_chain(&*error)));
        let those = |is_so: fn(Severity) -> bool| {
            let those = differences.iter().filter(|difference| is_so(difference.severity));
            let words: Vec<String> = those.map(Difference::to_string).collect();
            (!words.is_empty()).then(|| words.join("; "))
        };
        match those(|severity| severity >= Severity::Missing) {
            Some(stopping) => Err(stopping),
            None => {
                let remarks: Vec<String> =
                    those(|severity| severity == Severity::Risky).into_iter().chain(unwritten).collect();
                Ok((!remarks.is_empty()).then(|| remarks.join("; ")))
            }
        }
    }

    fn note(&self, found: Result<Option<String>, String>) {
        let found = Looked::Found(found);
        self.shared.looked.send_if_modified(|known| {
            let changed = *known != found;
            if changed {
                match &found {
                    Looked::Found(Ok(None)) => info!("the streams are in order"),
                    Looked::Found(Ok(Some(remark))) => {
                        warn!(remark, "the streams take events, and are not as they should be");
                    }
                    Looked::Found(Err(fault)) => warn!(%fault, "the streams are not in order"),
                    Looked::ByNobody | Looked::NotYet => {}
                }
                *known = found;
            }
            changed
        });
    }
}
