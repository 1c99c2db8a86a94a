//! Every error that is answered, and the status of each.

use http::StatusCode;
use upcall_callback::NotificationError;
use upcall_responder::{AskError, AskErrorKind, Responder, Veto, VetoAnswer, When};
use upcall_verifier::{Refusal, RefusalKind};

/// An error that is answered.
#[derive(Debug)]
pub(crate) enum Error {
    /// The callback was refused, by its content or by the bus.
    Refused(Refusal),
    /// The route's service vetoed the event.
    Vetoed {
        /// Its veto.
        veto: Veto,
        /// What the uploader gets to see of it.
        shown: VetoAnswer,
    },
    /// The route's service has no say, and the route no fallback.
    Unanswered {
        /// Why.
        cause: AskError,
        /// Whether the event is durable all the same.
        is_durable: bool,
    },
    /// The request did not get so far.
    Request(RequestErrorKind),
    /// A notification can't be read.
    Notification(NotificationError),
}

/// A kind of error that is answered: one of the verifier's or one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The callback was refused, by its content or by the bus.
    Refused(RefusalKind),
    /// The request did not get so far.
    Request(RequestErrorKind),
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal: $message:literal, cause $cause:literal, remedy $remedy:literal;)+) => {
        /// A kind of request that is not taken as a callback.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RequestErrorKind { $($(#[doc = $doc])+ $variant),+ }

        impl RequestErrorKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),+ }
            }

            const fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause),+ }
            }

            const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),+ }
            }
        }
    };
}

kinds! {
    /// No route has this path.
    RouteUnknown = "route_unknown": "no route has this path",
        cause "No route has the path that a callback called.",
        remedy "Compare the path of the callback URL with the routes' `path`. Behind a proxy that rewrites paths, compare what the proxy sends.";
    /// No route has this path, and it is no callback.
    PageUnknown = "page_unknown": "there is no such page, and this is no callback",
        cause "No route has the path that was called, and the request has none of the headers by which OSS signs.",
        remedy "None is needed: anybody looks for pages everywhere. If it was a callback, see what in front of the gateway removes `authorization` and `x-oss-pub-key-url`.";
    /// Another method than POST.
    MethodNotAllowed = "method_not_allowed": "a callback is a POST",
        cause "A callback path was called with another method than POST.",
        remedy "Nothing, if somebody opened the URL in a browser: OSS always sends POST.";
    /// HTTP that can't be read.
    RequestMalformed = "request_malformed": "the request is not well-formed HTTP/1",
        cause "The request is not well-formed HTTP/1.0 or HTTP/1.1, such as one with two different lengths.",
        remedy "OSS never sends such a request: find out who called, or what a proxy makes of requests.";
    /// A long head.
    HeadTooLarge = "head_too_large": "the request's head is too large",
        cause "Request line and headers together are longer than the limit, or there are more than 100 headers.",
        remedy "OSS sends about 1 KB. See what a proxy adds, or raise the limit.";
    /// A header with the original target that is no use.
    OriginalTargetUnusable = "original_target_unusable": "the proxy's header with the original target can't be used",
        cause "A trusted proxy sent the header with the original target more than once, or not as text.",
        remedy "Have the proxy set the header once, and overwrite what a client sends.";
    /// A long body.
    BodyTooLarge = "body_too_large": "the body is too large",
        cause "The body is longer than the limit.",
        remedy "Shorten the `callbackBody`.";
    /// A slow body.
    BodyTimeout = "body_timeout": "the body did not arrive in time",
        cause "The body did not arrive within its share of the time.",
        remedy "Look at the network between OSS and the gateway, and at proxies in between.";
    /// A body that ended early.
    BodyBroken = "body_broken": "the body could not be read",
        cause "The connection broke within the body, or the body's encoding is wrong.",
        remedy "Look at the network between OSS and the gateway, and at proxies in between.";
    /// Too much to do.
    Overloaded = "overloaded": "too many callbacks at a time",
        cause "As many callbacks as the limit allows are being worked on. This one was turned away at once.",
        remedy "Raise the limit if there is memory for it, or spread the load. If callbacks take long, look at the journal's disk.";
    /// Too many connections.
    TooManyConnections = "too_many_connections": "too many connections at a time",
        cause "As many connections as the limit allows are open.",
        remedy "Raise the limit, or find out who keeps so many connections.";
    /// A long answer.
    AnswerTooLarge = "answer_too_large": "the configured answer is longer than OSS relays",
        cause "The route's `response`, filled in, is longer than 1 MB. The event was not published.",
        remedy "Shorten the `response`.";
    /// A veto.
    Vetoed = "vetoed": "the application does not want this upload",
        cause "The route's service was asked before the event was published (`when = \"before\"`), and vetoed. There is no event. With `veto = \"relay\"` the status is 200 nevertheless, and the uploader gets the service's own JSON.",
        remedy "Nothing, if the service meant it: the log and `/rejections` have its reason. Over HTTP every status 4xx is a veto but 408 and 429: if each upload is vetoed, see that the route's `url` and `authorization` are right.";
    /// A service that fails.
    ResponderFailed = "responder_failed": "the service that computes the answer failed",
        cause "The route's service can't be reached, answered with an error, or answered with what OSS would not relay (nothing, over 1 MB, or no JSON), and the route has no `fallback`. With `when = \"after\"` the event is durable all the same; with `when = \"before\"` there is none.",
        remedy "The log says which. Mend the service, or give the route a `fallback`. Uploading again is harmless: the event is the same, and the service is asked again.";
    /// A service that is slow.
    ResponderTimeout = "responder_timeout": "the service that computes the answer did not answer in time",
        cause "The route's service did not answer within the route's `timeout`, or within what the callback had left, and the route has no `fallback`. With `when = \"after\"` the event is durable all the same; with `when = \"before\"` there is none.",
        remedy "Make the service faster, raise the `timeout` if the callback's time has room for it, or give the route a `fallback`.";
    /// A service that is behind.
    ResponderBusy = "responder_busy": "too many questions wait for the service that computes the answer",
        cause "As many questions as the route's `concurrency` allows wait for its service, so that it was not asked, and the route has no `fallback`. With `when = \"after\"` the event is durable all the same; with `when = \"before\"` there is none.",
        remedy "Make the service faster, raise the route's `concurrency` if the service can take it, or give the route a `fallback`.";
    /// An invocation of the other kind.
    InvocationRefused = "invocation_refused": "this function is not invoked in this way",
        cause "On Function Compute: a function with `invoked_by = \"http\"` was invoked with an event, one with `invoked_by = \"events\"` over HTTP, or the header `x-fc-control-path` did not say how.",
        remedy "See that the function's triggers fit its `[function_compute]`. A function that takes notifications has no HTTP trigger for requests of clients.";
    /// An event of no trigger.
    EventMalformed = "event_malformed": "the event is none of an HTTP trigger or an OSS trigger",
        cause "On Function Compute: the function was invoked with something else than the JSON of the HTTP trigger or of the OSS trigger, or a notification does not fully name its upload. Of the others in its list, each is taken by itself.",
        remedy "See which trigger invokes the function. Others than those two are not understood.";
    /// An event that hides what was signed.
    EventUnverifiable = "event_unverifiable": "the event does not hold the query that OSS signed",
        cause "On Function Compute, where the HTTP trigger hands requests over as events: the callback URL has more than one query parameter, or one with other characters than letters, digits and `-._~`. The event does not hold the query as it was sent, and the signature is over that.",
        remedy "Leave the query out of the callback URL, and put its values into the `callbackBody`; or have the function be invoked over HTTP (`invoked_by = \"http\"`), where nothing is lost.";
    /// A fault of ours.
    Internal = "internal": "an error within the gateway",
        cause "A fault of the gateway itself.",
        remedy "Report it, with what the log says.";
}

impl ErrorKind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let refused = RefusalKind::ALL.iter().copied().map(Self::Refused);
        RequestErrorKind::ALL.iter().copied().map(Self::Request).chain(refused)
    }

    /// Its place among all kinds.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Request(kind) => kind as usize,
            Self::Refused(kind) => RequestErrorKind::ALL.len() + kind as usize,
        }
    }

    /// The stable name, as answers, metrics and logs have it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Refused(kind) => kind.code(),
            Self::Request(kind) => kind.code(),
        }
    }

    /// What the sender is told.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Refused(kind) => kind.message(),
            Self::Request(kind) => kind.message(),
        }
    }

    /// Where it comes from, for the documentation.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Refused(kind) => kind.cause(),
            Self::Request(kind) => kind.cause(),
        }
    }

    /// What to do about it, for the documentation.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Refused(kind) => kind.remedy(),
            Self::Request(kind) => kind.remedy(),
        }
    }

    /// Whether the same may be taken later: nothing is wrong with it, but with us or the bus.
    pub(crate) const fn is_passing(self) -> bool {
        matches!(self.status().as_u16(), 500..600)
    }

    /// Whether a callback may end so: one of a route that answers by this, or one for which no route was found.
    pub(crate) fn can_happen(self, responder: Option<&Responder>) -> bool {
        use RefusalKind as Refused;
        use RequestErrorKind as Request;
        let asking = match responder {
            Some(Responder::Service(asking)) => Some(asking.options.when),
            Some(Responder::Template(_)) | None => None,
        };
        match self {
            Self::Request(
                Request::RouteUnknown
                | Request::PageUnknown
                | Request::RequestMalformed
                | Request::HeadTooLarge
                | Request::TooManyConnections
                | Request::OriginalTargetUnusable,
            )
            | Self::Refused(Refused::TargetForm | Refused::TargetAmbiguous | Refused::TargetEncoding) => {
                responder.is_none()
            }
            Self::Request(Request::Internal) => true,
            // Of Function Compute alone, where nobody reads these series before they are there.
            Self::Request(Request::InvocationRefused | Request::EventMalformed | Request::EventUnverifiable) => false,
            Self::Request(Request::AnswerTooLarge) => matches!(responder, Some(Responder::Template(_))),
            Self::Request(Request::Vetoed) => asking == Some(When::Before),
            Self::Request(Request::ResponderFailed | Request::ResponderTimeout | Request::ResponderBusy) => {
                asking.is_some()
            }
            Self::Request(_) | Self::Refused(_) => responder.is_some(),
        }
    }

    /// The status that is answered. OSS tells 200 from anything else only; the uploader sees the number.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        use RefusalKind as Refused;
        use RequestErrorKind as Request;
        match self {
            Self::Refused(
                Refused::TargetForm
                | Refused::TargetAmbiguous
                | Refused::TargetEncoding
                | Refused::SignatureEncoding
                | Refused::KeyUrlEncoding,
            )
            | Self::Request(
                Request::RequestMalformed
                | Request::OriginalTargetUnusable
                | Request::BodyBroken
                | Request::EventMalformed,
            ) => StatusCode::BAD_REQUEST,
            Self::Refused(
                Refused::SignatureMissing
                | Refused::KeyUrlForbidden
                | Refused::KeyUnknown
                | Refused::SignatureMismatch
                | Refused::BucketNotAllowed
                | Refused::ProofMissing,
            )
            | Self::Request(Request::Vetoed | Request::InvocationRefused) => StatusCode::FORBIDDEN,
            Self::Refused(
                Refused::BodyUnreadable
                | Refused::BodyConflict
                | Refused::TemplateEncoded
                | Refused::BodyTooManyFields
                | Refused::FieldConflict
                | Refused::ObjectMissing
                | Refused::BucketMissing
                | Refused::SubjectTooLong
                | Refused::BusRejected,
            )
            | Self::Request(Request::EventUnverifiable) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Refused(
                Refused::KeyUnavailable
                | Refused::BusBusy
                | Refused::BusTimeout
                | Refused::BusFull
                | Refused::BusUnavailable,
            )
            | Self::Request(Request::Overloaded | Request::TooManyConnections | Request::ResponderBusy) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Request(Request::RouteUnknown | Request::PageUnknown) => StatusCode::NOT_FOUND,
            Self::Request(Request::MethodNotAllowed) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Request(Request::BodyTimeout) => StatusCode::REQUEST_TIMEOUT,
            Self::Request(Request::BodyTooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Request(Request::HeadTooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Request(Request::ResponderFailed) => StatusCode::BAD_GATEWAY,
            Self::Request(Request::ResponderTimeout) => StatusCode::GATEWAY_TIMEOUT,
            Self::Request(Request::AnswerTooLarge | Request::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Error {
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Request(match self {
            Self::Refused(refusal) => return ErrorKind::Refused(refusal.kind()),
            Self::Vetoed { .. } => RequestErrorKind::Vetoed,
            Self::Unanswered { cause, .. } => match cause.kind {
                AskErrorKind::Timeout => RequestErrorKind::ResponderTimeout,
                AskErrorKind::Busy => RequestErrorKind::ResponderBusy,
                AskErrorKind::Unreachable
                | AskErrorKind::Failed
                | AskErrorKind::InvalidReply
                | AskErrorKind::VetoTooLate => RequestErrorKind::ResponderFailed,
            },
            Self::Request(kind) => *kind,
            Self::Notification(_) => RequestErrorKind::EventMalformed,
        })
    }

    /// What the sender is told.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.message(),
            Self::Vetoed { veto, .. } => veto.reason().to_owned(),
            Self::Unanswered { .. } | Self::Request(_) => self.kind().message().to_owned(),
            Self::Notification(error) => error.to_string(),
        }
    }

    /// What the log says, with all causes. Neither signatures nor values from the body.
    pub(crate) fn log_text(&self) -> String {
        match self {
            Self::Request(kind) => kind.message().to_owned(),
            Self::Notification(error) => error.to_string(),
            Self::Refused(refusal) => with_causes(refusal),
            Self::Vetoed { veto, .. } => format!("the service vetoed: {}", veto.reason()),
            Self::Unanswered { cause, is_durable } => {
                let event = if *is_durable { "the event is durable" } else { "no event was published" };
                format!("{}; {event}", with_causes(cause))
            }
        }
    }
}

/// An error with what was underneath.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<RequestErrorKind> for Error {
    fn from(kind: RequestErrorKind) -> Self {
        Self::Request(kind)
    }
}

#[cfg(test)]
mod tests;
