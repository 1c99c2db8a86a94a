//! Where a message leads to.

use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use upcall_event::{Event, InvalidTemplate, Part, Template};

/// What stays as it is in a URL: RFC 3986's unreserved characters, and the slash, which keys are made of.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A URL with `${…}` behind its host. Values are percent-encoded, but for the slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTemplate(Template);

/// Text that is no template of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLink {
    /// It is no template.
    #[error(transparent)]
    Template(#[from] InvalidTemplate),
    /// A value could choose the host, or it is no URL of the web.
    #[error(
        "begins with `https://` or `http://`, a host and a slash, written out: no value may choose where people are led"
    )]
    Host,
    /// It holds what no URL holds.
    #[error("holds a space, a quote, a bracket or another character that URLs have only percent-encoded")]
    Characters,
}

impl LinkTemplate {
    /// The link, unless a value would lead it elsewhere: a key may hold `..` between slashes.
    pub(crate) fn fill(&self, event: &Event) -> Option<String> {
        let mut url = String::new();
        for part in self.0.parts() {
            match part {
                Part::Literal(literal) => url.push_str(literal),
                Part::Field(field) => {
                    let value = match field.value(event) {
                        serde_json::Value::Null => String::new(),
                        serde_json::Value::String(text) => text,
                        other => other.to_string(),
                    };
                    url.extend(utf8_percent_encode(&value, ENCODED));
                }
            }
        }
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let turns_back = path.split('/').any(|segment| matches!(segment, "." | ".."));
        (!turns_back).then_some(url)
    }
}

impl FromStr for LinkTemplate {
    type Err = InvalidLink;

    fn from_str(text: &str) -> Result<Self, InvalidLink> {
        let template: Template = text.parse()?;
        let Some(Part::Literal(begin)) = template.parts().first() else { return Err(InvalidLink::Host) };
        let rest = begin.strip_prefix("https://").or_else(|| begin.strip_prefix("http://")).ok_or(InvalidLink::Host)?;
        let (host, _) = rest.split_once('/').ok_or(InvalidLink::Host)?;
        let is_host = |char: char| char.is_ascii_alphanumeric() || "-._:[]".contains(char);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(InvalidLink::Host);
        }
        let is_plain = |char: char| char.is_ascii_graphic() && !"\"'<>()[]{}|\\^`*".contains(char);
        let literals = template.parts().iter().skip(1).filter_map(|part| match part {
            Part::Literal(literal) => Some(literal.as_str()),
            Part::Field(_) => None,
        });
        let behind_host = rest.get(host.len()..).unwrap_or_default();
        if !literals.chain([behind_host]).all(|literal| literal.chars().all(is_plain)) {
            return Err(InvalidLink::Characters);
        }
        Ok(Self(template))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::event;

    #[test]
    fn a_link_leads_to_the_host_that_was_written_and_nowhere_else() {
        let link: LinkTemplate = "https://cdn.example.com/${object}?v=${etag}".parse().unwrap();
        let filled = |object: &str| link.fill(&event(object));
        assert_eq!(
            filled("a b/ü)\"<>?x#y").as_deref(),
            Some("https://cdn.example.com/a%20b/%C3%BC%29%22%3C%3E%3Fx%23y?v=D8E8FCA2DC0F896FD7CB4CB0031BA249")
        );
        assert_eq!(filled("a/../../login"), None);
        assert_eq!(filled("a..b").map(|url| url.contains("a..b")), Some(true));
        for wrong in [
            "${object}",
            "https://${bucket}/x",
            "https://a.example.com${object}",
            "javascript:alert(1)",
            "https:///x",
            "/x",
            "https://u@h/",
        ] {
            assert_eq!(wrong.parse::<LinkTemplate>(), Err(InvalidLink::Host), "{wrong}");
        }
        assert_eq!("https://h/a b".parse::<LinkTemplate>(), Err(InvalidLink::Characters));
        assert!(matches!("https://h/${objekt}".parse::<LinkTemplate>(), Err(InvalidLink::Template(_))));
    }
}
