//! Fetching keys over https.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::redirect;
use rustls::RootCertStore;
use upcall_bus::Source;
use upcall_egress::{client_tls, machine_roots};

use super::KeyFetcher;

/// The longest answer that is read, in bytes; a 4096-bit key has 800.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long one fetch may take in all; whoever asks may give up before.
const TIME_MAX: Duration = Duration::from_secs(3);
/// How the host says that there is no such key. OSS, which is behind it, tells strangers 403 or 404, as the bucket is set up.
const NO_SUCH_KEY: [u16; 3] = [403, 404, 410];

/// Fetches keys over https: no redirects, no proxy, no other scheme, bounded in time and size.
#[derive(Debug, Clone)]
pub struct HttpsFetcher {
    client: reqwest::Client,
}

/// Why a fetcher can't be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpsFetcherError {
    /// The machine has no certificates of authorities.
    #[error("no certificates of authorities were found on this machine")]
    NoRoots,
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
    /// The client can't be made.
    #[error("the https client can't be made")]
    Client(#[source] reqwest::Error),
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
enum BadAnswer {
    #[error("the answer has status {0}, not 200")]
    Status(u16),
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer is not text")]
    NotText,
}

impl HttpsFetcher {
    /// Makes a fetcher that trusts the machine's certificate authorities.
    ///
    /// # Errors
    /// If there are none, or TLS can't be set up.
    pub fn new() -> Result<Self, HttpsFetcherError> {
        let roots = machine_roots();
        if roots.is_empty() {
            return Err(HttpsFetcherError::NoRoots);
        }
        Self::trusting(roots, |client| client)
    }

    fn trusting(
        roots: RootCertStore,
        adjust: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, HttpsFetcherError> {
        let tls = client_tls(roots).map_err(HttpsFetcherError::Tls)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(TIME_MAX)
            .pool_max_idle_per_host(0);
        adjust(client).build().map(|client| Self { client }).map_err(HttpsFetcherError::Client)
    }
}

#[async_trait]
impl KeyFetcher for HttpsFetcher {
    async fn fetch(&self, url: &str) -> Result<Option<String>, Source> {
        let mut answer = self.client.get(url).send().await?;
        match answer.status().as_u16() {
            200 => {}
            status if NO_SUCH_KEY.contains(&status) => return Ok(None),
            status => return Err(BadAnswer::Status(status).into()),
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if text.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(BadAnswer::TooLong.into());
            }
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).map(Some).map_err(|_| BadAnswer::NotText.into())
    }
}

#[cfg(test)]
mod tests;
