//! Callbacks as OSS sends them, signed with a key of the test's own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use upcall_callback::{PrivateKey, Target};

/// A key, and the URL that its callbacks name it by. Nobody fetches it: the gateway is told the key.
pub struct Signer {
    key: PrivateKey,
}

/// The URL that the callbacks name their key by.
pub const KEY_URL: &str = "http://test.invalid/key.pem";

impl Signer {
    /// A signer with a new key of 512 bits, as OSS has.
    pub fn new() -> Self {
        Self { key: PrivateKey::generate(512).expect("there are keys of 512 bits") }
    }

    /// The public key.
    pub fn public_key_pem(&self) -> &str {
        self.key.public_key_pem()
    }

    /// The lines of a configuration that make a gateway trust the key.
    pub fn configuration(&self) -> String {
        format!("[[keys.trusted]]\nurl = \"{KEY_URL}\"\npem = '''\n{}'''\n", self.public_key_pem())
    }

    /// A whole request, for one connection.
    pub fn request(&self, target: &str, content_type: &str, body: &str) -> Vec<u8> {
        let parsed = Target::parse(target).expect("the test's target is one");
        let authorization = self.key.sign(&parsed, body.as_bytes());
        request(target, content_type, body, &authorization, Some(KEY_URL))
    }

    /// The request of an upload to the form route of the tests.
    pub fn upload(&self, target: &str, bucket: &str, object: &str, request_id: &str) -> Vec<u8> {
        self.request(target, FORM, &format!("bucket={bucket}&object={object}&size=1024&reqId={request_id}"))
    }
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}

/// The content type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// A callback request with the headers that OSS sends.
pub fn request(target: &str, content_type: &str, body: &str, authorization: &str, key_url: Option<&str>) -> Vec<u8> {
    let key_url = key_url.map(|url| format!("x-oss-pub-key-url: {}\r\n", STANDARD.encode(url))).unwrap_or_default();
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: oss.test\r\nConnection: close\r\nContent-Length: {length}\r\n\
         Content-Type: {content_type}\r\nUser-Agent: aliyun-oss-callback\r\nauthorization: {authorization}\r\n{key_url}\
         x-oss-bucket: headerbucket\r\nx-oss-request-id: 5CF3E7821AB22D0FDB86704D\r\nx-oss-signature-version: 1.0\r\n\
         x-oss-tag: CALLBACK\r\nx-oss-additional-headers: \r\n\r\n{body}"
    )
    .into_bytes()
}
