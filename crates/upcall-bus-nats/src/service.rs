//! Asking a service on NATS for the answer to an upload.

use std::time::Duration;

use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::{Message, Request};
use async_trait::async_trait;
use serde::Deserialize;
use upcall_event::{Event, Subject};
use upcall_responder::{AskError, AskErrorKind, Reply, Service, Veto};
use upcall_telemetry::trace;

use crate::NatsBus;
use crate::connection::text;
use crate::publish::event_headers;

/// The header that a service answers with when it does not give what was asked for: a number as in HTTP.
/// NATS's services API (ADR-32) sets it.
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// Why, in words.
const ERROR: &str = "Nats-Service-Error";
/// More than a stream's acknowledgement takes, whatever the stream is called.
const ACKNOWLEDGEMENT_BYTES_MAX: usize = 1024;

/// A service that answers requests on a subject, NATS's services API included.
///
/// It gets the event in binary mode, as consumers do. What it replies is the answer; an error of 400 to 499 is a veto
/// with the error's description as reason, any other error is a failure, also one without a code or whose code is no number.
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
            return Err(AskError::new(AskErrorKind::Unreachable, self.bus.why_disconnected()));
        }
        let event = event.to_binary();
        let mut headers = event_headers(event.headers);
        if let Some(trace) = trace::current() {
            trace.headers().for_each(|(name, value)| headers.insert(name, value));
        }
        let question = Request::new().headers(headers).payload(event.data.into()).timeout(Some(timeout));
        let asked = self.bus.client().send_request(self.subject.as_str().to_owned(), question).await;
        read(asked.map_err(|error| self.failed(error))?)
    }
}

impl NatsService {
    fn failed(&self, error: RequestError) -> AskError {
        match error.kind() {
            RequestErrorKind::NoResponders => {
                AskError::new(AskErrorKind::Unreachable, format!("nobody answers on {}", self.subject.as_str()))
            }
            RequestErrorKind::TimedOut => AskError::new(AskErrorKind::Timeout, error),
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::Other => {
                AskError::new(AskErrorKind::Failed, error)
            }
        }
    }
}

fn read(message: Message) -> Result<Reply, AskError> {
    let headers = message.headers.unwrap_or_default();
    let failed = |why: String| Err(AskError::new(AskErrorKind::Failed, why));
    let (code, reason) = match (text(&headers, ERROR_CODE), text(&headers, ERROR)) {
        (Some(code), reason) => (code, reason.unwrap_or_default()),
        // Either header says that this is no answer. Without a number it can't be a veto.
        (None, Some(reason)) => return failed(format!("it answered with an error that has no code: {reason}")),
        (None, None) if is_acknowledgement(&message.payload) => {
            let why = "a stream captures the subject, and has acknowledged the question; ask on another subject";
            return failed(why.to_owned());
        }
        (None, None) => return Ok(Reply::Answer(message.payload)),
    };
    match code.parse() {
        // As over HTTP: these two are about when the service was asked.
        Ok(408_u16 | 429) | Err(_) => {}
        Ok(400..=499) => return Ok(Reply::Veto(Veto::new(reason, message.payload))),
        Ok(_) => {}
    }
    failed(format!("it answered with the error {code}: {reason}"))
}

/// Whether a stream has answered in a service's place, which is JSON as well.
fn is_acknowledgement(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Acknowledgement {
        #[serde(rename = "stream")]
        _stream: String,
        #[serde(rename = "seq")]
        _sequence: u64,
        #[serde(rename = "domain", default)]
        _domain: String,
        #[serde(rename = "duplicate", default)]
        _duplicate: bool,
    }
    payload.len() <= ACKNOWLEDGEMENT_BYTES_MAX && serde_json::from_slice::<Acknowledgement>(payload).is_ok()
}
