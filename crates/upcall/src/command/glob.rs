//! Patterns for objects' names.

use std::convert::Infallible;
use std::str::FromStr;

/// A pattern: `*` is any text, `?` one character, everything else itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(String);

impl Glob {
    /// The pattern as it was typed.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether the whole of a text is so. Takes no longer than the product of both lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut p, mut t) = (0, 0);
        // Where to go on if what follows the last `*` turns out not to fit.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
                _ => match &mut star {
                    Some((at, from)) => {
                        *from += 1;
                        (p, t) = (*at + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}

impl FromStr for Glob {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let matches = |pattern: &str, text: &str| Glob(pattern.to_owned()).matches(text);
        for (pattern, text) in [
            ("a/*.png", "a/b/c.png"),
            ("*", ""),
            ("**a", "aa"),
            ("?ü", "aü"),
            ("*a*b", "xaaxab"),
            ("", ""),
            ("a*", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a/*.png", "a/b.jpg"), ("a", "ab"), ("?", ""), ("?", "ab"), ("*a*b", "xba"), ("", "a"), ("a?", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
