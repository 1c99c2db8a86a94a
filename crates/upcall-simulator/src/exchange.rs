//! One request and what is needed to answer it.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

use crate::error::OssError;
use crate::request_id::RequestId;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub(crate) type Answer = Response<Body>;

/// A request's head, read as far as every operation needs it.
pub(crate) struct Exchange {
    /// The id that the request gets.
    pub(crate) id: RequestId,
    /// Who asks.
    pub(crate) client: IpAddr,
    /// The head as it came.
    pub(crate) head: Parts,
    /// The host that was asked, with its port.
    pub(crate) host: String,
    query: Vec<(String, String)>,
}

impl Exchange {
    /// Reads a request's head.
    pub(crate) fn new(id: RequestId, client: IpAddr, head: Parts) -> Self {
        let query = serde_urlencoded::from_str(head.uri.query().unwrap_or_default()).unwrap_or_default();
        let host = crate::address::authority(&head.uri, &head.headers);
        Self { id, client, head, host, query }
    }

    /// A query parameter, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the query names any of these parameters.
    pub(crate) fn asks_for(&self, names: &[&str]) -> bool {
        self.query.iter().any(|(key, _)| names.contains(&key.as_str()))
    }

    /// A number in the query, within bounds.
    pub(crate) fn number(&self, name: &str, default: u32, max: u32) -> Result<u32, OssError> {
        match self.query(name) {
            None | Some("") => Ok(default),
            Some(text) => match text.parse() {
                Ok(number) if (1..=max).contains(&number) => Ok(number),
                _ => {
                    Err(OssError::invalid_argument(format!("Argument {name} must be an integer between 1 and {max}.")))
                }
            },
        }
    }

    /// A header, if it is text.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        text(&self.head.headers, name)
    }
}

/// A header, if it is text.
pub(crate) fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    with_body(status, None, Bytes::new())
}

/// An answer in XML.
pub(crate) fn xml(status: StatusCode, document: String) -> Answer {
    with_body(status, Some("application/xml"), document.into())
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, document: Bytes) -> Answer {
    with_body(status, Some("application/json"), document)
}

/// An answer with a body of a type.
pub(crate) fn with_body(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    answer
}

/// Sets a header, unless its value cannot be one.
pub(crate) fn set(answer: &mut Answer, name: &'static str, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
