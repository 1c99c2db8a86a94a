//! Text in Markdown, with every mark escaped.

use crate::notice::{Line, Notice, more};

/// How a service takes a `<` that begins no tag.
#[derive(Debug, Clone, Copy)]
pub(super) enum LessThan {
    /// With a backslash.
    Escaped,
    /// As an entity: a renderer that knows tags, and perhaps no escapes, finds none.
    Entity,
}

/// The notice's lines. Labels are bold; nothing else is marked.
pub(super) fn lines(notice: &Notice, between: &str, less_than: LessThan) -> String {
    let escaped = |line: &str| escaped(line, less_than);
    let lines = notice.lines.iter().flat_map(|line| match line {
        Line::Text(text) => text.plain().lines().map(&escaped).collect(),
        Line::Fact { label, value } => vec![format!("**{}:** {}", escaped(&label.line()), escaped(&value.line()))],
        Line::Item(item) => vec![format!("• {}", escaped(&item.line()))],
        Line::More(count) => vec![more(*count)],
    });
    lines.collect::<Vec<_>>().join(between)
}

/// One line in which nothing is a mark.
///
/// Where a renderer should not know escapes, backslashes show, and still neither a link nor an image comes about: no two
/// of their marks touch any more.
pub(super) fn escaped(line: &str, less_than: LessThan) -> String {
    let line = line.trim();
    let mut escaped = String::with_capacity(line.len());
    let mut before = None;
    let mut after = line.chars().skip(1);
    let mut is_number = true;
    for char in line.chars() {
        let next = after.next();
        let is_word = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
        match char {
            '<' => escaped.push_str(match less_than {
                LessThan::Escaped => "\\<",
                LessThan::Entity => "&lt;",
            }),
            // In the midst of a word it is no mark, and names of files are full of it.
            '_' if is_word(before) && is_word(next) => escaped.push('_'),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '!' | '|' | '~' | '>' | '&' | '@' | '#' => {
                escaped.push('\\');
                escaped.push(char);
            }
            // A list, or a line across the page.
            '-' | '+' | '=' | ':' if before.is_none() => {
                escaped.push('\\');
                escaped.push(char);
            }
            // A numbered list.
            '.' if is_number && next.is_none_or(char::is_whitespace) => escaped.push_str("\\."),
            other => escaped.push(other),
        }
        is_number &= char.is_ascii_digit();
        before = Some(char);
    }
    escaped
}
