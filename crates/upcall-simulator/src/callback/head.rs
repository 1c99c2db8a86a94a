//! The headers that OSS sends with a callback.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use md5::{Digest, Md5};
use upcall_callback::BodyType;

use crate::object::http_date;

/// What differs from callback to callback.
pub(super) struct Head<'a> {
    pub(super) host: &'a str,
    pub(super) authorization: &'a str,
    pub(super) body_type: BodyType,
    pub(super) bucket: &'a str,
    pub(super) request_id: &'a str,
    pub(super) owner: &'a str,
    pub(super) key_url: &'a str,
}

impl Head<'_> {
    /// All headers, for a body.
    pub(super) fn headers(&self, body: &[u8]) -> HeaderMap {
        let length = body.len().to_string();
        let content_md5 = STANDARD.encode(Md5::digest(body));
        let date = http_date(Timestamp::now());
        let key_url = STANDARD.encode(self.key_url);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", self.host),
            ("connection", "close"),
            ("content-length", &length),
            ("authorization", self.authorization),
            ("content-md5", &content_md5),
            ("content-type", self.body_type.as_str()),
            ("date", &date),
            ("user-agent", "aliyun-oss-callback"),
            ("x-oss-additional-headers", ""),
            ("x-oss-bucket", self.bucket),
            ("x-oss-owner", self.owner),
            ("x-oss-pub-key-url", &key_url),
            ("x-oss-request-id", self.request_id),
            ("x-oss-requester", self.owner),
            ("x-oss-signature-version", "1.0"),
            ("x-oss-tag", "CALLBACK"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        debug_assert!(headers.contains_key(http::header::HOST));
        headers
    }
}
