//! An error in words, for one log line.

use std::error::Error;

/// Writes an error and what is underneath it on one line: `outer: inner: innermost`. Some libraries end an error's own
/// text with its cause, which is not written once more.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::error_chain;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn a_cause_is_written_once() {
        let inner = Layer { text: "refused", source: None };
        let middle = Layer { text: "request error: refused", source: Some(Box::new(inner)) };
        let outer = Layer { text: "the bus did not do it", source: Some(Box::new(middle)) };
        assert_eq!(error_chain(&outer), "the bus did not do it: request error: refused");
    }
}
