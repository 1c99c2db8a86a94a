//! What every application of these tests does, whatever it speaks.

use serde_json::json;

/// An application whose service computes answers. What it does, the object's name says: see [`said`].
pub(super) trait Application {
    /// The lines of a configuration that name the bus, beside the journal.
    fn bus(&self) -> String;

    /// The table of a route's `response` that asks the service; keys may follow.
    fn response(&self) -> String;

    /// Has nobody answer any more.
    fn stop(&mut self);

    /// Has the service answer again, where it answered before.
    fn start_again(&mut self);
}

/// What a service says.
pub(super) enum Said {
    /// An answer, right or wrong.
    Answer(String),
    /// A veto, and why.
    No(&'static str),
    /// Nothing, for as long as it is waited for.
    Nothing,
}

/// The objects whose names begin so get no answer that OSS would relay.
pub(super) const WRONG: [&str; 4] = ["slow", "broken", "large", "empty"];

/// What a service says about an object.
pub(super) fn said(object: &str, event: &str) -> Said {
    match object.split('-').next() {
        Some("forbidden") => Said::No("quota used up"),
        Some("slow") => Said::Nothing,
        Some("broken") => Said::Answer("{\"url\":".to_owned()),
        Some("large") => Said::Answer(json!({ "url": "x".repeat(2 << 20) }).to_string()),
        Some("empty") => Said::Answer(String::new()),
        _ => Said::Answer(json!({ "url": format!("https://cdn/{object}"), "id": event }).to_string()),
    }
}
