//! Tokens, subjects and filters from any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upcall_event::{Subject, SubjectFilter, SubjectTemplate, escape_token, unescape_token};

fuzz_target!(|text: &str| {
    let token = escape_token(text);
    assert_eq!(unescape_token(&token).as_deref(), Some(text));
    let subject: Subject = token.parse().expect("a token is a subject");
    assert!(!subject.as_str().contains('.'));
    if let Some(unescaped) = unescape_token(text) {
        assert_eq!(escape_token(&unescaped), text);
    }
    if let Ok(subject) = text.parse::<Subject>() {
        let filter: SubjectFilter = text.parse().expect("every subject is a filter");
        assert!(filter.matches(&subject));
    }
    if let Ok(template) = text.parse::<SubjectTemplate>() {
        assert!(!template.prefix().is_empty());
    }
});
