//! One callback: from a request to its answer.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Body;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;
use tracing::{Instrument, debug};
use upcall_bus::{Deadline, Message, PublishErrorKind, Receipt};
use upcall_callback::{CallbackRequest, Target};
use upcall_event::{EventId, TraceContext};
use upcall_responder::{Responder, VetoAnswer};
use upcall_telemetry::trace::{self, Answered, CallbackTrace};
use upcall_verifier::{Refusal, Verifier};

use crate::answer;
use crate::asking::Asked;
use crate::body;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, RequestErrorKind};
use crate::measure::{Measures, Outcomes, Stopwatch};
use crate::network::Network;
use crate::options::{FunctionOptions, Limits, Observed, Observer};
use crate::quarantine::{self, Intake};
use crate::rejections::{Rejection, Rejections, printable};
use crate::routes::{BoundRoute, Found};
use crate::site::Site;

/// What all callbacks share.
pub(crate) struct Shared {
    pub(crate) site: ArcSwap<Site>,
    pub(crate) tracing_peers: Vec<Network>,
    pub(crate) limits: Limits,
    pub(crate) permits: Semaphore,
    /// What bodies of more than [`USUAL_BODY_BYTES`] may take in memory together, in KiB.
    pub(crate) long_bodies_kib: Semaphore,
    pub(crate) clock: Clock,
    pub(crate) measures: Measures,
    pub(crate) rejections: Rejections,
    pub(crate) quarantine: Option<Intake>,
    pub(crate) observer: Option<Observer>,
    /// How the process is invoked, where it is an instance on Function Compute.
    pub(crate) function: Option<FunctionOptions>,
    /// Whether it shuts down: connections close behind their answers, so that none is left when it stops accepting.
    pub(crate) leaving: AtomicBool,
}

/// Says of an answer that its request is on its way to the quarantine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quarantined;

/// The longest body that needs no room of its own: a callbackBody has 5 KB, and a long key filled in some more.
const USUAL_BODY_BYTES: usize = 64 * 1024;
/// What longer bodies may take in memory together, in KiB: 64 MiB.
pub(crate) const LONG_BODIES_KIB: usize = 64 * 1024;

/// What became known on the way, for whoever counts and observes.
#[derive(Default)]
pub(crate) struct Progress<'s> {
    pub(crate) route: Option<&'s BoundRoute>,
    /// Where the route's callbacks are counted.
    pub(crate) outcomes: Option<&'s Outcomes>,
    /// Kept only for a quarantine.
    pub(crate) body: Option<quarantine::Body>,
    /// The event's id, once there is an event.
    pub(crate) id: Option<EventId>,
    /// Its bucket and object. Kept only for an observer: the bus takes the event.
    pub(crate) upload: Option<(String, String)>,
    /// Why a fallback is answered.
    pub(crate) fallback: Option<String>,
    pub(crate) trace: CallbackTrace,
}

/// Answers one request. Whatever happens, the answer is JSON.
///
/// A plain hyper service, without a router in front: boxing and moving every request cost a fifth of the gateway's time.
pub(crate) async fn answer(shared: Arc<Shared>, peer: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let deadline = Deadline::after(shared.limits.budget);
    let mut response = shared.answer(&parts, body, peer, deadline).await;
    if shared.leaving.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Shared {
    /// Answers a request, whose body comes off the wire or is there already.
    pub(crate) async fn answer(
        &self,
        parts: &Parts,
        body: impl Body<Data = Bytes> + Unpin,
        peer: SocketAddr,
        deadline: Deadline,
    ) -> Response<Full<Bytes>> {
        let stopwatch = Stopwatch::start();
        let _in_flight = self.measures.count_in_flight();
        // A reload meanwhile changes nothing for this one.
        let site = self.site.load_full();
        let mut progress = Progress { trace: self.trace(&parts.headers, peer), ..Progress::default() };
        let span = progress.trace.span();
        let work = self.take(&site, parts, body, peer, deadline, &mut progress).instrument(span.clone());
        let result = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(result) => result,
            Err(_panic) => Err(RequestErrorKind::Internal.into()),
        };
        span.in_scope(|| self.conclude(result, parts, peer, &progress, &stopwatch))
    }

    async fn take<'s>(
        &'s self,
        site: &'s Site,
        parts: &'s Parts,
        body: impl Body<Data = Bytes> + Unpin,
        peer: SocketAddr,
        deadline: Deadline,
        progress: &mut Progress<'s>,
    ) -> Result<(Bytes, Receipt), Error> {
        let mut stopwatch = Stopwatch::start();
        let Found { route, signed } = site.find(parts, peer)?;
        progress.route = Some(route);
        progress.outcomes = Some(&site.outcomes[route.index]);
        if parts.method != Method::POST {
            return Err(RequestErrorKind::MethodNotAllowed.into());
        }
        // Held until the answer: what was in the body is in the event, as long.
        let _room = self.room_for(&body)?;
        // The body is given back before anybody else is waited for.
        let (message, permit) = {
            let body = body::read(body, self.limits.body_bytes_max, deadline.at_most(self.limits.body_time)).await?;
            if self.quarantine.is_some() {
                progress.body = Some(quarantine::Body::of(&body));
            }
            stopwatch.lap(&self.measures.read);

            // Only now: a client that sends a head and no body must not keep others from being worked on.
            let permit = self.permits.try_acquire().map_err(|_| RequestErrorKind::Overloaded)?;
            let _verifying = progress.trace.verify();
            let target = Target::parse(&signed).map_err(Refusal::Target)?;
            let request = callback_request(&target, &body, &parts.headers);
            let verified = site.verifier.verify(request, deadline).await?;
            let admitted = route.policy.admit(&verified)?;
            self.measures.count_unread(route.policy.name(), admitted.unread());
            (admitted.into_message(self.clock.now()).map_err(Refusal::from)?, permit)
        };
        site.outcomes[route.index].count_proofs(&message.event.data.proof);
        stopwatch.lap(&self.measures.verify);
        progress.id = Some(message.event.id);
        if self.observer.is_some() {
            let data = &message.event.data;
            progress.upload = Some((data.bucket.clone(), data.object.clone()));
        }

        let template = match &route.responder {
            Responder::Template(template) => template,
            Responder::Service(asking) => {
                let callback = Asked { verifier: &site.verifier, route, asking, message, permit, deadline };
                // Boxed, so that the future of callbacks that ask nobody stays small.
                return Box::pin(self.take_asking(callback, stopwatch, progress)).await;
            }
        };
        // The answer is made before the bus takes the event, which so need not be copied.
        let responding = progress.trace.respond();
        let answer = template.fill(&message.event).map_err(|_| RequestErrorKind::AnswerTooLarge)?;
        drop(responding);
        stopwatch.lap(self.measures.respond.get());
        let receipt = self.publish(&site.verifier, message, deadline, &progress.trace).await?;
        self.measures.count_accepted();
        stopwatch.lap(&self.measures.publish);
        Ok((answer.into(), receipt))
    }

    /// Publishes. A bus keeps the deadline by itself; one that does not must not keep the uploader waiting.
    ///
    /// No `async fn`, which would hold the message once more in every callback's future.
    pub(crate) fn publish<'s>(
        &'s self,
        verifier: &'s Verifier,
        mut message: Message,
        deadline: Deadline,
        trace: &CallbackTrace,
    ) -> impl Future<Output = Result<Receipt, Error>> + use<'s> {
        let (span, carried) = trace.publish(message.subject.as_str(), message.event.id);
        message.event.trace = carried;
        let published = timeout_at(deadline.instant().into(), verifier.publish(message, deadline));
        published.instrument(span.clone()).map(move |in_time| {
            let published = in_time.unwrap_or_else(|_| Err(Refusal::Bus(PublishErrorKind::Timeout.into())));
            self.measures.count_published(&published);
            trace::ended(&span, "upcall.receipt", receipt_name(&published), published.is_err());
            Ok(published?)
        })
    }

    /// The callback's trace: a new one, unless somebody who is trusted with that has begun it.
    fn trace(&self, headers: &HeaderMap, peer: SocketAddr) -> CallbackTrace {
        let is_believed = self.tracing_peers.iter().any(|network| network.contains(peer.ip()));
        let parent = text(headers, &TRACE_PARENT).filter(|_| is_believed);
        CallbackTrace::begin(parent.and_then(|parent| TraceContext::parse(parent, text(headers, &TRACE_STATE)).ok()))
    }

    /// Room for a body that is longer than callbacks are. The usual ones need none, so that these can't be in their way.
    fn room_for(&self, body: &impl Body) -> Result<Option<SemaphorePermit<'_>>, RequestErrorKind> {
        let length = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
        let length = length.unwrap_or(usize::MAX).min(self.limits.body_bytes_max);
        if length <= USUAL_BODY_BYTES {
            return Ok(None);
        }
        let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        self.long_bodies_kib.try_acquire_many(kib).map(Some).map_err(|_| RequestErrorKind::Overloaded)
    }

    /// Counts, explains and answers.
    pub(crate) fn conclude(
        &self,
        result: Result<(Bytes, Receipt), Error>,
        parts: &Parts,
        peer: SocketAddr,
        progress: &Progress<'_>,
        stopwatch: &Stopwatch,
    ) -> Response<Full<Bytes>> {
        let headers = &parts.headers;
        let outcomes = progress.outcomes.unwrap_or(&self.measures.without_route);
        let elapsed = stopwatch.elapsed();
        self.measures.total.observe(elapsed.as_secs_f64());
        let route = progress.route.map(|route| route.policy.name());
        let (outcome, reason, response) = match result {
            Ok((json, receipt)) => {
                (outcomes.count_receipt(receipt), progress.fallback.clone(), answer::json(StatusCode::OK, json))
            }
            Err(error) => {
                let reason = error.log_text();
                let Rejected { kind, request_id } = self.reject(&error, &reason, None, parts, peer, progress);
                let mut response = match &error {
                    Error::Vetoed { veto, shown: VetoAnswer::Relay } => answer::veto(veto, &request_id),
                    _ => answer::error(kind, &error.message(), &request_id),
                };
                if self.quarantine.is_some() {
                    response.extensions_mut().insert(Quarantined);
                }
                (kind.code(), Some(reason), response)
            }
        };
        progress.trace.answered(&Answered {
            method: parts.method.as_str(),
            path: route.map(|_| parts.uri.path()),
            route,
            request_id: text(headers, &REQUEST_ID),
            status: response.status().as_u16(),
            outcome,
            reason: reason.as_deref(),
        });
        // Nothing of it is made unless somebody wants the line.
        debug!(
            route,
            outcome,
            status = response.status().as_u16(),
            request_id = text(headers, &REQUEST_ID).map(printable),
            event = progress.id.map(tracing::field::display),
            elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            "answered a callback"
        );
        if let Some(observer) = &self.observer {
            let upload = progress.upload.as_ref();
            let observed = Observed {
                route,
                outcome,
                reason: reason.as_deref(),
                event: progress.id,
                bucket: upload.map(|(bucket, _)| bucket.as_str()),
                object: upload.map(|(_, object)| object.as_str()),
                request_id: text(headers, &REQUEST_ID),
                peer,
                elapsed,
            };
            observer(&observed);
        }
        response
    }

    /// Counts a request that is not taken, or a part of it with a request id of its own; has it kept, and logged.
    pub(crate) fn reject(
        &self,
        error: &Error,
        reason: &str,
        part: Option<&str>,
        parts: &Parts,
        peer: SocketAddr,
        progress: &Progress<'_>,
    ) -> Rejected {
        let (kind, headers) = (error.kind(), &parts.headers);
        progress.outcomes.unwrap_or(&self.measures.without_route).count_error(kind);
        let invocation = self.function.as_ref().and_then(|_| text(headers, &INVOCATION)).map(printable);
        let route = progress.route.map(|route| route.policy.name());
        let mut rejection = Rejection { invocation, ..rejection(kind.code(), reason, route, headers, peer) };
        if let Some(id) = part.map(printable).filter(|id| !id.is_empty()) {
            rejection.request_id = id;
        }
        if let Some(quarantine) = &self.quarantine {
            quarantine.add(&rejection, parts, progress.body.as_ref());
        }
        let request_id = rejection.request_id.clone();
        if !self.rejections.add(rejection) {
            self.measures.metrics.rejections_unlogged.get().inc();
        }
        Rejected { kind, request_id }
    }
}

/// What is told of a request that is not taken.
pub(crate) struct Rejected {
    pub(crate) kind: ErrorKind,
    pub(crate) request_id: String,
}

pub(crate) const PUB_KEY_URL: HeaderName = HeaderName::from_static("x-oss-pub-key-url");
const BUCKET: HeaderName = HeaderName::from_static("x-oss-bucket");
const INVOCATION: HeaderName = HeaderName::from_static(upcall_function_compute::REQUEST_ID);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-oss-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static(TraceContext::PARENT);
const TRACE_STATE: HeaderName = HeaderName::from_static(TraceContext::STATE);

fn receipt_name(published: &Result<Receipt, Refusal>) -> &'static str {
    match published {
        Ok(Receipt::Stored) => "stored",
        Ok(Receipt::Spilled) => "spilled",
        Ok(Receipt::Duplicate) => "duplicate",
        Err(_) => "failed",
    }
}

fn callback_request<'a>(target: &'a Target<'a>, body: &'a [u8], headers: &'a HeaderMap) -> CallbackRequest<'a> {
    // A value that is not text is no value that OSS sends; it must not pass for an absent one.
    let as_it_came = |name| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    CallbackRequest {
        target,
        body,
        authorization: as_it_came(header::AUTHORIZATION),
        pub_key_url: as_it_came(PUB_KEY_URL),
        content_type: text(headers, &header::CONTENT_TYPE),
        bucket: text(headers, &BUCKET),
        request_id: text(headers, &REQUEST_ID),
    }
}

/// A header's value, if it is text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn rejection(
    code: &'static str,
    reason: &str,
    route: Option<&str>,
    headers: &HeaderMap,
    peer: SocketAddr,
) -> Rejection {
    let request_id = text(headers, &REQUEST_ID).map(printable).filter(|id| !id.is_empty());
    Rejection {
        time: Timestamp::now(),
        code,
        reason: reason.to_owned(),
        route: route.map(str::to_owned),
        request_id: request_id.unwrap_or_else(answer::own_request_id),
        bucket_header: text(headers, &BUCKET).map(printable),
        peer,
        invocation: None,
    }
}
