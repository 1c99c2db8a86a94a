//! What a gateway is made of.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderName;
use upcall_bus::Quarantine;
use upcall_event::EventId;
use upcall_responder::Responder;
use upcall_telemetry::log::Control;
use upcall_telemetry::metrics::Metrics;
use upcall_verifier::{Route, Verifier};

use crate::network::Network;

/// What a gateway is made of.
pub struct Options {
    /// Where callbacks arrive; nowhere if `None`, as where a process only consumes. Then there are no routes, and the
    /// gateway is the admin pages.
    pub listen: Option<SocketAddr>,
    /// Where health, metrics and rejections are served; nowhere if `None`.
    pub admin: Option<SocketAddr>,
    /// Where health alone is told, for those who must reach nothing else; nowhere if `None`.
    pub health: Option<SocketAddr>,
    /// The callback paths.
    pub routes: Vec<RouteOptions>,
    /// Which proxies may say what the original request target was.
    pub original_target: Option<OriginalTarget>,
    /// Whose `traceparent` is believed. Of anybody else it is ignored: whoever sends a callback must not decide what is
    /// recorded, nor into which trace.
    pub tracing_peers: Vec<Network>,
    /// Authenticates callbacks and publishes what they report.
    pub verifier: Verifier,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// What else must be in order for the gateway to be ready.
    pub ready_checks: Vec<ReadyCheck>,
    /// Where rejected callbacks are kept, beside the last ones in memory; nowhere if `None`. What it does not take in
    /// time is lost, and counted; no callback waits for it.
    pub quarantine: Option<Arc<dyn Quarantine>>,
    /// Changes what is logged, on the admin pages; not changed there if `None`.
    pub log: Option<Control>,
    /// Tells which configuration is in force, for the admin pages; not told there if `None`. It must not block.
    pub configuration: Option<Arc<dyn Fn() -> serde_json::Value + Send + Sync>>,
    /// Is told of every callback, once it is answered. For `upcall dev`.
    pub observer: Option<Observer>,
    /// Bounds.
    pub limits: Limits,
    /// How to shut down.
    pub shutdown: ShutdownOptions,
    /// How the process is invoked, where it is an instance on Function Compute.
    pub function: Option<FunctionOptions>,
}

/// A callback path with its policy and its answer.
#[derive(Debug, Clone)]
pub struct RouteOptions {
    /// The path at which requests arrive here, such as `/oss/avatars`.
    pub path: String,
    /// The path that OSS called and signed, where a proxy has rewritten it, such as `/api/oss/avatars`.
    pub public_path: Option<String>,
    /// What it takes, and what it makes of it.
    pub policy: Route,
    /// What it answers.
    pub responder: Responder,
}

/// Lets proxies say what the original request target was.
#[derive(Debug, Clone)]
pub struct OriginalTarget {
    /// The header that has it, such as `x-original-uri`.
    pub header: HeaderName,
    /// The proxies that are believed. Of anybody else the header is ignored.
    pub proxies: Vec<Network>,
}

/// Bounds of what the gateway takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest request line with headers, in bytes.
    pub head_bytes_max: usize,
    /// The longest body, in bytes.
    pub body_bytes_max: usize,
    /// Callbacks at a time; one more is turned away at once.
    pub callbacks_max: usize,
    /// Connections at a time; one more is turned away at once.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, from the end of the request before.
    pub head_time: Duration,
    /// How long a body may take to arrive.
    pub body_time: Duration,
    /// How long a callback may take in all, from the arrival of its head. OSS gives up after 5 seconds.
    pub budget: Duration,
    /// Lines a second that refusals may write to the log; the rest is counted.
    pub log_lines_per_second: u32,
}

/// How a gateway shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownOptions {
    /// How long it says that it is not ready, and still accepts, so that load balancers notice.
    pub grace: Duration,
    /// How long requests may then take to finish.
    pub drain: Duration,
}

/// How an instance on Function Compute is invoked.
#[derive(Clone)]
pub struct FunctionOptions {
    /// By what.
    pub invoked_by: InvokedBy,
    /// How old an upload must be before its notification is published: its callback, which says more, goes first.
    pub notification_wait: Duration,
    /// What must be there before the first request. It is waited for when the instance is new.
    pub prepare: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// Sends what was noted of the process's work to whoever collects it, since an instance that is frozen sends nothing.
    /// It keeps to the time that it is given, and should not wait again and again for somebody who takes nothing.
    pub flush: Arc<dyn Fn(Before, Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// What an instance is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It answers a request, and may be frozen then. Somebody waits.
    Answer,
    /// It is frozen.
    Freeze,
    /// It ends.
    Stop,
}

/// What invokes a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokedBy {
    /// Requests of clients, as they were sent.
    Http,
    /// Events of the HTTP trigger and of the OSS trigger.
    Events,
}

/// Something that must be in order for the gateway to be ready.
#[derive(Clone)]
pub struct ReadyCheck {
    pub(crate) check: Arc<dyn Fn() -> Vec<(String, Health)> + Send + Sync>,
}

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is in order.
    Fine,
    /// Callbacks can be taken, and there is something to know.
    Remark(String),
    /// Callbacks can't be taken, and why.
    Unready(String),
}

/// Is told of every callback, once it is answered. It must not block.
pub type Observer = Arc<dyn Fn(&Observed<'_>) + Send + Sync>;

/// A callback that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The route, if one was found.
    pub route: Option<&'a str>,
    /// `accepted`, `duplicate`, or the code of the error that was answered.
    pub outcome: &'static str,
    /// The error's explanation, as the log has it; where there is no error, why a fallback was answered.
    pub reason: Option<&'a str>,
    /// The event's id, if it got so far.
    pub event: Option<EventId>,
    /// The event's bucket, if it got so far.
    pub bucket: Option<&'a str>,
    /// The event's object, if it got so far.
    pub object: Option<&'a str>,
    /// The `x-oss-request-id` header. Not signed.
    pub request_id: Option<&'a str>,
    /// Who called.
    pub peer: SocketAddr,
    /// How long it took, from the head's arrival to the answer.
    pub elapsed: Duration,
}

impl Options {
    /// Takes what has no default. There are no routes yet.
    #[must_use]
    pub fn new(listen: impl Into<Option<SocketAddr>>, verifier: Verifier, metrics: Metrics) -> Self {
        Self {
            listen: listen.into(),
            admin: None,
            health: None,
            routes: Vec::new(),
            original_target: None,
            tracing_peers: Vec::new(),
            verifier,
            metrics,
            ready_checks: Vec::new(),
            quarantine: None,
            log: None,
            configuration: None,
            observer: None,
            limits: Limits::default(),
            shutdown: ShutdownOptions::default(),
            function: None,
        }
    }
}

impl ReadyCheck {
    /// Names a component and tells how it is. The check must not block.
    #[must_use]
    pub fn new(name: impl Into<String>, check: impl Fn() -> Health + Send + Sync + 'static) -> Self {
        let name = name.into();
        Self { check: Arc::new(move || vec![(name.clone(), check())]) }
    }

    /// Tells how several components are, each with its name; which there are may change. The check must not block.
    #[must_use]
    pub fn several(check: impl Fn() -> Vec<(String, Health)> + Send + Sync + 'static) -> Self {
        Self { check: Arc::new(check) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // OSS sends about 1 KB; Function Compute lets 12 KB through.
            head_bytes_max: 16 * 1024,
            // What a callbackBody of 5 KB Base64 can be filled in to, nearly.
            body_bytes_max: 128 * 1024,
            // At a millisecond each that is far more than two cores can do; beyond it, callbacks would only wait.
            callbacks_max: 1024,
            connections_max: 4096,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(3),
            // Half a second less than OSS's patience, for the way there and back.
            budget: Duration::from_millis(4500),
            log_lines_per_second: 20,
        }
    }
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        // No callback takes longer to finish than OSS waits for it.
        Self { grace: Duration::ZERO, drain: Duration::from_secs(5) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .field("health", &self.health)
            .field("routes", &self.routes)
            .field("original_target", &self.original_target)
            .field("limits", &self.limits)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReadyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyCheck").finish_non_exhaustive()
    }
}
