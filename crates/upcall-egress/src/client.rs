//! Posting.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use reqwest::redirect;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};

use crate::resolver::GuardedResolver;
use crate::tls::{client_tls, machine_roots};
use crate::{Endpoint, Error, ErrorKind, Guard, Lookup, SystemLookup};

/// How a client behaves. The default has the guard that admits public addresses only.
#[derive(Clone)]
pub struct ClientOptions {
    /// Which addresses it may call.
    pub guard: Guard,
    /// How names are looked up.
    pub lookup: Arc<dyn Lookup>,
    /// Authorities that a server's certificate may come from, beside the machine's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How long it may take to look a name up, to connect, and to agree on keys. Less than `timeout`.
    pub connect_timeout: Duration,
    /// How long a request may take, with the answer's body.
    pub timeout: Duration,
    /// How long a connection is kept for the next request.
    pub idle_timeout: Duration,
    /// How much of an answer's body is read.
    pub body_bytes_max: usize,
}

impl Default for ClientOptions {
    /// 5 seconds to connect and 15 in all; connections are kept for 4, since common servers close theirs after 5; 64 KiB.
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            lookup: Arc::new(SystemLookup),
            authorities: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(4),
            body_bytes_max: 64 * 1024,
        }
    }
}

/// Posts over HTTP/1.1 to endpoints whose addresses its guard admits. No redirects, no proxy; connections are kept.
#[derive(Clone)]
pub struct Client {
    client: reqwest::Client,
    guard: Guard,
    timeout: Duration,
    body_bytes_max: usize,
}

/// An answer. Its status stands whatever became of its body.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it was read.
    pub body: Bytes,
    /// Whether that is all of it: it was not too long, did not break off, and came in time.
    pub is_whole: bool,
}

/// Why a client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The machine has no certificates of authorities, and none were given.
    #[error("no certificates of authorities were found on this machine")]
    NoAuthorities,
    /// An authority's certificate can't be used.
    #[error("an authority's certificate can't be used")]
    Authority(#[source] rustls::Error),
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
    /// The client can't be made.
    #[error("the HTTP client can't be made")]
    Client(#[source] reqwest::Error),
}

/// Text that holds no certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holds no certificates in PEM (`-----BEGIN CERTIFICATE-----`)")]
pub struct InvalidAuthority;

/// Reads the certificates of authorities from PEM.
///
/// # Errors
/// If there are none, or one can't be read.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidAuthority> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty()).ok_or(InvalidAuthority)
}

impl Client {
    /// Makes a client for endpoints with or without TLS. `is_https` is whether any has it: the machine's authorities are
    /// not read for nothing.
    ///
    /// # Errors
    /// If it needs authorities and there are none, or TLS can't be set up.
    pub fn new(options: ClientOptions, is_https: bool) -> Result<Self, BuildError> {
        let resolver = GuardedResolver { guard: options.guard.clone(), lookup: options.lookup };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(options.authorities, is_https)?)
            .user_agent(concat!("upcall/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(resolver)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(options.idle_timeout)
            .build()
            .map_err(BuildError::Client)?;
        Ok(Self { client, guard: options.guard, timeout: options.timeout, body_bytes_max: options.body_bytes_max })
    }

    /// Posts a body, once.
    ///
    /// # Errors
    /// If no answer began in time. Only the kinds that [`ErrorKind::is_unsent`] names leave the request without effect.
    pub async fn post(&self, endpoint: &Endpoint, headers: HeaderMap, body: Bytes) -> Result<Response, Error> {
        // A host that is an address is not resolved.
        self.guard.check_endpoint(endpoint).map_err(|refused| Error::new(ErrorKind::Refused, refused))?;
        let deadline = Instant::now() + self.timeout;
        let sent = self.client.post(endpoint.url().clone()).headers(headers).body(body).send();
        let response = match timeout_at(deadline, sent).await {
            Ok(response) => response.map_err(Error::from_request)?,
            Err(elapsed) => return Err(Error::new(ErrorKind::Timeout, elapsed)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let (body, is_whole) = read(response, self.body_bytes_max, deadline).await;
        Ok(Response { status, headers, body, is_whole })
    }
}

/// Reads a body as far as it comes in time and is not too long, and says whether that is all of it.
async fn read(mut response: reqwest::Response, bytes_max: usize, deadline: Instant) -> (Bytes, bool) {
    let mut body = BytesMut::new();
    loop {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let room = bytes_max - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return (body.freeze(), false);
                }
            }
            Ok(Ok(None)) => return (body.freeze(), true),
            Ok(Err(_)) | Err(_) => return (body.freeze(), false),
        }
    }
}

fn tls(authorities: Vec<CertificateDer<'static>>, is_https: bool) -> Result<ClientConfig, BuildError> {
    let mut roots = if is_https { machine_roots() } else { RootCertStore::empty() };
    for authority in authorities {
        roots.add(authority).map_err(BuildError::Authority)?;
    }
    if is_https && roots.is_empty() {
        return Err(BuildError::NoAuthorities);
    }
    client_tls(roots).map_err(BuildError::Tls)
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("guard", &self.guard)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("guard", &self.guard).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
