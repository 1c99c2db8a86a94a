//! Callback parameters and variables from any text, and the bodies they make.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use upcall_callback::{
    AnswerHead, CallbackParameter, CallbackUrl, CallbackVars, PARAMETER_BYTES_MAX, ParameterError, UploadFacts,
    check_answer, render_body,
};

fuzz_target!(|text: &str| {
    check(text);
    check(&STANDARD.encode(text));
    let whole = json!({"callbackUrl": "example.com", "callbackHost": "h", "callbackBody": "a=${object}"});
    for field in ["callbackUrl", "callbackHost", "callbackBody", "callbackBodyType"] {
        let mut object = whole.clone();
        object[field] = text.into();
        check(&STANDARD.encode(object.to_string()));
    }
    if let Ok(url) = CallbackUrl::parse(text) {
        assert_eq!(url.as_str(), text);
        assert!(url.target().starts_with('/') && url.authority().starts_with(url.host()) && url.port() != 0);
        assert!(!url.host().contains(['@', ':', '/', '\\', '?', '#', ' ']));
    }
    let vars = CallbackVars([("x:text".to_owned(), text.to_owned())].into());
    let encoded = vars.to_base64();
    if encoded.len() <= PARAMETER_BYTES_MAX {
        assert_eq!(CallbackVars::from_base64(&encoded), Ok(vars));
    }
    let _ = CallbackVars::from_base64(&STANDARD.encode(text));
    let _ = check_answer(AnswerHead { status: 200, content_length: Some(text) }, text.as_bytes());
});

fn check(encoded: &str) {
    let Ok(parameter) = CallbackParameter::from_base64(encoded) else { return };
    match CallbackParameter::from_base64(&parameter.to_base64()) {
        Ok(again) => assert_eq!(again, parameter),
        // What was written short may be long when every field is spelt out.
        Err(error) => assert_eq!(error, ParameterError::TooLong),
    }
    let facts = UploadFacts { object: encoded.to_owned(), ..UploadFacts::default() };
    let body = render_body(&parameter, &facts, &CallbackVars::default());
    assert!(body.is_ascii() || !parameter.body.is_ascii());
}
