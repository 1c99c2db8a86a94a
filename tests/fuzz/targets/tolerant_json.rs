//! JSON bodies: what is valid means what `serde_json` says, and what is repaired is said to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use upcall_callback::{Body, BodyError};

const JSON: Option<&str> = Some("application/json");

fuzz_target!(|body: &[u8]| {
    let parsed = Body::parse_unverified(JSON, body);
    match (serde_json::from_slice::<Map<String, Value>>(body), parsed) {
        (Ok(valid), Ok(parsed)) => {
            assert_eq!(parsed.repairs, []);
            assert_eq!(parsed.fields.into_iter().collect::<Value>(), Value::Object(valid));
        }
        (Ok(_), Err(BodyError::Unreadable { defect })) => assert!(defect.contains("nested"), "{defect}"),
        (Ok(_), Err(_)) => {}
        (Err(_), Ok(parsed)) if body.trim_ascii().is_empty() => assert_eq!(parsed.fields, []),
        (Err(_), Ok(parsed)) => {
            // What white space is around a body is not looked at.
            let is_json = serde_json::from_slice::<Map<String, Value>>(body.trim_ascii()).is_ok();
            assert!(is_json || !parsed.repairs.is_empty());
            // A repaired body, written down, needs no repair.
            let count = parsed.fields.len();
            let written = parsed.fields.into_iter().collect::<Value>().to_string();
            let again = Body::parse_unverified(JSON, written.as_bytes()).expect("it is valid now");
            assert_eq!(again.repairs, []);
            assert_eq!(again.fields.len(), count);
        }
        (Err(_), Err(_)) => {}
    }
});
