//! The last of what a program says.

/// The most bytes of a program's standard error that are kept: its last ones, which say why it gave up.
const TAIL_BYTES: usize = 1000;

/// Keeps the end of a text of any length.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(crate) fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        if let Some(excess) = self.bytes.len().checked_sub(TAIL_BYTES).filter(|excess| *excess > 0) {
            self.bytes.drain(..excess);
            self.cut = true;
        }
    }

    /// The end as one line that is safe to show on a terminal.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let line: String = text.chars().map(|c| if is_shown(c) { c } else { ' ' }).collect();
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        // The first character may be half of one.
        let words = words.trim_start_matches(if self.cut { '\u{FFFD}' } else { '\0' });
        if self.cut { format!("…{words}") } else { words.to_owned() }
    }
}

/// Whether a character is itself and not an order to the terminal, such as one that turns the text around.
fn is_shown(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_text_is_kept_as_one_safe_line() {
        let mut tail = Tail::default();
        tail.push(b"first\n\x1b[31msecond\x07\r\n");
        assert_eq!(tail.text(), "first [31msecond");
        (0..10_000).for_each(|_| tail.push("é".as_bytes()));
        tail.push(b" the end\n");
        let text = tail.text();
        assert!(text.starts_with("…é") && text.ends_with("é the end") && text.len() <= TAIL_BYTES + 3, "{text}");
    }
}
