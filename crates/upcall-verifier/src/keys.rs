//! The public keys that callbacks are verified with.

mod cache;
mod https;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use upcall_bus::{Deadline, Source};
use upcall_callback::{KeyError, KeyUrl, PublicKey};
use upcall_telemetry::metrics::Metrics;

use cache::Cache;
pub use https::{HttpsFetcher, HttpsFetcherError};

/// A further key that the operator trusts, such as a simulator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The URL that callbacks name it by, to the letter. It is never fetched.
    pub url: String,
    /// The key in PEM.
    pub pem: String,
}

/// A trusted key that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the trusted key {url:?} can't be used: {cause}")]
pub struct InvalidTrustedKey {
    /// Its URL.
    pub url: String,
    /// What is wrong.
    pub cause: KeyError,
}

/// Gets the text behind a key's URL.
#[async_trait]
pub trait KeyFetcher: Send + Sync {
    /// Gets the text, or nothing where the host says that there is none. The URL is one that [`KeyUrl`] allows, with https.
    /// The caller bounds the time by dropping the future; the implementation bounds the size.
    ///
    /// # Errors
    /// If nobody says whether there is such a text, or it is too long.
    async fn fetch(&self, url: &str) -> Result<Option<String>, Source>;
}

/// The public keys that callbacks are verified with: OSS's own and the trusted ones, which are at hand, and others on
/// OSS's host, which are fetched when they are first named.
#[derive(Clone)]
pub struct Keys {
    trusted: HashMap<String, PublicKey>,
    fetched: Option<Cache>,
}

/// Why a key can't be had now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyUnavailable {
    /// Fetching keys is switched off.
    #[error("the key {url} is not built in, and fetching keys is switched off")]
    FetchingIsOff {
        /// The key's URL.
        url: String,
    },
    /// More fetches were asked for than are allowed in a time, or more keys are known than there is room for.
    #[error("too many different keys were asked for lately; {url} is not fetched now")]
    TooManyFetches {
        /// The key's URL.
        url: String,
    },
    /// The key's host says that there is no such key. For a short while it is not asked again.
    #[error("there is no key {url}")]
    Unknown {
        /// The key's URL.
        url: String,
    },
    /// The callback's time is up, while the key is being fetched.
    #[error("the key {url} is still being fetched")]
    StillFetching {
        /// The key's URL.
        url: String,
    },
    /// It was fetched, in vain. For a short while it is not tried again.
    #[error("the key {url} could not be fetched")]
    Failed {
        /// The key's URL.
        url: String,
        /// What was underneath.
        #[source]
        source: Arc<FetchFailure>,
    },
}

/// Why fetching a key failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchFailure {
    /// The fetch failed.
    #[error("the request failed")]
    Request(#[source] Source),
    /// The fetch took too long.
    #[error("it took longer than {} ms", cache::FETCH_TIME_MAX.as_millis())]
    TooSlow,
    /// The host says that there is no such key.
    #[error("the host says that there is no such key")]
    Unknown,
    /// What came is no key.
    #[error("what came is no key")]
    Key(#[source] KeyError),
}

impl Keys {
    /// Takes the keys that are at hand, and the way to fetch others; without one nothing is fetched.
    ///
    /// # Errors
    /// With every trusted key that is none.
    pub fn new(
        trusted: impl IntoIterator<Item = TrustedKey>,
        fetcher: Option<Arc<dyn KeyFetcher>>,
        metrics: &Metrics,
    ) -> Result<Self, Vec<InvalidTrustedKey>> {
        let (mut keys, mut mistakes) = (HashMap::new(), Vec::new());
        for TrustedKey { url, pem } in trusted {
            match PublicKey::from_pem(&pem) {
                Ok(key) => drop(keys.insert(url, key)),
                Err(cause) => mistakes.push(InvalidTrustedKey { url, cause }),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self { trusted: keys, fetched: fetcher.map(|fetcher| Cache::new(fetcher, metrics.clone())) })
    }

    /// Other trusted keys, with what was fetched until now where keys are still to be fetched.
    ///
    /// # Errors
    /// With every trusted key that is none.
    pub fn renewed(
        &self,
        trusted: impl IntoIterator<Item = TrustedKey>,
        fetcher: Option<Arc<dyn KeyFetcher>>,
        metrics: &Metrics,
    ) -> Result<Self, Vec<InvalidTrustedKey>> {
        let mut keys = Self::new(trusted, fetcher, metrics)?;
        if let (Some(fetched), Some(before)) = (&mut keys.fetched, &self.fetched) {
            fetched.clone_from(before);
        }
        Ok(keys)
    }

    /// Whether the operator trusts a key of this URL.
    pub(crate) fn is_trusted(&self, url: &str) -> bool {
        self.trusted.contains_key(url)
    }

    /// The key, if it is at hand. Takes no lock.
    pub(crate) fn at_hand(&self, url: Option<&KeyUrl>) -> Option<&PublicKey> {
        match url {
            None => Some(PublicKey::v1()),
            Some(url) if url.is_v1() => Some(PublicKey::v1()),
            Some(url) => self.trusted.get(url.as_str()),
        }
    }

    /// The key, fetched if need be.
    pub(crate) async fn fetch(&self, url: &KeyUrl, deadline: Deadline) -> Result<PublicKey, KeyUnavailable> {
        match (url.to_fetch(), &self.fetched) {
            (Some(url), Some(cache)) => cache.key(url, deadline).await,
            _ => Err(KeyUnavailable::FetchingIsOff { url: url.to_string() }),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("trusted", &self.trusted).field("fetches", &self.fetched.is_some()).finish()
    }
}
