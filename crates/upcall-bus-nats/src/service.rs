//! Asking a service on NATS for the answer to an upload.

use std::time::Duration;

use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::{HeaderMap, Message, Request};
use async_trait::async_trait;
use upcall_event::{Event, Subject};
use upcall_responder::{AskError, AskErrorKind, Reply, Service, Veto};

use crate::NatsBus;
use crate::connection::text;
use crate::publish::event_headers;

/// The header that a service answers with when it does not give what was asked for: a number as in HTTP.
/// NATS's services API (ADR-32) sets it.
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// Why, in words.
const ERROR: &str = "Nats-Service-Error";

/// A service that answers requests on a subject, NATS's services API included.
///
/// It gets the event in binary mode, as consumers do. What it replies is the answer; an error of 400 to 499 is a veto
/// with the error's description as reason, any other error is a failure.
#[derive(Clone)]
pub struct NatsService {
    bus: NatsBus,
    subject: Subject,
}

impl NatsService {
    /// A service on this subject.
    #[must_use]
    pub fn new(bus: NatsBus, subject: Subject) -> Self {
        Self { bus, subject }
    }
}

#[async_trait]
impl Service for NatsService {
    async fn ask(&self, event: &Event, timeout: Duration) -> Result<Reply, AskError> {
        // The client would keep the question until it is connected again.
        if !self.bus.is_connected() {
            return Err(AskError::new(AskErrorKind::Unreachable, "there is no connection to a NATS server"));
        }
        let event = event.to_binary();
        let question =
            Request::new().headers(event_headers(event.headers)).payload(event.data.into()).timeout(Some(timeout));
        let asked = self.bus.client().send_request(self.subject.as_str().to_owned(), question).await;
        read(asked.map_err(ask_error)?)
    }
}

fn read(message: Message) -> Result<Reply, AskError> {
    let headers = message.headers.unwrap_or_else(HeaderMap::new);
    let Some(code) = text(&headers, ERROR_CODE) else { return Ok(Reply::Answer(message.payload)) };
    let reason = text(&headers, ERROR).unwrap_or_default();
    match code.parse() {
        Ok(400_u16..=499) => Ok(Reply::Veto(Veto::new(reason, message.payload))),
        _ => Err(AskError::new(AskErrorKind::Failed, format!("it answered with the error {code}: {reason}"))),
    }
}

fn ask_error(error: RequestError) -> AskError {
    let kind = match error.kind() {
        RequestErrorKind::NoResponders => AskErrorKind::Unreachable,
        RequestErrorKind::TimedOut => AskErrorKind::Timeout,
        RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::Other => {
            AskErrorKind::Failed
        }
    };
    AskError::new(kind, error)
}
