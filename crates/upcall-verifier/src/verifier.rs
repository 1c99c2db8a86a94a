//! The way from a callback to a published event.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use upcall_bus::{Deadline, Message, Publisher, Receipt};
use upcall_callback::{CallbackRequest, Verified};
use upcall_event::Event;

use crate::keys::Keys;
use crate::refusal::Refusal;
use crate::route::Route;

/// Authenticates callbacks and publishes what they report. A clone shares keys and bus.
#[derive(Clone)]
pub struct Verifier {
    keys: Keys,
    publisher: Arc<dyn Publisher>,
}

/// A callback that has become an event which is durable.
#[derive(Debug)]
pub struct Accepted {
    /// The event.
    pub event: Event,
    /// Whether it was new on the bus.
    pub receipt: Receipt,
}

impl Verifier {
    /// Takes the keys to verify with and the bus to publish on.
    #[must_use]
    pub fn new(keys: Keys, publisher: Arc<dyn Publisher>) -> Self {
        Self { keys, publisher }
    }

    /// Takes a callback all the way: verified, admitted by its route, published. `received` becomes the event's time.
    ///
    /// # Errors
    /// With why the callback is refused. No event is known to be durable then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the event published or not, never half.
    pub async fn accept(
        &self,
        request: CallbackRequest<'_>,
        route: &Route,
        received: Timestamp,
        deadline: Deadline,
    ) -> Result<Accepted, Refusal> {
        let verified = self.verify(request, deadline).await?;
        let message = route.admit(&verified)?.into_message(received)?;
        let event = message.event.clone();
        Ok(Accepted { event, receipt: self.publish(message, deadline).await? })
    }

    /// Verifies a callback's signature. Waits only where the callback names a key that is not at hand.
    ///
    /// # Errors
    /// If the headers are unusable, the key can't be had, or the signature does not match.
    pub async fn verify<'a>(&self, request: CallbackRequest<'a>, deadline: Deadline) -> Result<Verified<'a>, Refusal> {
        let unverified = request.parse(|url| self.keys.is_trusted(url))?;
        if let Some(key) = self.keys.at_hand(unverified.key_url()) {
            return Ok(unverified.verify(key)?);
        }
        let Some(url) = unverified.key_url() else { return Err(Refusal::SignatureMismatch) };
        // Boxed: it is rare, and would make the future of every callback larger.
        let key = Box::pin(self.keys.fetch(url, deadline)).await.map_err(Refusal::KeyUnavailable)?;
        Ok(unverified.verify(&key)?)
    }

    /// Publishes an admitted callback's event. `Ok` means durable.
    ///
    /// # Errors
    /// If the bus does not take the event before the deadline.
    ///
    /// # Cancel safety
    /// As for [`Verifier::accept`].
    pub async fn publish(&self, message: Message, deadline: Deadline) -> Result<Receipt, Refusal> {
        self.publisher.publish(message, deadline).await.map_err(Refusal::Bus)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys).finish_non_exhaustive()
    }
}
