//! Tokens, subjects and filters from any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upcall_event::{
    InvalidSubject, SUBJECT_BYTES_MAX, Subject, SubjectFilter, SubjectTemplate, escape_token, unescape_token,
};

fuzz_target!(|text: &str| {
    let token = escape_token(text);
    assert_eq!(unescape_token(&token).as_deref(), Some(text));
    match token.parse::<Subject>() {
        Ok(subject) => assert!(!subject.as_str().contains('.')),
        Err(InvalidSubject::TooLong(_)) => assert!(token.len() > SUBJECT_BYTES_MAX),
        Err(InvalidSubject::Form(_)) => panic!("a token is a subject"),
    }
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
