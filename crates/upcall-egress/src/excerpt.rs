//! A short piece of what somebody else wrote, fit for a log or a dead letter.

/// The beginning of a text as one line of at most so many characters, without control and invisible characters.
#[must_use]
pub fn excerpt(text: &[u8], chars_max: usize) -> String {
    // Four bytes are the most that a character takes; what is not printed counts as well.
    let enough = text.len().min(chars_max.saturating_mul(8));
    let text = String::from_utf8_lossy(&text[..enough]);
    let visible: String = text.chars().map(|char| if is_invisible(char) { ' ' } else { char }).collect();
    let mut line = String::new();
    let mut left = chars_max;
    for word in visible.split_whitespace() {
        let word_chars = word.chars().count() + usize::from(!line.is_empty());
        if word_chars > left {
            line.extend((!line.is_empty() && left > 0).then_some(' '));
            line.extend(word.chars().take(left.saturating_sub(1)));
            line.push('…');
            return line;
        }
        line.extend((!line.is_empty()).then_some(' '));
        line.push_str(word);
        left -= word_chars;
    }
    line
}

/// Whether a character moves the cursor, turns the direction of writing, or takes no room.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_excerpt_is_one_short_visible_line(text in any::<Vec<u8>>(), chars_max in 1_usize..100) {
            let line = excerpt(&text, chars_max);
            prop_assert!(line.chars().count() <= chars_max + 1, "{line:?}");
            prop_assert!(!line.chars().any(is_invisible), "{line:?}");
        }
    }

    #[test]
    fn what_is_short_and_plain_stays_as_it_is() {
        assert_eq!(excerpt(b"no such tenant", 100), "no such tenant");
        assert_eq!(excerpt(b"  <html>\r\n\t<b>no</b>\x1b[31m \xff", 100), "<html> <b>no</b> [31m \u{fffd}");
        assert_eq!(excerpt("zu lang für das".as_bytes(), 10), "zu lang fü…");
        assert_eq!(excerpt(b"", 10), "");
    }
}
