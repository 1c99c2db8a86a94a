//! One request to the collector, over gRPC or HTTP.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::redirect;
use rustls::RootCertStore;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use upcall_egress::{client_tls, machine_roots};
use upcall_telemetry::error_chain;

use crate::line::{IDLE_MAX, Line};
use crate::options::{Options, Protocol};
use crate::remedy::in_words;
use crate::telemetry::StartError;

/// The longest answer that is read. It has a number and a sentence.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How much of an answer goes into a reason.
const REASON_BYTES_MAX: usize = 200;
const USER_AGENT: &str = concat!("upcall/", env!("CARGO_PKG_VERSION"));

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Traces,
    Metrics,
    Logs,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The name in metrics and in log lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }

    fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For whoever reads the log.
    pub(crate) reason: String,
    /// Whether the same request may be taken later.
    pub(crate) is_passing: bool,
}

/// The way to the collector. A clone is the same.
#[derive(Clone)]
pub(crate) enum Transport {
    Grpc { line: Arc<Line>, metadata: MetadataMap, timeout: Duration },
    Http { client: reqwest::Client, endpoint: crate::Endpoint, headers: HeaderMap, timeout: Duration },
}

impl Transport {
    /// Makes it ready; nothing is connected to yet.
    pub(crate) fn new(options: &Options) -> Result<Self, StartError> {
        let timeout = options.timeout;
        match options.protocol {
            Protocol::Grpc => {
                let metadata = MetadataMap::from_headers(options.headers.clone());
                Ok(Self::Grpc { line: Arc::new(Line::new(grpc_endpoint(options)?)), metadata, timeout })
            }
            Protocol::Http => {
                let mut headers = options.headers.clone();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                let (client, endpoint) = (client(options)?, options.endpoint.clone());
                Ok(Self::Http { client, endpoint, headers, timeout })
            }
        }
    }

    /// Sends one request, and gives back what the collector said.
    pub(crate) async fn send(&self, kind: Kind, body: Bytes) -> Result<Bytes, Failure> {
        let limit = match self {
            Self::Grpc { timeout, .. } | Self::Http { timeout, .. } => *timeout,
        };
        let sent = async {
            match self {
                Self::Grpc { line, metadata, .. } => call(line.channel(), metadata.clone(), kind, body).await,
                Self::Http { client, endpoint, headers, .. } => {
                    post(client, &endpoint.below(kind.http_path()), headers.clone(), body).await
                }
            }
        };
        let Ok(sent) = timeout(limit, sent).await else {
            if let Self::Grpc { line, .. } = self {
                line.hang_up();
            }
            return Err(Failure::passing(format!("no answer within {limit:?}")));
        };
        sent
    }
}

impl fmt::Debug for Transport {
    /// Without the headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Failure {
    fn passing(reason: String) -> Self {
        Self { reason, is_passing: true }
    }
}

fn grpc_endpoint(options: &Options) -> Result<Endpoint, StartError> {
    let endpoint = Channel::builder(options.endpoint.uri().clone());
    let endpoint = endpoint.user_agent(USER_AGENT).map_err(|error| StartError::Client(error.into()))?;
    let mut endpoint = endpoint.connect_timeout(options.timeout);
    if options.endpoint.is_https() {
        let name = options.endpoint.uri().host().unwrap_or_default();
        // An IPv6 address has brackets in a URL only.
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let tls = ClientTlsConfig::new().trust_anchors(roots(options)?.roots).domain_name(name);
        endpoint = endpoint.tls_config(tls).map_err(|error| StartError::Client(error.into()))?;
    }
    Ok(endpoint)
}

/// The authorities that the collector's certificate may come from.
fn roots(options: &Options) -> Result<RootCertStore, StartError> {
    if !options.endpoint.is_https() {
        return Ok(RootCertStore::empty());
    }
    let mut roots = machine_roots();
    for authority in &options.authorities {
        roots.add(authority.clone()).map_err(|error| StartError::Client(error.into()))?;
    }
    if roots.is_empty() { Err(StartError::NoAuthorities) } else { Ok(roots) }
}

fn client(options: &Options) -> Result<reqwest::Client, StartError> {
    let tls = client_tls(roots(options)?).map_err(|error| StartError::Client(error.into()))?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(options.timeout)
        .pool_idle_timeout(IDLE_MAX)
        .build()
        .map_err(|error| StartError::Client(error.into()))
}

async fn post(client: &reqwest::Client, url: &str, headers: HeaderMap, body: Bytes) -> Result<Bytes, Failure> {
    let broken = |error: reqwest::Error| Failure::passing(in_words(error_chain(&error.without_url())));
    let mut response = client.post(url).headers(headers).body(body).send().await.map_err(broken)?;
    let status = response.status();
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX
        && let Some(chunk) = response.chunk().await.map_err(broken)?
    {
        answer.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - answer.len())]);
    }
    if status.is_success() {
        return Ok(answer.into());
    }
    let is_passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    Err(Failure { reason: format!("it answers with status {status}"), is_passing })
}

async fn call(channel: Channel, metadata: MetadataMap, kind: Kind, body: Bytes) -> Result<Bytes, Failure> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    grpc.ready().await.map_err(|error| Failure::passing(in_words(error_chain(&error))))?;
    let request = Request::from_parts(metadata, tonic::Extensions::default(), body);
    let answer = grpc.unary(request, PathAndQuery::from_static(kind.grpc_path()), Raw).await;
    answer.map(tonic::Response::into_inner).map_err(|status| of_status(&status))
}

/// What may be taken later is what the specification of OTLP names.
fn of_status(status: &Status) -> Failure {
    let is_passing = matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            // How a connection that breaks off is told.
            | Code::Unknown
            | Code::Internal
    );
    // What never got there is told by what it failed of, and by nobody else.
    let said = status.source().map_or_else(|| status.message().to_owned(), error_chain);
    let said = &said[..said.floor_char_boundary(REASON_BYTES_MAX)];
    Failure { reason: in_words(format!("{:?}: {said}", status.code())), is_passing }
}

/// Messages that are bytes already: each kind is made once, whichever way it goes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
