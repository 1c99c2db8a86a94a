//! Asking over HTTP.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};
use upcall_egress::{client_tls, machine_roots};
use upcall_event::Event;
use upcall_responder::{ANSWER_BYTES_MAX, AskError, AskErrorKind, InvalidReply, Reply, Service, Veto};
use upcall_telemetry::trace;

use crate::options::Options;
use crate::reason::reason;

/// The media type of a CloudEvent in structured mode.
const CLOUDEVENT: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// How long a connection is kept for the next question. Common servers close theirs after 5 seconds.
const IDLE: Duration = Duration::from_secs(4);

/// Asks one service by POST: no redirects, no proxy, connections kept, at most 1 MB read.
pub struct HttpService {
    client: Client,
    url: Url,
}

/// Why a service can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The service is asked over https, and the machine has no certificates of authorities.
    #[error("no certificates of authorities were found on this machine")]
    NoRoots,
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
    /// The client can't be made.
    #[error("the HTTP client can't be made")]
    Client(#[source] reqwest::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("it answered with status {0}")]
struct BadStatus(StatusCode);

impl HttpService {
    /// Makes a client that trusts the machine's certificate authorities.
    ///
    /// # Errors
    /// If the service is asked over https and there are none, or TLS can't be set up.
    pub fn new(options: Options) -> Result<Self, BuildError> {
        let is_https = options.url.0.scheme() == "https";
        let roots = if is_https { machine_roots() } else { RootCertStore::empty() };
        if is_https && roots.is_empty() {
            return Err(BuildError::NoRoots);
        }
        Self::trusting(roots, options)
    }

    fn trusting(roots: RootCertStore, options: Options) -> Result<Self, BuildError> {
        let tls = client_tls(roots).map_err(BuildError::Tls)?;
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, CLOUDEVENT), (ACCEPT, JSON)]);
        if let Some(authorization) = options.authorization {
            headers.insert(AUTHORIZATION, authorization.0);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("upcall/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(BuildError::Client)?;
        Ok(Self { client, url: options.url.0 })
    }

    async fn post(&self, event: Bytes) -> Result<Response, reqwest::Error> {
        let mut request = self.client.post(self.url.clone()).body(event);
        if let Some(trace) = trace::current() {
            request = trace.headers().fold(request, |request, (name, value)| request.header(name, value));
        }
        request.send().await
    }
}

#[async_trait]
impl Service for HttpService {
    async fn ask(&self, event: &Event, timeout: Duration) -> Result<Reply, AskError> {
        let asked = Instant::now();
        let event = Bytes::from(event.to_structured());
        let mut response = match self.post(event.clone()).await {
            // The service may have closed the connection just before: once more, on another one.
            Err(error) if has_broken(&error) => self.post(event).await,
            first => first,
        }
        .map_err(failure)?;
        let status = response.status();
        if status.is_success() {
            let answer = read(&mut response).await?;
            return Ok(Reply::Answer(answer));
        }
        if is_veto(status) {
            // The status has said it. A body that is too long, breaks off or hangs must not make a failure of it,
            // for which there may be a fallback: so it gets less time than whoever asks waits.
            let read = timeout_at(asked + (timeout - timeout / 10), read(&mut response)).await;
            let body = read.ok().and_then(Result::ok).unwrap_or_default();
            return Ok(Reply::Veto(Veto::new(&reason(status, &body), body)));
        }
        Err(AskError::new(AskErrorKind::Failed, BadStatus(status)))
    }
}

/// Whether a status is about the upload, and not about when the service was asked.
fn is_veto(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::TOO_MANY_REQUESTS
}

/// Whether the connection broke before an answer began.
fn has_broken(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

fn failure(error: reqwest::Error) -> AskError {
    let kind = match error {
        _ if error.is_timeout() => AskErrorKind::Timeout,
        _ if error.is_connect() => AskErrorKind::Unreachable,
        _ => AskErrorKind::Failed,
    };
    // The log names the route; a URL's query may hold a secret.
    AskError::new(kind, error.without_url())
}

/// Reads a body, unless it is longer than OSS relays.
async fn read(response: &mut Response) -> Result<Bytes, AskError> {
    let is_too_long = |bytes: usize| bytes > ANSWER_BYTES_MAX;
    let length = response.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(is_too_long) {
        return Err(InvalidReply::TooLong.into());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failure)? {
        if is_too_long(body.len() + chunk.len()) {
            return Err(InvalidReply::TooLong.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
