//! A collector of telemetry: takes OTLP over gRPC and over HTTP on one port, and keeps what it gets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
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
        Behaviour::Works => {}
        Behaviour::Slow(time) => tokio::time::sleep(time).await,
        Behaviour::Hangs => std::future::pending().await,
    }
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let content_type = text("content-type");
    let is_grpc = content_type == "application/grpc";
    // gRPC has a byte and a length in front of each message.
    let message = if is_grpc { body.slice(5..) } else { body };
    {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.content_types.push(content_type.clone());
        kept.keys.push(text("x-key"));
        match head.uri.path() {
            "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => kept.add_spans(&message),
            "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                kept.add_metrics(&message);
            }
            "/v1/logs" | "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => kept.add_lines(&message),
            other => panic!("{other} is no path of OTLP"),
        }
    }
    let mut frames = Vec::new();
    if is_grpc {
        frames.push(Ok(Frame::data(Bytes::from_static(&[0; 5]))));
        frames.push(Ok(Frame::trailers(HeaderMap::from_iter([(
            "grpc-status".parse().expect("a name"),
            "0".parse().expect("a value"),
        )]))));
    }
    let answer = Response::builder().header(CONTENT_TYPE, content_type).body(StreamBody::new(stream::iter(frames)));
    Ok(answer.expect("the answer is one"))
}

impl Kept {
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
