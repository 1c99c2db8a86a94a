//! What is shown to people at a terminal.

use std::borrow::Cow;

/// Makes text of strangers fit for a terminal: control characters, which could move the cursor or change colours,
/// are written as escapes.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(super::printable("a/ü \"x\".png"), "a/ü \"x\".png");
        assert_eq!(super::printable("a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
    }
}
