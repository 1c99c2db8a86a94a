//! A collector of telemetry: takes OTLP over gRPC and over HTTP on one port, and keeps what it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio_rustls::TlsAcceptor;

/// The collector, on a port of its own until it is dropped.
pub struct Collector {
    address: SocketAddr,
    is_tls: bool,
    kept: Arc<Mutex<Kept>>,
    // Ends the tasks when it is dropped.
    _runtime: tokio::runtime::Runtime,
}

/// What it has got.
#[derive(Debug, Default)]
pub struct Kept {
    /// Spans, each with its process.
    pub spans: Vec<Collected<Span>>,
    /// How many requests they came in.
    pub span_requests: usize,
    /// Log lines.
    pub lines: Vec<Collected<opentelemetry_proto::tonic::logs::v1::LogRecord>>,
    /// Metrics, as often as they came.
    pub metrics: Vec<Collected<Metric>>,
    /// The content types of the requests.
    pub content_types: Vec<String>,
    /// What the header `x-key` had.
    pub keys: Vec<String>,
    /// When each request came, and how long its message was.
    pub requests: Vec<(Instant, usize)>,
    /// Whom it has asked for time.
    asked: BTreeSet<String>,
}

/// Something, and what was said of the process that it came from.
#[derive(Debug, Clone)]
pub struct Collected<T> {
    /// The process.
    pub resource: BTreeMap<String, String>,
    /// What came.
    pub item: T,
}

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It takes everything.
    Works,
    /// It takes everything, and takes so long for each request.
    Slow(Duration),
    /// It accepts connections and requests, and never answers.
    Hangs,
    /// It takes messages of at most so many bytes.
    Takes(usize),
    /// It asks to be left alone for so long, once for each kind of telemetry, and works then.
    AsksFor(Duration),
    /// It takes no traces, and says that it has no room, without a time.
    HasNoRoom,
    /// It refuses one thing of each request.
    RefusesOne,
    /// It fails for every request, and does not say whether for good.
    Fails,
    /// It is a web server, which answers everything with 200 and JSON.
    IsAWebServer,
    /// It sends whoever asks elsewhere.
    Redirects(SocketAddr),
}

impl Collector {
    /// Starts one.
    pub fn start(behaviour: Behaviour) -> Self {
        Self::serve(behaviour, None)
    }

    /// Starts one that works, over TLS.
    pub fn start_tls(tls: TlsAcceptor) -> Self {
        Self::serve(Behaviour::Works, Some(tls))
    }

    fn serve(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("there is a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let kept = Arc::new(Mutex::new(Kept::default()));
        let (shared, is_tls) = (Arc::clone(&kept), tls.is_some());
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                let answer = hyper::service::service_fn(move |request| answer(Arc::clone(&shared), behaviour, request));
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away, or does not believe us, is no failure.
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(socket), answer).await),
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                let _ = http.serve_connection(TokioIo::new(socket), answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, is_tls, kept, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The lines of a configuration that have everything exported here.
    pub fn configuration(&self, protocol: &str) -> String {
        let configuration = configuration(self.address, protocol);
        if self.is_tls { configuration.replace("http://", "https://") } else { configuration }
    }

    /// What it has got so far.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of a configuration that have everything exported to an address.
pub fn configuration(address: SocketAddr, protocol: &str) -> String {
    format!("[telemetry.otlp]\nendpoint = \"http://{address}\"\nprotocol = \"{protocol}\"\nmetrics_interval = \"1s\"\n")
}

/// A text attribute's value.
pub fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(
    kept: Arc<Mutex<Kept>>,
    behaviour: Behaviour,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    match behaviour {
        Behaviour::Slow(time) => tokio::time::sleep(time).await,
        Behaviour::Hangs => std::future::pending().await,
        _ => {}
    }
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let content_type = text("content-type");
    let is_grpc = content_type == "application/grpc";
    // gRPC has a byte and a length in front of each message.
    let message = if is_grpc { body.slice(5..) } else { body };
    let path = head.uri.path();
    let verdict = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.content_types.push(content_type);
        kept.keys.push(text("x-key"));
        kept.requests.push((Instant::now(), message.len()));
        let verdict = kept.judge(behaviour, path, message.len());
        if matches!(verdict, Verdict::Takes | Verdict::RefusesOne) {
            match path {
                "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
                    kept.add_spans(&message);
                }
                "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                    kept.add_metrics(&message);
                }
                "/v1/logs" | "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => kept.add_lines(&message),
                other => panic!("{other} is no path of OTLP"),
            }
        }
        verdict
    };
    Ok(if is_grpc { verdict.grpc() } else { verdict.http() })
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Takes,
    RefusesOne,
    TooLong,
    Later(Duration),
    Full,
    Fails,
    Json,
    Elsewhere(SocketAddr),
}

impl Verdict {
    fn grpc(self) -> Response<Body> {
        let (status, details) = match self {
            Self::Takes | Self::RefusesOne | Self::Json | Self::Elsewhere(_) => ("0", None),
            Self::TooLong | Self::Full => ("8", None),
            Self::Later(time) => ("8", Some(retry_info(time))),
            Self::Fails => ("13", None),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().expect("a value"));
        if let Some(details) = details {
            trailers.insert("grpc-status-details-bin", details.parse().expect("a value"));
        }
        let mut frames = Vec::new();
        if status == "0" {
            let message = if self == Self::RefusesOne { REFUSES_ONE } else { &[] };
            let length = u32::try_from(message.len()).expect("it is short").to_be_bytes();
            frames.push(Ok(Frame::data([&[0], &length[..], message].concat().into())));
        }
        frames.push(Ok(Frame::trailers(trailers)));
        let answer = Response::builder().header(CONTENT_TYPE, "application/grpc");
        answer.body(StreamBody::new(stream::iter(frames))).expect("the answer is one")
    }

    fn http(self) -> Response<Body> {
        let (status, content_type, body) = match self {
            Self::Takes => (200, "application/x-protobuf", &[][..]),
            Self::RefusesOne => (200, "application/x-protobuf", REFUSES_ONE),
            Self::TooLong => (413, "text/plain", &[][..]),
            Self::Later(_) | Self::Full => (429, "text/plain", &[][..]),
            Self::Fails => (500, "text/plain", &[][..]),
            Self::Json => (200, "application/json", &b"{\"hello\":\"world\"}"[..]),
            Self::Elsewhere(_) => (307, "text/html", &[][..]),
        };
        let mut answer = Response::builder().status(status).header(CONTENT_TYPE, content_type);
        match self {
            Self::Later(time) => answer = answer.header(RETRY_AFTER, time.as_secs()),
            Self::Elsewhere(address) => answer = answer.header(LOCATION, format!("http://{address}/v1/traces")),
            _ => {}
        }
        let frames = vec![Ok(Frame::data(Bytes::from_static(body)))];
        answer.body(StreamBody::new(stream::iter(frames))).expect("the answer is one")
    }
}

/// A partial success: one is refused, since it is "old".
const REFUSES_ONE: &[u8] = &[0x0a, 0x07, 0x08, 0x01, 0x12, 0x03, b'o', b'l', b'd'];

/// `google.rpc.Status` with a `google.rpc.RetryInfo` in it, as gRPC has it in a trailer.
fn retry_info(time: Duration) -> String {
    let field = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).expect("it is short")], content].concat();
    let seconds = u8::try_from(time.as_secs()).ok().filter(|seconds| *seconds < 128).expect("it is short");
    let info = field(0x0a, &[0x08, seconds]);
    let any = [field(0x0a, b"type.googleapis.com/google.rpc.RetryInfo"), field(0x12, &info)].concat();
    let status = [vec![0x08, 0x08], field(0x1a, &any)].concat();
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, status)
}

impl Kept {
    fn judge(&mut self, behaviour: Behaviour, path: &str, bytes: usize) -> Verdict {
        match behaviour {
            Behaviour::Works | Behaviour::Slow(_) | Behaviour::Hangs => Verdict::Takes,
            Behaviour::Takes(bytes_max) if bytes > bytes_max => Verdict::TooLong,
            Behaviour::Takes(_) => Verdict::Takes,
            Behaviour::AsksFor(time) if self.asked.insert(path.to_owned()) => Verdict::Later(time),
            Behaviour::AsksFor(_) => Verdict::Takes,
            Behaviour::HasNoRoom if path.contains("race") => Verdict::Full,
            Behaviour::HasNoRoom => Verdict::Takes,
            Behaviour::RefusesOne => Verdict::RefusesOne,
            Behaviour::Fails => Verdict::Fails,
            Behaviour::IsAWebServer => Verdict::Json,
            Behaviour::Redirects(address) => Verdict::Elsewhere(address),
        }
    }

    fn add_spans(&mut self, message: &[u8]) {
        self.span_requests += 1;
        for of_process in ExportTraceServiceRequest::decode(message).expect("it is OTLP").resource_spans {
            let resource = resource(of_process.resource);
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(|item| Collected { resource: resource.clone(), item }));
        }
    }

    fn add_metrics(&mut self, message: &[u8]) {
        for of_process in ExportMetricsServiceRequest::decode(message).expect("it is OTLP").resource_metrics {
            let resource = resource(of_process.resource);
            let metrics = of_process.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            self.metrics.extend(metrics.map(|item| Collected { resource: resource.clone(), item }));
        }
    }

    fn add_lines(&mut self, message: &[u8]) {
        for of_process in ExportLogsServiceRequest::decode(message).expect("it is OTLP").resource_logs {
            let resource = resource(of_process.resource);
            let lines = of_process.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            self.lines.extend(lines.map(|item| Collected { resource: resource.clone(), item }));
        }
    }
}

fn resource(resource: Option<Resource>) -> BTreeMap<String, String> {
    let attributes = resource.unwrap_or_default().attributes;
    let pair = |pair: &KeyValue| Some((pair.key.clone(), attribute(&attributes, &pair.key)?.to_owned()));
    attributes.iter().filter_map(pair).collect()
}
