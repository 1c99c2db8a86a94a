//! The gateway as a custom runtime of Function Compute.
//!
//! An instance is frozen as soon as its last request is answered, and may never be thawed. So an answer waits for what its
//! request has left to do; and what else goes on in the background is nothing whose end anybody waits for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::timeout;
use upcall_bus::Deadline;
use upcall_function_compute::{CONTROL_PATH, Control, Event, FAILED, HttpEvent, REQUEST_ID, STATUS, http_answer};

use crate::callback::{Progress, Quarantined, Shared};
use crate::error::{Error, RequestErrorKind};
use crate::measure::Stopwatch;
use crate::options::{Before, FunctionOptions, InvokedBy};
use crate::{answer, body, quarantine};

/// How long an answer waits for its request to be in quarantine. It has failed, and OSS is not to wait for that too long.
const QUARANTINE_TIME: Duration = Duration::from_millis(500);
/// What is kept back of a callback's time for the quarantine and the flush, which wait side by side, and to send the
/// answer; at most a quarter of it. An answer that has used up its time waits for no less.
const CONCLUDING: Duration = Duration::from_millis(500);
/// What is kept back of that to send the answer; at most a tenth of it.
const SENDING: Duration = Duration::from_millis(50);
/// How long an answer waits for what was noted of its request to be sent to whoever collects it. That is a few milliseconds
/// where he is near and well; where he is not, his uploader should hardly notice.
const FLUSH_TIME: Duration = Duration::from_millis(300);
/// How long an instance that is about to be frozen or to end waits for the same. Nobody waits for it.
const LAST_FLUSH_TIME: Duration = Duration::from_secs(1);
/// How long a new instance waits for the bus. The callback that it was started for has 5 seconds in all.
const PREPARE_TIME: Duration = Duration::from_millis(1500);

/// The time of one invocation.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Until when it is worked on.
    work: Deadline,
    /// Until when its quarantine and telemetry are waited for.
    answer: Deadline,
}

impl Times {
    /// Begins a callback's time.
    fn of(budget: Duration) -> Self {
        let concluding = CONCLUDING.min(budget / 4);
        let sending = SENDING.min(concluding / 10);
        Self { work: Deadline::after(budget - concluding), answer: Deadline::after(budget - sending) }
    }
}

/// Answers one request of Function Compute.
pub(crate) async fn answer(shared: Arc<Shared>, peer: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    // Boxed: several forms, of which one is awaited.
    Box::pin(shared.answer_invocation(&parts, body, peer)).await
}

impl Shared {
    async fn answer_invocation(&self, parts: &Parts, body: Incoming, peer: SocketAddr) -> Response<Full<Bytes>> {
        let control = Control::parse(parts.headers.get_all(CONTROL_PATH).iter().map(HeaderValue::as_bytes));
        let times = Times::of(self.limits.budget);
        // Without it, nobody answers by this function.
        let Some(function) = &self.function else { return self.answer(parts, body, peer, times.work).await };
        let (response, until) = match (control, function.invoked_by) {
            (Ok(Control::Initialize), _) => {
                // A bus that is away is no reason to have no instance: it may be back for the first callback.
                let _ = timeout(PREPARE_TIME, (function.prepare)()).await;
                return done();
            }
            // Nothing ends by these: whether only Function Compute sends them is not for us to know.
            (Ok(control @ (Control::PreFreeze | Control::PreStop)), _) => {
                let before = if control == Control::PreStop { Before::Stop } else { Before::Freeze };
                tokio::join!(self.settle(QUARANTINE_TIME), (function.flush)(before, LAST_FLUSH_TIME));
                return done();
            }
            (Ok(Control::Http), InvokedBy::Http) => (self.answer(parts, body, peer, times.work).await, times.answer),
            (Ok(Control::Invoke), InvokedBy::Events) => self.answer_event(function, parts, body, peer, times).await,
            (Ok(Control::Http | Control::Invoke) | Err(_), _) => {
                (self.refuse(RequestErrorKind::InvocationRefused, parts, peer, &Progress::default()), times.answer)
            }
        };
        let left = |limit| until.at_most(limit).remaining();
        let quarantined = async {
            if response.extensions().get::<Quarantined>().is_some() {
                self.settle(left(QUARANTINE_TIME)).await;
            }
        };
        tokio::join!(quarantined, (function.flush)(Before::Answer, left(FLUSH_TIME)));
        response
    }

    /// Waits until rejected callbacks are in quarantine, for a short time.
    async fn settle(&self, limit: Duration) {
        if let Some(quarantine) = &self.quarantine {
            // What is not written now is written after the thaw, if there is one.
            let _ = timeout(limit, quarantine.written()).await;
        }
    }

    /// Answers an event, and says until when somebody waits for the answer.
    async fn answer_event(
        &self,
        function: &FunctionOptions,
        parts: &Parts,
        body: Incoming,
        peer: SocketAddr,
        times: Times,
    ) -> (Response<Full<Bytes>>, Deadline) {
        let mut progress = Progress::default();
        let limits = &self.limits;
        // As JSON or in Base64, a body takes up to twice its length.
        let bytes_max = 2 * (limits.body_bytes_max + limits.head_bytes_max);
        let event = match body::read(body, bytes_max, times.work.at_most(limits.body_time)).await {
            Ok(event) => event,
            Err(kind) => return (failed(self.refuse(kind, parts, peer, &progress)), times.answer),
        };
        progress.body = self.quarantine.is_some().then(|| quarantine::Body::of(&event));
        match Event::parse(&event) {
            Ok(Event::Http(event)) => {
                (self.answer_http_event(event, parts, peer, &progress, times.work).await, times.answer)
            }
            Ok(Event::Oss) => {
                let response = self.answer_notifications(function, &event, parts, peer, progress).await;
                // It may have waited for a callback for longer than one may take, and nobody waits for it.
                (response, Deadline::after(QUARANTINE_TIME))
            }
            Err(_) => (failed(self.refuse(RequestErrorKind::EventMalformed, parts, peer, &progress)), times.answer),
        }
    }

    /// Answers a request that came as an event of the HTTP trigger, in the form of one.
    async fn answer_http_event(
        &self,
        event: HttpEvent,
        outer: &Parts,
        peer: SocketAddr,
        progress: &Progress<'_>,
        deadline: Deadline,
    ) -> Response<Full<Bytes>> {
        let response = match as_sent(&event, outer) {
            Ok(parts) => self.answer(&parts, Full::new(event.body.into()), peer, deadline).await,
            Err(kind) => self.refuse(kind, outer, peer, progress),
        };
        let is_quarantined = response.extensions().get::<Quarantined>().copied();
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = body::whole(body).await;
        let mut response = answer::json(StatusCode::OK, http_answer(parts.status.as_u16(), headers, &body));
        if let Some(quarantined) = is_quarantined {
            response.extensions_mut().insert(quarantined);
        }
        response
    }

    /// Counts and explains what does not get so far as to be a callback.
    pub(crate) fn refuse(
        &self,
        error: impl Into<Error>,
        parts: &Parts,
        peer: SocketAddr,
        progress: &Progress<'_>,
    ) -> Response<Full<Bytes>> {
        self.conclude(Err(error.into()), parts, peer, progress, &Stopwatch::start())
    }
}

/// The request that a client sent to the HTTP trigger.
fn as_sent(event: &HttpEvent, outer: &Parts) -> Result<Parts, RequestErrorKind> {
    let target = event.target().map_err(|_| RequestErrorKind::EventUnverifiable)?;
    let malformed = |_| RequestErrorKind::EventMalformed;
    let method = Method::from_bytes(event.method.as_bytes()).map_err(|_| RequestErrorKind::EventMalformed)?;
    let request = Request::builder().method(method).uri(target).body(()).map_err(malformed)?;
    let (mut parts, ()) = request.into_parts();
    for (name, value) in &event.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| RequestErrorKind::EventMalformed)?;
        let value = HeaderValue::from_str(value).map_err(|_| RequestErrorKind::EventMalformed)?;
        parts.headers.append(name, value);
    }
    if let Some(invocation) = outer.headers.get(REQUEST_ID) {
        parts.headers.insert(REQUEST_ID, invocation.clone());
    }
    Ok(parts)
}

/// The answer to what Function Compute itself asks.
fn done() -> Response<Full<Bytes>> {
    answer::json(StatusCode::OK, json!({ "done": true }).to_string())
}

/// Says that the function has failed, so that an asynchronous invocation is made again.
pub(crate) fn failed(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(STATUS, HeaderValue::from_static(FAILED));
    response
}
