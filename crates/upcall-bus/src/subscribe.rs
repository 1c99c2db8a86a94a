//! Reading events off the bus, as a named, durable consumer.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use upcall_event::SubjectFilter;

use crate::{Delivery, Publisher, Source};

/// A bus: what is published on it reaches every consumer.
#[async_trait]
pub trait Bus: Publisher {
    /// Opens a consumer, creating it when its name is new. Its progress outlives the subscription and the process.
    ///
    /// A consumer is read by one subscription at a time in one process.
    ///
    /// # Errors
    /// If the consumer is being read already, or the bus is not available.
    async fn subscribe(&self, consumer: &ConsumerSpec) -> Result<Box<dyn Subscription>, SubscribeError>;
}

/// A consumer that is being read.
///
/// Every event that the consumer's filter selects is delivered, in the order of publishing, again and again
/// until it is settled by [`Delivery::ack`] or [`Delivery::dead_letter`]. Dropping the subscription hands back
/// what was not settled.
#[async_trait]
pub trait Subscription: Send {
    /// Waits until something is due, and returns up to `max` deliveries of it, at least one.
    ///
    /// # Errors
    /// When the bus can't be read. Calling again is right: the next call may succeed.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: what it had taken out is delivered by a later call.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, SubscribeError>;
}

/// Who reads, what, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The consumer's name.
    pub name: ConsumerName,
    /// The subjects it wants. A changed filter holds for what was not yet delivered.
    pub filter: SubjectFilter,
    /// Where a consumer begins whose name is new; one that exists goes on where it stopped.
    pub start: Start,
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the oldest event that the bus still holds.
    #[default]
    Oldest,
    /// With the first event published from now on.
    New,
}

/// A consumer's name: 1 to 64 of the characters `a`–`z`, `A`–`Z`, `0`–`9`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(String);

impl ConsumerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that can't name a consumer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't name a consumer: use 1 to 64 letters, digits, `_` and `-`")]
pub struct InvalidConsumerName(String);

impl FromStr for ConsumerName {
    type Err = InvalidConsumerName;

    fn from_str(text: &str) -> Result<Self, InvalidConsumerName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidConsumerName(text.to_owned()))
        }
    }
}

/// Why a consumer can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SubscribeError {
    /// What to do about it.
    pub kind: SubscribeErrorKind,
    /// What was underneath.
    #[source]
    pub source: Option<Source>,
}

/// The kinds of failure to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeErrorKind {
    /// Another subscription reads this consumer.
    #[error("the consumer is being read already")]
    InUse,
    /// The bus is out of order; later it may go.
    #[error("the bus is not available")]
    Unavailable,
    /// The bus is closed for good.
    #[error("the bus is closed")]
    Closed,
}

impl From<SubscribeErrorKind> for SubscribeError {
    fn from(kind: SubscribeErrorKind) -> Self {
        Self { kind, source: None }
    }
}
