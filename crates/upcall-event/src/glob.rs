//! Patterns for objects' names and media types.

use std::fmt;
use std::str::FromStr;

/// A pattern for a whole text: `*` is any text without a slash, `**` any text, `**/` nothing or any text with a slash at
/// its end, `?` one character that is no slash, and everything else itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Within,
    /// `**`
    Across,
    /// What may be left out with the part behind it: always `Folders`.
    OptionalFolders,
    /// `**/` that is there.
    Folders,
}

/// Text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGlob {
    /// It is empty, and so is no object's name.
    #[error("a pattern is not empty; `**` is anything")]
    Empty,
    /// It is longer than any object's name.
    #[error("a pattern has at most {GLOB_BYTES_MAX} bytes")]
    TooLong,
}

/// The longest pattern. Objects' names have at most 1,023 bytes.
const GLOB_BYTES_MAX: usize = 1024;

impl Glob {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of a text is so. Takes time as the product of both lengths at most.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        // `reached[n]`: the first n parts match what was read so far.
        let mut reached = vec![false; self.parts.len() + 1];
        reached[0] = true;
        self.pass_empty(&mut reached);
        for c in text.chars() {
            let mut next = vec![false; reached.len()];
            for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match part {
                    Part::Literal(literal) => next[at + 1] |= *literal == c,
                    Part::One => next[at + 1] |= c != '/',
                    Part::Within => next[at] |= c != '/',
                    Part::Across => next[at] = true,
                    Part::OptionalFolders => {}
                    Part::Folders => {
                        next[at] = true;
                        next[at + 1] |= c == '/';
                    }
                }
            }
            self.pass_empty(&mut next);
            reached = next;
        }
        reached[self.parts.len()]
    }

    /// Goes past the parts that may stand for nothing.
    fn pass_empty(&self, reached: &mut [bool]) {
        for (at, part) in self.parts.iter().enumerate() {
            match part {
                Part::Within | Part::Across if reached[at] => reached[at + 1] = true,
                Part::OptionalFolders if reached[at] => (reached[at + 1], reached[at + 2]) = (true, true),
                _ => {}
            }
        }
    }
}

impl FromStr for Glob {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        if text.is_empty() {
            return Err(InvalidGlob::Empty);
        }
        if text.len() > GLOB_BYTES_MAX {
            return Err(InvalidGlob::TooLong);
        }
        let mut parts = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '?' => parts.push(Part::One),
                '*' if rest.peek() != Some(&'*') => parts.push(Part::Within),
                '*' => {
                    while rest.next_if_eq(&'*').is_some() {}
                    match rest.next_if_eq(&'/') {
                        Some(_) => parts.extend([Part::OptionalFolders, Part::Folders]),
                        None => parts.push(Part::Across),
                    }
                }
                c => parts.push(Part::Literal(c)),
            }
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by trying everything.
    fn naive(pattern: &str, text: &str) -> bool {
        let splits = || (0..=text.len()).filter(|at| text.is_char_boundary(*at));
        let behind = |from: &str, skip: char| from.strip_prefix(skip).map(str::to_owned);
        if pattern.is_empty() {
            return text.is_empty();
        }
        if let Some(rest) = pattern.strip_prefix("**") {
            let rest = rest.trim_start_matches('*');
            if let Some(rest) = rest.strip_prefix('/') {
                return naive(rest, text) || splits().any(|at| text[..at].ends_with('/') && naive(rest, &text[at..]));
            }
            return splits().any(|at| naive(rest, &text[at..]));
        }
        if let Some(rest) = pattern.strip_prefix('*') {
            return splits().any(|at| !text[..at].contains('/') && naive(rest, &text[at..]));
        }
        let (Some(wanted), Some(first)) = (pattern.chars().next(), text.chars().next()) else { return false };
        let fits = if wanted == '?' { first != '/' } else { wanted == first };
        fits && naive(&behind(pattern, wanted).unwrap_or_default(), &behind(text, first).unwrap_or_default())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_pattern_matches_what_trying_everything_finds(pattern in "[aü/*?]{1,8}", text in "[aü/]{0,7}") {
            let glob: Glob = pattern.parse().unwrap();
            prop_assert_eq!(glob.matches(&text), naive(&pattern, &text), "{} {}", pattern, text);
        }

        #[test]
        fn text_without_wildcards_matches_itself_alone(text in "[^*?]{1,20}", other in "[^*?]{1,20}") {
            let glob: Glob = text.parse().unwrap();
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
        }
    }

    #[test]
    fn patterns_mean_what_people_expect() {
        let matches = |pattern: &str, text: &str| pattern.parse::<Glob>().unwrap().matches(text);
        for text in ["images/a.jpg", "images/2026/01/a.jpg", "images/.jpg"] {
            assert!(matches("images/**/*.jpg", text), "{text}");
        }
        for text in ["images/a.png", "image/a.jpg", "images.jpg", "x/images/a.jpg", "images/a.jpg/b"] {
            assert!(!matches("images/**/*.jpg", text), "{text}");
        }
        assert!(
            matches("users/*/avatar.*", "users/42/avatar.png") && !matches("users/*/avatar.*", "users/4/2/avatar.png")
        );
        assert!(matches("image/*", "image/svg+xml") && matches("logs/**", "logs/a/b") && matches("**", ""));
        assert!("".parse::<Glob>().is_err() && "x".repeat(2000).parse::<Glob>().is_err());
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let glob: Glob = "*a".repeat(500).parse().unwrap();
        assert!(!glob.matches(&format!("{}b", "a".repeat(1000))));
    }
}
