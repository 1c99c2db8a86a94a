//! Which service is asked, and what it is shown.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use reqwest::header::HeaderValue;

/// Which service is asked, and what it is shown.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub url: ServiceUrl,
    /// What it is shown, so that it knows who asks.
    pub authorization: Option<Authorization>,
}

/// The URL of a service: http or https, without a password or a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl(pub(crate) Url);

/// An `Authorization` header's value, such as `Bearer …`. It is not shown.
#[derive(Clone)]
pub struct Authorization(pub(crate) HeaderValue);

/// Text that is no URL of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServiceUrl {
    /// It is no URL, or one of another scheme.
    #[error("is no URL with http:// or https:// and a host")]
    Form,
    /// It holds a user or a password, which would turn up in logs.
    #[error("holds a user or a password; use `authorization` instead")]
    Credentials,
    /// It has a fragment, which no service gets to see.
    #[error("has a fragment (`#…`), which is not sent")]
    Fragment,
}

/// Text that can't be a header's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("can't be a header's value: it is empty, or holds a line break or another control character")]
pub struct InvalidAuthorization;

impl FromStr for ServiceUrl {
    type Err = InvalidServiceUrl;

    fn from_str(text: &str) -> Result<Self, InvalidServiceUrl> {
        let url = Url::parse(text).map_err(|_| InvalidServiceUrl::Form)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(InvalidServiceUrl::Form);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidServiceUrl::Credentials);
        }
        if url.fragment().is_some() {
            return Err(InvalidServiceUrl::Fragment);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Authorization {
    type Err = InvalidAuthorization;

    fn from_str(text: &str) -> Result<Self, InvalidAuthorization> {
        let mut value = HeaderValue::from_str(text.trim()).map_err(|_| InvalidAuthorization)?;
        if value.is_empty() {
            return Err(InvalidAuthorization);
        }
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, InvalidServiceUrl>) {
        let parsed = url.parse::<ServiceUrl>().map(|url| url.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{url}");
    }

    #[test]
    fn a_service_is_named_by_an_http_url_without_secrets() {
        check("http://127.0.0.1:9000/upcall?x=1", Ok("http://127.0.0.1:9000/upcall?x=1"));
        check("https://app.example.com", Ok("https://app.example.com/"));
        for other in ["", "app.example.com/x", "127.0.0.1:9000/x", "ftp://host/", "http://", "unix:/run/app.sock"] {
            check(other, Err(InvalidServiceUrl::Form));
        }
        check("http://user@host/", Err(InvalidServiceUrl::Credentials));
        check("http://user:hunter2@host/", Err(InvalidServiceUrl::Credentials));
        check("http://host/#there", Err(InvalidServiceUrl::Fragment));
    }

    #[test]
    fn a_secret_is_not_shown_and_can_not_break_out_of_its_header() {
        let secret: Authorization = "Bearer hunter2\n".parse().unwrap();
        assert!(!format!("{secret:?} {:?}", secret.0).contains("hunter2"));
        assert!("a\r\nx: y".parse::<Authorization>().is_err());
        assert!(" ".parse::<Authorization>().is_err());
    }
}
