//! Where in the file a key stands, for whoever has to mend it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line, from 1, on which a key such as `consumer[1].sql.url` stands, or the innermost table around it that is in
/// the file. `None` where not even its first part is.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut found) = (document.get_ref(), None);
    for step in path.split('.') {
        let (key, places) = step.split_once('[').unwrap_or((step, ""));
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else { break };
        found = Some(name.span().start);
        let mut value: &Spanned<DeValue<'_>> = value;
        for place in places.split('[').filter_map(|place| place.strip_suffix(']')?.parse::<usize>().ok()) {
            let DeValue::Array(items) = value.get_ref() else { break };
            let Some(item) = items.get(place) else { break };
            (value, found) = (item, Some(item.span().start));
        }
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    let before = text.get(..found?)?;
    Some(before.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn a_key_is_found_on_its_line_or_in_the_table_around_it() {
        let text = "[gateway]\nlisten = \"x\"\n\n[[consumer]]\nname = \"a\"\n[[consumer]]\nname = \"b\"\n\
                    [consumer.sql]\nurl = \"u\"\n[consumer.webhook]\nsecrets = [\n  \"one\",\n  \"two\"]\n";
        for (path, line) in [
            ("gateway.listen", Some(2)),
            ("gateway.admin", Some(1)),
            ("consumer[0].name", Some(5)),
            ("consumer[0].sql", Some(4)),
            ("consumer[1]", Some(6)),
            ("consumer[1].sql.url", Some(9)),
            ("consumer[1].webhook.secrets[1]", Some(13)),
            ("consumer[7].name", Some(4)),
            ("bus.nats", None),
        ] {
            assert_eq!(line_of(text, path), line, "{path}");
        }
        assert_eq!(line_of("no toml", "gateway"), None);
    }
}
