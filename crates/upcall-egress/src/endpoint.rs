//! Where something is posted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

/// An http or https URL, without a user, a password or a fragment. It is not shown beyond its host: a path or a query
/// may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    host: String,
}

/// Text that is no URL of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It is no URL, or one of another scheme.
    #[error("is no URL with http:// or https:// and a host")]
    Form,
    /// It holds a user or a password.
    #[error("holds a user or a password; use a header instead")]
    Credentials,
    /// It has a fragment, which no server gets to see.
    #[error("has a fragment (`#…`), which is not sent")]
    Fragment,
}

impl Endpoint {
    /// The host, and the port if the URL names one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is called over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The same endpoint with one more query parameter.
    #[must_use]
    pub fn with_query(&self, name: &str, value: &str) -> Self {
        let mut endpoint = self.clone();
        endpoint.url.query_pairs_mut().append_pair(name, value);
        endpoint
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The host, if it is an address. By then every way to write one (`0x7f.1`, `2130706433`, `0177.0.0.1`) is the same.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let host = self.url.host_str()?;
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let url = Url::parse(text).map_err(|_| InvalidEndpoint::Form)?;
        let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
            return Err(InvalidEndpoint::Form);
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::Credentials);
        }
        if url.fragment().is_some() {
            return Err(InvalidEndpoint::Fragment);
        }
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { url, host })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}://{}/…)", self.url.scheme(), self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_http_url_and_shows_only_its_host() {
        let endpoint: Endpoint = "https://oapi.example.com/robot/send?access_token=hunter2".parse().unwrap();
        assert_eq!(endpoint.host(), "oapi.example.com");
        assert!(!format!("{endpoint:?} {:?}", endpoint.with_query("sign", "hunter2")).contains("hunter2"));
        for wrong in ["", "app.example.com/x", "127.0.0.1:9000/x", "ftp://host/", "http://", "file:///etc/passwd"] {
            assert_eq!(wrong.parse::<Endpoint>(), Err(InvalidEndpoint::Form), "{wrong:?}");
        }
        assert_eq!("http://user:hunter2@host/".parse::<Endpoint>(), Err(InvalidEndpoint::Credentials));
        assert_eq!("http://host/#there".parse::<Endpoint>(), Err(InvalidEndpoint::Fragment));
    }

    #[test]
    fn every_way_to_write_an_address_is_that_address() {
        for host in
            ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "①②⑦.0.0.1"]
        {
            let endpoint: Endpoint = format!("http://{host}:8080/").parse().unwrap();
            assert_eq!(endpoint.address(), Some([127, 0, 0, 1].into()), "{host}");
        }
        let six: Endpoint = "http://[::ffff:7f00:1]/".parse().unwrap();
        assert_eq!(six.address(), Some("::ffff:127.0.0.1".parse().unwrap()));
        assert_eq!("http://localhost/".parse::<Endpoint>().unwrap().address(), None);
    }
}
