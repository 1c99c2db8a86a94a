//! Text of strangers, made fit for a terminal and for a log.

use std::borrow::Cow;

/// Makes text of strangers fit for a line: control characters, which could move the cursor or change colours, and those
/// that change the direction of text are written as escapes.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_unfit, |character, safe| safe.extend(character.escape_default()))
}

/// The same for text of several lines, such as a message that quotes what a server said.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_unfit(c), |character, safe| safe.extend(character.escape_default()))
}

/// The same for JSON, which stays the same JSON. White space between its values stays, too.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    // What is below is no text: JSON escapes it there.
    let is_unfit = |character| character >= '\u{7f}' && is_unfit(character);
    escaped(json, is_unfit, |character, safe| safe.push_str(&format!("\\u{:04x}", u32::from(character))))
}

/// All of them are of the basic plane, which JSON's short escapes are for.
fn is_unfit(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped<'t>(text: &'t str, is_unfit: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'t, str> {
    if !text.contains(&is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unfit(character) {
            escape(character, &mut safe);
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a/ü \"x\".png"), "a/ü \"x\".png");
        assert_eq!(printable("a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(printable("a\u{9b}b\u{202e}c\u{7f}"), "a\\u{9b}b\\u{202e}c\\u{7f}");
        assert_eq!(printable_lines("a\x1b\r\nb\u{2066}"), "a\\u{1b}\\r\nb\\u{2066}");
    }

    #[test]
    fn json_stays_the_same_json_and_cannot_steer_the_terminal() {
        for character in '\0'..='\u{ffff}' {
            let value = serde_json::json!({ format!("a{character}"): [character.to_string(), "\\u{1}\"🦀"] });
            for json in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let safe = printable_json(&json);
                assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
                assert!(!safe.contains(|c| c != '\n' && is_unfit(c)), "{safe:?}");
            }
        }
    }
}
