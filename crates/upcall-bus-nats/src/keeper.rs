//! Looking after the streams, from the start and for as long as the bus lives.

use std::time::Duration;

use tracing::{info, warn};
use upcall_bus::{ConsumerSpec, error_chain};

use crate::{Difference, NatsBus, Severity};

/// How often the streams are looked at when all is well.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon they are looked at again when something is not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl NatsBus {
    /// Looks after the streams in the background: compares them with what they should be whenever a connection was
    /// made and every ten seconds, makes what is missing if it is told to, writes down how far the consumers are, and says in
    /// [`NatsBus::fault`] what keeps the streams from taking events. A server that is not there yet is waited for.
    pub fn keep(&self, provision: bool, consumers: Vec<ConsumerSpec>) {
        let (bus, mut link) = (self.clone(), self.link());
        self.shared.runtime.spawn(async move {
            loop {
                if link.wait_for(|link| link.connected).await.is_err() {
                    return;
                }
                let seen = link.borrow_and_update().generation;
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

    /// Why the bus takes no events now, in words; `None` while it does, as far as is known. Cheap.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if !self.is_connected() {
            let fault = self.shared.link.borrow().fault.clone();
            return Some(match fault {
                Some(fault) => format!("there is no connection to a NATS server: {fault}"),
                None => "there is no connection to a NATS server".to_owned(),
            });
        }
        self.shared.checked.borrow().clone().err()
    }

    /// What is risky about the streams, in words, while the bus takes events: who reads `/ready` may want to know. Cheap.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        self.shared.checked.borrow().clone().ok().flatten()
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
        self.shared.checked.send_if_modified(|known| {
            let changed = *known != found;
            if changed {
                match &found {
                    Ok(None) => info!("the streams are in order"),
                    Ok(Some(remark)) => warn!(remark, "the streams take events, and are not as they should be"),
                    Err(fault) => warn!(%fault, "the streams are not in order"),
                }
                *known = found;
            }
            changed
        });
    }
}
