//! What is shown to people at a terminal, and asked of them.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

/// Whether somebody can be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks, and tells whether the answer was yes.
pub(crate) fn asked(question: &str) -> anyhow::Result<bool> {
    let mut err = std::io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Makes text of strangers fit for a terminal: control characters, which could move the cursor or change colours, and
/// those that change the direction of text are written as escapes.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_unfit = |character: char| {
        character.is_control()
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unfit(character) {
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
        assert_eq!(super::printable("a\u{9b}b\u{202e}c\u{7f}"), "a\\u{9b}b\\u{202e}c\\u{7f}");
    }
}
