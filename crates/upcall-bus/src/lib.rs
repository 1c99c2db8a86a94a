//! What a bus guarantees: publishing, subscriptions, deliveries, and the suite that every bus passes.
//!
//! A bus is an at-least-once log of events that recognises an event by its id. This crate knows no technology;
//! `upcall-bus-journal` is a bus in an SQLite file.

mod archive;
mod deadline;
mod delivery;
mod publish;
mod quarantine;
mod subscribe;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use archive::{Archive, ArchiveError, DeadLetter, Letter, Page, StoredEvent, UnreadableLetter};
pub use deadline::Deadline;
pub use delivery::{Delivery, SettleError, SettleErrorKind, Settlement, Settler};
pub use publish::{Message, PublishError, PublishErrorKind, Publisher, Receipt};
pub use quarantine::{Quarantine, Quarantined, RejectedBody, RejectedCallback};
pub use subscribe::{
    Bus, ConsumerName, ConsumerSpec, InvalidConsumerName, Start, SubscribeError, SubscribeErrorKind, Subscription,
};

/// The cause under an error, to be read and logged, not branched on.
pub type Source = Box<dyn std::error::Error + Send + Sync>;
