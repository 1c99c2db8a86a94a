//! What a configuration was read from, to find out what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::file::{can_be_read_again, read};

/// What a configuration was read from: its file with the environment over it, and the files that it names. Their contents
/// are known by a digest only, since they may be secret.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    file: PathBuf,
    document: Table,
    named: Vec<NamedFile>,
}

/// A file that a key names, and whose content matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFile {
    key: String,
    file: PathBuf,
    digest: u64,
}

/// What differs between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The keys, such as `gateway.listen`, outside of routes and consumers.
    pub(crate) keys: Vec<String>,
    /// The keys outside of routes and consumers whose files have other content than before.
    pub(crate) contents: Vec<String>,
    /// Whether a route is another one than before.
    pub(crate) routes: bool,
    /// The consumers, by name, that are new, gone, or others than before.
    pub(crate) consumers: BTreeSet<String>,
}

/// A table of the document, and the digests of the files that its keys name.
type Part<'s> = (&'s Value, Vec<(&'s str, u64)>);

impl NamedFile {
    /// Takes note of what is in a file now.
    pub(super) fn look_at(key: String, file: &Path) -> Self {
        Self { key, file: file.to_owned(), digest: digest_of(file) }
    }
}

impl Sources {
    pub(super) fn new(file: &Path, document: Table, named: Vec<NamedFile>) -> Self {
        Self { file: file.to_owned(), document, named }
    }

    /// A digest of what is in all of the files now. Reads them.
    pub(crate) fn digest_now(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let files: BTreeSet<&Path> = self.named.iter().map(|named| named.file.as_path()).collect();
        for file in std::iter::once(self.file.as_path()).chain(files) {
            digest_of(file).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What is otherwise in `new`.
    pub(crate) fn changes(&self, new: &Self) -> Changes {
        let mut keys = Vec::new();
        differences("", &self.document, &new.document, &mut keys);
        let (before, after) = (self.files_outside(), new.files_outside());
        let named = before.iter().filter(|(key, digest)| after.get(*key).is_some_and(|now| now != *digest));
        let contents = named.map(|(key, _)| (*key).to_owned()).collect();
        let (before, after) = (self.consumers(), new.consumers());
        let names = before.keys().chain(after.keys());
        let consumers = names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
        Changes { keys, contents, routes: self.part("route") != new.part("route"), consumers }
    }

    /// The files that are named outside of routes and consumers.
    fn files_outside(&self) -> BTreeMap<&str, u64> {
        let is_outside = |named: &&NamedFile| !["route[", "consumer["].iter().any(|part| named.key.starts_with(part));
        self.named.iter().filter(is_outside).map(|named| (named.key.as_str(), named.digest)).collect()
    }

    /// An array of tables, with what is in the files that it names.
    fn part(&self, key: &str) -> (Option<&Value>, Vec<&NamedFile>) {
        let place = format!("{key}[");
        (self.document.get(key), self.named.iter().filter(|named| named.key.starts_with(&place)).collect())
    }

    /// Each consumer, with what is in the files that it names, wherever it stands in the array.
    fn consumers(&self) -> BTreeMap<String, Part<'_>> {
        let consumers = self.document.get("consumer").and_then(Value::as_array).into_iter().flatten().enumerate();
        let of = |(at, consumer): (usize, _)| {
            let consumer: &Value = consumer;
            let name = consumer.get("name").and_then(Value::as_str)?.to_owned();
            let place = format!("consumer[{at}].");
            let named = self.named.iter().filter_map(|named| Some((named.key.strip_prefix(&place)?, named.digest)));
            Some((name, (consumer, named.collect())))
        };
        consumers.filter_map(of).collect()
    }
}

impl fmt::Debug for Sources {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The keys that have other values, or are in one of the tables only, but for routes and consumers.
fn differences(path: &str, one: &Table, other: &Table, found: &mut Vec<String>) {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for key in keys {
        let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (one.get(key), other.get(key)) {
            _ if place == "route" || place == "consumer" => {}
            (Some(one), Some(other)) if one == other => {}
            (Some(Value::Table(one)), Some(Value::Table(other))) => differences(&place, one, other, found),
            (Some(Value::Table(table)), None) => differences(&place, table, &Table::new(), found),
            (None, Some(Value::Table(table))) => differences(&place, &Table::new(), table, found),
            _ => found.push(place),
        }
    }
}

/// Of a file that can't be read it is that of nothing; so is that of one which is read once.
fn digest_of(file: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let content = can_be_read_again(file).then(|| read(file).ok()).flatten();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str, named: &[(&str, u64)]) -> Sources {
        let of = |(key, digest): &(&str, u64)| NamedFile {
            key: (*key).to_owned(),
            file: PathBuf::from(format!("/{key}")),
            digest: *digest,
        };
        Sources::new(Path::new("/upcall.toml"), text.parse().unwrap(), named.iter().map(of).collect())
    }

    #[test]
    fn what_differs_is_named_and_consumers_go_by_their_names() {
        let before = sources(
            "[gateway]\nlisten = 'a'\n[bus.nats]\nurl = ['x', 'y']\n[[route]]\nname = 'r'\n\
             [[consumer]]\nname = 'one'\n[[consumer]]\nname = 'two'",
            &[("bus.nats.password.file", 1), ("consumer[1].webhook.secrets[0].file", 2)],
        );
        assert_eq!(before.changes(&before.clone()), Changes::default());
        let after = sources(
            "[gateway]\nlisten = 'a'\nadmin = 'b'\n[bus.nats]\nurl = ['x']\n[log]\nfilter = 'debug'\n\
             [[route]]\nname = 'r'\n[[consumer]]\nname = 'two'\n[[consumer]]\nname = 'three'",
            &[("bus.nats.password.file", 7), ("consumer[0].webhook.secrets[0].file", 2)],
        );
        let changes = before.changes(&after);
        assert_eq!(changes.keys, ["bus.nats.url", "gateway.admin", "log.filter"]);
        assert_eq!(changes.contents, ["bus.nats.password.file"]);
        assert!(!changes.routes);
        assert_eq!(changes.consumers.iter().collect::<Vec<_>>(), ["one", "three"], "`two` has only moved");
    }

    #[test]
    fn other_content_of_a_secret_is_a_change_of_whose_it_is() {
        let text = "[[route]]\nname = 'r'\n[[consumer]]\nname = 'c'";
        let of = |route, consumer| {
            sources(
                text,
                &[("route[0].response.http.authorization.file", route), ("consumer[0].sql.url.file", consumer)],
            )
        };
        assert_eq!(of(1, 2).changes(&of(3, 2)), Changes { routes: true, ..Changes::default() });
        let consumers = BTreeSet::from(["c".to_owned()]);
        assert_eq!(of(1, 2).changes(&of(1, 3)), Changes { consumers, ..Changes::default() });
    }
}
