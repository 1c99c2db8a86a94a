//! The URL that a callback names its public key by.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The only host that OSS serves callback keys on.
const HOST: &str = "gosspublic.alicdn.com";
/// The path of OSS's one key.
const V1_PATH: &str = "/callback_pub_key_v1.pem";
/// The longest URL that is looked at, in bytes; OSS's own has 56.
const LENGTH_MAX: usize = 256;

/// The URL of a key that may be used: on OSS's own host, or trusted by the operator to the letter.
///
/// Only one spelling of a URL is taken: lower case, no port, no userinfo, no escapes, query or dot segments. So no two
/// parsers can see different hosts in it, and no two spellings name one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyUrl {
    text: String,
    is_oss: bool,
}

/// Why a key URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyUrlError {
    /// The header is not Base64 of text.
    #[error("x-oss-pub-key-url is not Base64 of a URL")]
    Encoding,
    /// It is a URL, but not one of a key on OSS's host, or not spelt in the one way.
    #[error("the key's URL is not a plain http or https URL on {HOST}, nor one that is trusted here")]
    Forbidden,
}

impl KeyUrl {
    /// The URL of OSS's one key.
    pub const V1: &str = "https://gosspublic.alicdn.com/callback_pub_key_v1.pem";

    /// Takes a URL, if it is on OSS's host or `is_trusted`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(url: &str, is_trusted: impl Fn(&str) -> bool) -> Result<Self, KeyUrlError> {
        if is_trusted(url) {
            return Ok(Self { text: url.to_owned(), is_oss: false });
        }
        match path_on_oss_host(url) {
            Some(_) => Ok(Self { text: url.to_owned(), is_oss: true }),
            None => Err(KeyUrlError::Forbidden),
        }
    }

    /// Takes the value of the `x-oss-pub-key-url` header.
    ///
    /// # Errors
    /// If it is not Base64, or the URL is refused.
    pub fn from_header(value: &str, is_trusted: impl Fn(&str) -> bool) -> Result<Self, KeyUrlError> {
        if value.len() > LENGTH_MAX * 2 {
            return Err(KeyUrlError::Forbidden);
        }
        let bytes = STANDARD.decode(value.trim()).map_err(|_| KeyUrlError::Encoding)?;
        let url = str::from_utf8(&bytes).map_err(|_| KeyUrlError::Encoding)?;
        Self::parse(url, is_trusted)
    }

    /// The URL as it was named.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names OSS's one key, by http or https.
    #[must_use]
    pub fn is_v1(&self) -> bool {
        self.is_oss && path_on_oss_host(&self.text) == Some(V1_PATH)
    }

    /// Whether it is spelt as OSS would spell its next keys: `callback_pub_key_v2.pem` to `…_v9.pem`.
    #[must_use]
    pub fn is_successor(&self) -> bool {
        let path = path_on_oss_host(&self.text).filter(|_| self.is_oss);
        let version = path.and_then(|path| path.strip_prefix("/callback_pub_key_v")?.strip_suffix(".pem"));
        matches!(version.map(str::as_bytes), Some([b'2'..=b'9']))
    }

    /// What to fetch: always https, whatever the scheme that was named. `None` for a key that the operator trusts,
    /// which is at hand and never fetched.
    #[must_use]
    pub fn to_fetch(&self) -> Option<String> {
        let path = path_on_oss_host(&self.text).filter(|_| self.is_oss)?;
        Some(format!("https://{HOST}{path}"))
    }
}

impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The path, if the URL is a plain one on OSS's host.
fn path_on_oss_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let path = rest.strip_prefix(HOST)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let segments_are_plain = path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
    (url.len() <= LENGTH_MAX && path.starts_with('/') && path.bytes().all(plain) && segments_are_plain).then_some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> Result<KeyUrl, KeyUrlError> {
        KeyUrl::parse(url, |_| false)
    }

    #[test]
    fn oss_own_urls_are_taken_and_fetched_over_https() {
        for url in [KeyUrl::V1, "http://gosspublic.alicdn.com/callback_pub_key_v1.pem"] {
            let url = parse(url).unwrap();
            assert!(url.is_v1());
            assert_eq!(url.to_fetch().as_deref(), Some(KeyUrl::V1));
        }
        let other = parse("http://gosspublic.alicdn.com/callback_pub_key_v2.pem").unwrap();
        assert!(!other.is_v1());
        assert_eq!(other.to_fetch().unwrap(), "https://gosspublic.alicdn.com/callback_pub_key_v2.pem");
    }

    #[test]
    fn the_usual_tricks_are_refused() {
        for url in [
            "",
            "gosspublic.alicdn.com/k.pem",
            "//gosspublic.alicdn.com/k.pem",
            "ftp://gosspublic.alicdn.com/k.pem",
            "file:///gosspublic.alicdn.com/k.pem",
            "https:/gosspublic.alicdn.com/k.pem",
            "https:\\\\gosspublic.alicdn.com\\k.pem",
            "https://gosspublic.alicdn.com",
            "https://gosspublic.alicdn.com/",
            "https://evil.example/k.pem",
            "https://evil.example/gosspublic.alicdn.com/k.pem",
            "https://evil.example/?https://gosspublic.alicdn.com/k.pem",
            "https://evil.example#https://gosspublic.alicdn.com/k.pem",
            "https://gosspublic.alicdn.com@evil.example/k.pem",
            "https://gosspublic.alicdn.com:pw@evil.example/k.pem",
            "https://user@gosspublic.alicdn.com/k.pem",
            "https://user:pw@gosspublic.alicdn.com/k.pem",
            "https://gosspublic.alicdn.com.evil.example/k.pem",
            "https://evil.gosspublic.alicdn.com/k.pem",
            "https://evilgosspublic.alicdn.com/k.pem",
            "https://gosspublic.alicdn.com./k.pem",
            "https://gosspublic.alicdn.com:8443/k.pem",
            "https://gosspublic.alicdn.com:443/k.pem",
            "https://gosspublic.alicdn.com:/k.pem",
            "https://GOSSPUBLIC.ALICDN.COM/k.pem",
            "HTTPS://gosspublic.alicdn.com/k.pem",
            "https://gosspublic%2Ealicdn%2Ecom/k.pem",
            "https://gosspublic%252Ealicdn.com/k.pem",
            "https://gosspublic。alicdn。com/k.pem",
            "https://gosspublic.alıcdn.com/k.pem",
            "https://xn--gosspublic-.alicdn.com/k.pem",
            "https://gosspublic.alicdn.com\\@evil.example/k.pem",
            "https://gosspublic.alicdn.com\\.evil.example/k.pem",
            "https://evil.example\\@gosspublic.alicdn.com/k.pem",
            "https://gosspublic.alicdn.com/../k.pem",
            "https://gosspublic.alicdn.com/a/./k.pem",
            "https://gosspublic.alicdn.com//k.pem",
            "https://gosspublic.alicdn.com/%2e%2e/k.pem",
            "https://gosspublic.alicdn.com/k.pem?x=1",
            "https://gosspublic.alicdn.com/k.pem#x",
            "https://gosspublic.alicdn.com/k.pem ",
            " https://gosspublic.alicdn.com/k.pem",
            "https://gosspublic.alicdn.com/k.pem\n",
            "https://gosspublic.alicdn.com\t/k.pem",
            "https://gosspublic.alicdn.com\0/k.pem",
            "https://[gosspublic.alicdn.com]/k.pem",
            "https://gosspublic.alicdn.com/@evil.example/k.pem",
        ] {
            assert_eq!(parse(url), Err(KeyUrlError::Forbidden), "{url:?}");
            assert!(KeyUrl::from_header(&STANDARD.encode(url), |_| false).is_err(), "{url:?}");
        }
        let twice = STANDARD.encode(STANDARD.encode(KeyUrl::V1));
        assert_eq!(KeyUrl::from_header(&twice, |_| false), Err(KeyUrlError::Forbidden));
        assert_eq!(KeyUrl::from_header("%%%", |_| false), Err(KeyUrlError::Encoding));
    }

    #[test]
    fn a_trusted_url_is_taken_to_the_letter_and_never_fetched() {
        let trusted = "http://127.0.0.1:9000/callback_pub_key.pem";
        let url = KeyUrl::parse(trusted, |url| url == trusted).unwrap();
        assert_eq!((url.as_str(), url.to_fetch(), url.is_v1()), (trusted, None, false));
        assert!(KeyUrl::parse("http://127.0.0.1:9000/callback_pub_key.pem?", |url| url == trusted).is_err());
    }

    proptest! {
        /// Puts URLs together from right and wrong parts: taken if and only if every part is right.
        #[test]
        fn only_the_canonical_spelling_is_taken(
            scheme in prop::sample::select(vec!["https://", "http://", "HTTPS://", "https:/", "https:\\\\", "//", "ftp://", "http://x@", "https:///"]),
            host in prop::sample::select(vec![HOST, HOST, HOST, "Gosspublic.alicdn.com", "gosspublic.alicdn.com.", "gosspublic%2ealicdn.com", "evil.gosspublic.alicdn.com", "gosspublic.alicdn.co", "127.0.0.1"]),
            port in prop::sample::select(vec!["", "", "", ":443", ":80", ":", ".", "@evil.example", "\\", "\t"]),
            path in "(/[a-z_.]{1,4}){0,3}",
            rest in prop::sample::select(vec!["", "", "", "?", "?x=1", "#", "#x", "%2e", " ", "\n", ";x", "@", "\\", "//"]),
        ) {
            let url = format!("{scheme}{host}{port}{path}{rest}");
            let dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
            let right = matches!(scheme, "https://" | "http://") && host == HOST && port.is_empty()
                && rest.is_empty() && !path.is_empty() && !dots;
            prop_assert_eq!(parse(&url).is_ok(), right, "{:?}", url);
        }

        /// Mutates the good URL at one place: only the path's name may differ.
        #[test]
        fn a_changed_host_is_another_host(at in 0..28_usize, with in any::<char>()) {
            let good: Vec<char> = KeyUrl::V1.chars().collect();
            let mut changed = good.clone();
            changed[at] = with;
            let url: String = changed.iter().collect();
            prop_assert_eq!(parse(&url).is_ok(), changed == good, "{}", url);
        }
    }
}
