//! Templates from any text, filled in with an event that holds the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upcall_event::{Event, EventId, Template};

fuzz_target!(|text: &str| {
    let Ok(template) = text.parse::<Template>() else { return };
    let event = example(text);
    let value = template.fill(&event);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&serde_json::to_vec(&value).unwrap()).unwrap(), value);
    assert_eq!(Event::from_structured(&event.to_structured()).unwrap(), event);
});

fn example(text: &str) -> Event {
    let data = serde_json::json!({
        "bucket": text, "object": text, "size": text.len(), "vars": {"user": text}, "extra": {"x": [text]},
        "route": "fuzz", "bucket_from": "body", "proof": ["signature"], "origin": "callback",
    });
    let data = serde_json::from_value(data).expect("the event's fields may be absent");
    Event { id: EventId::from_request(text, text, text), time: "2026-01-01T00:00:00Z".parse().unwrap(), data, trace: None }
}
