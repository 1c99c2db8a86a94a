//! Which trigger an event is of.

use serde_json::Value;

use crate::HttpEvent;

/// An event that a function was invoked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request of the HTTP trigger.
    Http(HttpEvent),
    /// A list of events, as the OSS trigger hands it over. Whoever knows OSS reads it.
    Oss,
}

/// An event of no trigger that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither the JSON of an HTTP trigger nor that of an OSS trigger")]
pub struct UnknownEvent;

impl Event {
    /// Tells by an event's form which trigger it is of. No event of one has the form of the other: what a client of the
    /// HTTP trigger sends is within a string there.
    ///
    /// # Errors
    /// If it is of neither.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnknownEvent> {
        let json: Value = serde_json::from_slice(bytes).map_err(|_| UnknownEvent)?;
        match (json.get("events"), json.get("requestContext")) {
            (Some(Value::Array(_)), None) => Ok(Self::Oss),
            (None, Some(_)) => HttpEvent::read(json).map(Self::Http).ok_or(UnknownEvent),
            _ => Err(UnknownEvent),
        }
    }
}
