//! Key URLs: what is taken means the same to the parser of the HTTP client that fetches it.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use upcall_callback::{KeyUrl, PublicKey};
use url::Url;

fuzz_target!(|text: &str| {
    check(text);
    check(&format!("https://gosspublic.alicdn.com{text}"));
    check(&format!("http://gosspublic.alicdn.com/{text}"));
    check(&format!("https://{text}gosspublic.alicdn.com/k.pem"));
    check(&format!("http{text}://gosspublic.alicdn.com/k.pem"));
    let _ = KeyUrl::from_header(text, |_| false);
    let _ = PublicKey::from_pem(text);
});

fn check(text: &str) {
    let parsed = KeyUrl::parse(text, |_| false);
    assert_eq!(KeyUrl::from_header(&STANDARD.encode(text), |_| false), parsed);
    let Ok(key_url) = parsed else { return };
    assert_eq!(key_url.as_str(), text);
    let fetched = key_url.to_fetch().expect("nothing is trusted beside OSS");
    for text in [text, &fetched] {
        let url = Url::parse(text).expect("it is a URL");
        assert_eq!(url.as_str(), text, "there is one spelling");
        assert_eq!(url.host_str(), Some("gosspublic.alicdn.com"));
        assert!(matches!(url.scheme(), "http" | "https") && url.port().is_none() && url.username().is_empty());
        assert!(url.password().is_none() && url.query().is_none() && url.fragment().is_none());
    }
    assert!(fetched.starts_with("https://"));
}
