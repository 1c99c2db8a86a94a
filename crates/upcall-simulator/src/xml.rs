//! XML, as little of it as OSS needs.

use std::fmt::Write as _;

/// Writes one document.
pub(crate) struct Xml(String);

impl Xml {
    /// Starts a document.
    pub(crate) fn new() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    /// Writes an element with what `content` writes in it.
    pub(crate) fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) -> &mut Self {
        let _ = write!(self.0, "<{name}>");
        content(self);
        let _ = write!(self.0, "</{name}>");
        self
    }

    /// Writes an element with text.
    pub(crate) fn text(&mut self, name: &str, text: impl std::fmt::Display) -> &mut Self {
        self.element(name, |xml| xml.escape(&text.to_string()))
    }

    /// Ends the document.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn escape(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                // Control characters have no place in XML 1.0; clients that use such keys ask for `encoding-type=url`.
                character if character.is_control() => {
                    let _ = write!(self.0, "&#{};", u32::from(character));
                }
                character => self.0.push(character),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let mut xml = Xml::new();
        xml.element("a", |xml| {
            xml.text("b", "<c>&\"");
        });
        let document = xml.finish();
        let tree = roxmltree::Document::parse(&document).unwrap();
        assert_eq!(tree.root_element().first_element_child().unwrap().text(), Some("<c>&\""));
    }
}
