//! One request to the collector, over gRPC or HTTP.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes};
use http::header::{CONTENT_TYPE, SERVER};
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
use tonic_types::StatusExt;
use upcall_egress::{client_tls, excerpt, machine_roots, retry_after};
use upcall_telemetry::error_chain;

use crate::body::Answer;
use crate::line::{IDLE_MAX, Line};
use crate::options::{Options, Protocol};
use crate::remedy::in_words;
use crate::telemetry::StartError;

/// The longest answer that is read. It has a number and a sentence.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How much of an answer goes into a reason.
pub(crate) const REASON_CHARS_MAX: usize = 200;
/// How much of a name that a server gives itself or its answer does.
const NAME_CHARS_MAX: usize = 60;
const PROTOBUF: &str = "application/x-protobuf";
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
    /// What to do about it.
    pub(crate) verdict: Verdict,
}

/// What to do about a request that was not taken, as the specification of OTLP has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same may be taken later: after this time, if the collector says one.
    Later(Option<Duration>),
    /// Perhaps later, and perhaps never: whether it is for what was sent is not said.
    Doubtful,
    /// It is too much at a time.
    TooMuch,
    /// It is never taken.
    Never,
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
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
                let (client, endpoint) = (client(options)?, options.endpoint.clone());
                Ok(Self::Http { client, endpoint, headers, timeout })
            }
        }
    }

    /// Sends one request, and gives back what the collector said.
    pub(crate) async fn send(&self, kind: Kind, body: Bytes) -> Result<Answer, Failure> {
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
        Self { reason, verdict: Verdict::Later(None) }
    }

    /// What answers as if it had taken a request is no collector: it must not be counted as one.
    fn no_collector(said: &str) -> Self {
        Self { reason: format!("what answers there is no collector: {said}"), verdict: Verdict::Never }
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

async fn post(client: &reqwest::Client, url: &str, headers: HeaderMap, body: Bytes) -> Result<Answer, Failure> {
    let broken = |error: reqwest::Error| Failure::passing(in_words(error_chain(&error.without_url())));
    let mut response = client.post(url).headers(headers).body(body).send().await.map_err(broken)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX
        && let Some(chunk) = response.chunk().await.map_err(broken)?
    {
        answer.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - answer.len())]);
    }
    if status.is_success() { read_answer(status, &headers, &answer) } else { Err(of_http(status, &headers)) }
}

/// Takes an answer for a collector's only if it is one: anything on that port may answer with 200.
fn read_answer(status: StatusCode, headers: &HeaderMap, answer: &[u8]) -> Result<Answer, Failure> {
    let content_type = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let media_type = content_type.as_deref().map(|value| value.split(';').next().unwrap_or_default().trim());
    let is_protobuf = media_type.map(|media_type| media_type.eq_ignore_ascii_case(PROTOBUF));
    // One that has nothing to say may leave the type out.
    let read = if is_protobuf.unwrap_or(answer.is_empty()) { Answer::read(answer) } else { None };
    read.ok_or_else(|| {
        let server = headers.get(SERVER).map(|server| format!(" by {:?}", excerpt(server.as_bytes(), NAME_CHARS_MAX)));
        let content_type = content_type.map_or("no content type".to_owned(), |value| {
            format!("content type {:?}", excerpt(value.as_bytes(), NAME_CHARS_MAX))
        });
        let server = server.unwrap_or_default();
        Failure::no_collector(&format!("it answers{server} with status {status}, {content_type}, and not as OTLP says"))
    })
}

fn of_http(status: StatusCode, headers: &HeaderMap) -> Failure {
    let verdict = match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Verdict::Later(retry_after(headers, SystemTime::now())),
        StatusCode::PAYLOAD_TOO_LARGE => Verdict::TooMuch,
        StatusCode::NOT_IMPLEMENTED => Verdict::Never,
        StatusCode::REQUEST_TIMEOUT => Verdict::Doubtful,
        status if status.is_server_error() => Verdict::Doubtful,
        _ => Verdict::Never,
    };
    let hint = if status.is_redirection() { ", which is not followed: name its own address in `endpoint`" } else { "" };
    Failure { reason: format!("it answers with status {status}{hint}"), verdict }
}

async fn call(channel: Channel, metadata: MetadataMap, kind: Kind, body: Bytes) -> Result<Answer, Failure> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    grpc.ready().await.map_err(|error| Failure::passing(in_words(error_chain(&error))))?;
    let request = Request::from_parts(metadata, tonic::Extensions::default(), body);
    let answer = grpc.unary(request, PathAndQuery::from_static(kind.grpc_path()), Raw).await;
    let answer = answer.map_err(|status| of_grpc(&status))?.into_inner();
    Answer::read(&answer).ok_or_else(|| Failure::no_collector("its answer is not as OTLP says"))
}

fn of_grpc(status: &Status) -> Failure {
    let asked = || status.get_details_retry_info().and_then(|info| info.retry_delay);
    let verdict = match status.code() {
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::Unavailable => Verdict::Later(asked()),
        // Without a time it is no question of time.
        Code::ResourceExhausted => asked().map_or(Verdict::TooMuch, |asked| Verdict::Later(Some(asked))),
        // How a connection that breaks off is told, too; some say by OutOfRange that a message is too long.
        Code::Unknown | Code::Internal | Code::OutOfRange | Code::DataLoss => Verdict::Doubtful,
        _ => Verdict::Never,
    };
    // What never got there is told by what it failed of, and by nobody else.
    let said = status.source().map_or_else(|| status.message().to_owned(), error_chain);
    let said = excerpt(said.as_bytes(), REASON_CHARS_MAX);
    Failure { reason: in_words(format!("{:?}: {said}", status.code())), verdict }
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
