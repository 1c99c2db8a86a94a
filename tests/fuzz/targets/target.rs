//! Request targets from any text, and a whole callback to each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upcall_callback::{CallbackRequest, PublicKey, Target};

fuzz_target!(|text: &str| {
    let Ok(target) = Target::parse(text) else { return };
    assert_eq!(target.raw(), text);
    assert!(target.path().starts_with('/') && !target.path().contains(['?', '\r', '\n']));
    assert!(target.query().is_none_or(|query| text.ends_with(query) && !query.contains(['\r', '\n'])));
    let request = CallbackRequest {
        target: &target,
        body: text.as_bytes(),
        authorization: Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="),
        pub_key_url: None,
        content_type: None,
        bucket: None,
        request_id: None,
    };
    let unverified = request.parse(|_| false).expect("the headers are in order");
    assert!(unverified.verify(PublicKey::v1()).is_err());
    let request = CallbackRequest { authorization: Some(text), pub_key_url: Some(text), ..request };
    assert!(request.parse(|_| false).is_err(), "no text is a signature and a key's URL at once");
});
