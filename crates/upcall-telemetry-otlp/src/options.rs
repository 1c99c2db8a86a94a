//! Where telemetry goes, and how much of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, Uri};
use upcall_egress::CertificateDer;

/// How to export telemetry.
#[derive(Clone)]
pub struct Options {
    /// The collector.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What is sent with every request, such as a key. May be secret.
    pub headers: HeaderMap,
    /// How long a request may take.
    pub timeout: Duration,
    /// Authorities that the collector's certificate may come from, beside the machine's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What is exported.
    pub signals: Signals,
    /// The share of traces that is recorded, of those that begin here: from 0 to 1.
    pub sample: f64,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
    /// What is said of this process: `service.name` and what else there is.
    pub resource: Vec<(String, String)>,
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals {
    /// Spans.
    pub traces: bool,
    /// What the admin port shows under `/metrics`.
    pub metrics: bool,
    /// Log lines.
    pub logs: bool,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// gRPC, usually on port 4317.
    #[default]
    Grpc,
    /// Protobuf over HTTP, usually on port 4318.
    Http,
}

/// A collector's address: a URL without a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// An address that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("takes a URL such as \"http://collector:4317\", without a password and a query")]
pub struct InvalidEndpoint;

impl Options {
    /// Everything to this collector over gRPC: 10 seconds for a request, one trace in a hundred, metrics every minute.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            protocol: Protocol::default(),
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(10),
            authorities: Vec::new(),
            signals: Signals { traces: true, metrics: true, logs: true },
            sample: 0.01,
            metrics_interval: Duration::from_secs(60),
            resource: Vec::new(),
        }
    }
}

impl Endpoint {
    /// Whether it is spoken to over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The address as such.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// The address of something below it.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.0.to_string().trim_end_matches('/'))
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_secret = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
        let is_whole =
            is_http && !has_secret && uri.query().is_none() && uri.host().is_some_and(|host| !host.is_empty());
        is_whole.then_some(Self(uri)).ok_or(InvalidEndpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("signals", &self.signals)
            .field("sample", &self.sample)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_and_nothing_secret() {
        for text in ["http://collector:4317", "https://otlp.example.com/base/", "http://[::1]:4318"] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text}");
        }
        for text in ["", "collector:4317", "grpc://collector", "http://", "http://u:p@host", "http://host/?key=1"] {
            assert_eq!(text.parse::<Endpoint>(), Err(InvalidEndpoint), "{text}");
        }
        let endpoint: Endpoint = "https://otlp.example.com/base/".parse().unwrap();
        assert_eq!(endpoint.below("/v1/traces"), "https://otlp.example.com/base/v1/traces");
        assert_eq!("http://h:1".parse::<Endpoint>().unwrap().below("/v1/logs"), "http://h:1/v1/logs");
    }
}
