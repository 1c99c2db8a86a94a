//! Services that are asked for the answer.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use upcall_callback::{AnswerHead, CallbackFailure};
use upcall_event::Event;

/// What was underneath an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// The longest reason that is kept of a veto, in characters. It goes into an answer and a log line.
const REASON_CHARACTERS_MAX: usize = 256;

/// A service of the application's that computes answers.
#[async_trait]
pub trait Service: Send + Sync {
    /// Asks about one event, and gives back what the service said. The answer need not be checked: who asks does that.
    ///
    /// Bounds what it reads to [`ANSWER_BYTES_MAX`](crate::ANSWER_BYTES_MAX). `timeout` is for the protocol's own use,
    /// as in a header; who asks gives up by dropping the future.
    ///
    /// # Errors
    /// If nobody could be asked, or what came back is neither an answer nor a veto. Where it is known that nobody
    /// answers there, at once, without waiting for the timeout.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the service was asked. It may ask twice about an event, so a service
    /// tells events apart by their id.
    async fn ask(&self, event: &Event, timeout: Duration) -> Result<Reply, AskError>;
}

/// What a service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The answer for the uploader, as it came.
    Answer(Bytes),
    /// It does not want this upload to become an event.
    Veto(Veto),
}

/// A service's veto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto {
    reason: String,
    body: Bytes,
}

/// Why a service has no say in an answer.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct AskError {
    /// What to branch on.
    pub kind: AskErrorKind,
    /// What was underneath.
    #[source]
    pub source: Option<Source>,
}

/// The kinds of failure to get an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AskErrorKind {
    /// Nobody answers there: no connection, no responder.
    #[error("the service can't be reached")]
    Unreachable,
    /// It did not answer in time.
    #[error("the service did not answer in time")]
    Timeout,
    /// It answered with an error, or its answer broke off.
    #[error("the service failed")]
    Failed,
    /// It answered with what OSS would not relay.
    #[error("the service's answer is none that OSS relays")]
    InvalidReply,
    /// It vetoed an event that is durable already.
    #[error("the service vetoed an event that is durable already")]
    VetoTooLate,
    /// It was not asked: too many questions were waiting for it.
    #[error("too many questions wait for the service")]
    Busy,
}

/// Why OSS would not relay a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReply {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It is too long.
    #[error("it is longer than the 1 MB that OSS relays")]
    TooLong,
    /// It is not JSON in UTF-8, or begins with a byte order mark.
    #[error("it is not JSON in UTF-8 without a byte order mark")]
    NotJson,
}

impl Veto {
    /// Takes the reason, made printable and short, and the service's own words, for a client that is to see them.
    #[must_use]
    pub fn new(reason: &str, body: impl Into<Bytes>) -> Self {
        let printable = |character: char| if character.is_control() { ' ' } else { character };
        let reason: String = reason.trim().chars().map(printable).take(REASON_CHARACTERS_MAX).collect();
        let reason = if reason.is_empty() { "the service gave no reason".to_owned() } else { reason };
        Self { reason, body: body.into() }
    }

    /// Why, in one line.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The service's own words, if OSS would relay them.
    #[must_use]
    pub fn body(&self) -> Option<&Bytes> {
        check_answer(&self.body).is_ok().then_some(&self.body)
    }
}

impl AskErrorKind {
    /// Every kind.
    pub const ALL: &[Self] =
        &[Self::Unreachable, Self::Timeout, Self::Failed, Self::InvalidReply, Self::VetoTooLate, Self::Busy];

    /// The stable name, as metrics have it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::InvalidReply => "invalid_reply",
            Self::VetoTooLate => "veto_too_late",
            Self::Busy => "busy",
        }
    }
}

impl AskError {
    /// A failure with what was underneath.
    pub fn new(kind: AskErrorKind, source: impl Into<Source>) -> Self {
        Self { kind, source: Some(source.into()) }
    }
}

impl From<AskErrorKind> for AskError {
    fn from(kind: AskErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<InvalidReply> for AskError {
    fn from(invalid: InvalidReply) -> Self {
        Self::new(AskErrorKind::InvalidReply, invalid)
    }
}

/// Judges an answer as OSS does.
///
/// # Errors
/// With why OSS would not relay it.
pub fn check_answer(body: &[u8]) -> Result<(), InvalidReply> {
    let length = body.len().to_string();
    let head = AnswerHead { status: 200, content_length: Some(&length) };
    upcall_callback::check_answer(head, body).map_err(|failure| match failure {
        CallbackFailure::LengthTooLong => InvalidReply::TooLong,
        CallbackFailure::LengthInvalid => InvalidReply::Empty,
        _ => InvalidReply::NotJson,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_as_oss_does() {
        let check = |body: &str, expected| assert_eq!(check_answer(body.as_bytes()), expected);
        check("{}", Ok(()));
        check("null", Ok(()));
        check("", Err(InvalidReply::Empty));
        check("{'a'}", Err(InvalidReply::NotJson));
        check("\u{feff}{}", Err(InvalidReply::NotJson));
        let longest = format!("[{}]", " ".repeat(crate::ANSWER_BYTES_MAX - 2));
        check(&longest, Ok(()));
        check(&format!("{longest} "), Err(InvalidReply::TooLong));
        assert_eq!(check_answer(b"\"\xff\""), Err(InvalidReply::NotJson));
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let veto = Veto::new(&format!(" no\r\nway\u{1b} {}", "x".repeat(1000)), "{}");
        assert!(veto.reason().starts_with("no  way  xxx"), "{veto:?}");
        assert_eq!(veto.reason().chars().count(), REASON_CHARACTERS_MAX);
        assert_eq!(Veto::new(" \n", "").reason(), "the service gave no reason");
    }

    #[test]
    fn only_words_that_oss_relays_are_shown() {
        assert_eq!(Veto::new("no", "{\"reason\":\"no\"}").body().map(Bytes::len), Some(15));
        assert_eq!(Veto::new("no", "no").body(), None);
        assert_eq!(Veto::new("no", "").body(), None);
    }
}
