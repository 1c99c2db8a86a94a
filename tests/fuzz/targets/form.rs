//! Bodies that came as a form, or as a form that was filled in as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upcall_callback::Body;

const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
const JSON: Option<&str> = Some("application/json");

fuzz_target!(|body: &[u8]| {
    if let Ok(parsed) = Body::parse_unverified(JSON, body) {
        assert_names_are_unique(&parsed);
        // Without a brace or an escape there is no other reading than a form's.
        assert!(!parsed.repairs.is_empty() || body.trim_ascii().first() == Some(&b'{') || body.trim_ascii().is_empty());
    }
    // Nobody signs the content type: it may refuse a body, and gives it no other meaning.
    if let (Ok(as_json), Ok(as_form)) = (Body::parse_unverified(JSON, body), Body::parse_unverified(FORM, body)) {
        assert_eq!(as_json.fields, as_form.fields);
    }
    let Ok(parsed) = Body::parse_unverified(FORM, body) else { return };
    assert_names_are_unique(&parsed);
    if !parsed.repairs.is_empty() || parsed.fields.iter().any(|(_, value)| !value.is_string()) {
        return;
    }
    let pairs = parsed.fields.iter().map(|(name, value)| {
        format!("{}={}", encode(name), encode(value.as_str().expect("a form has strings")))
    });
    let encoded = pairs.collect::<Vec<_>>().join("&");
    assert_eq!(Body::parse_unverified(FORM, encoded.as_bytes()).expect("it is encoded in full").fields, parsed.fields);
});

fn assert_names_are_unique(body: &Body<'_>) {
    let mut names: Vec<&str> = body.fields.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), body.fields.len());
    assert!(body.fields.iter().all(|(name, value)| body.field(name) == Some(value)));
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
