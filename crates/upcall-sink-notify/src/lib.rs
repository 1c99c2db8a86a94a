//! The sink that tells people: mail, chat, and JSON to whoever relays it further.
//!
//! A message is plain text, whatever the service: nothing that an event holds is markup, a link or a mention there.
//! A service's rate is kept by waiting, and its word that it was exceeded is obeyed. An event's message is sent once as far
//! as this process remembers; one that was sent before a crash, and not settled, is sent again.

mod chat;
mod error;
mod link;
mod mail;
mod notice;
mod options;
mod outcome;
mod sent;
mod sink;
mod text;
mod turn;

#[cfg(test)]
mod tests;

pub use error::OptionsError;
pub use link::{InvalidLink, LinkTemplate};
pub use mail::{ANSWER_TIMEOUT, Address, Credentials, InvalidAddress, Mail, Security};
pub use notice::{Digest, Message};
pub use options::{Chat, ChatKind, JsonPost, Options, Service};
pub use sink::NotifySink;
