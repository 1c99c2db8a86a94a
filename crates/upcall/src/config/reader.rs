//! Reads TOML tables key by key, and collects every mistake instead of stopping at the first.
//!
//! Each key is read with its documentation, so that the reference in `docs/reference/configuration.md` is a
//! by-product of reading and can't be out of date.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::setting::Setting;
use super::sources::NamedFile;

/// One mistake in the configuration: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The key, such as `route[0].path`.
    pub(crate) path: String,
    /// What is wrong, and the remedy.
    pub(crate) problem: String,
    /// Where in the file that is, in words, as far as it is known.
    pub(crate) place: String,
}

impl Mistake {
    pub(super) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), place: String::new() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// A key as it was read, for the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) kind: &'static str,
    pub(crate) default: Default,
    pub(crate) doc: &'static str,
}

/// What holds where a key is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Default {
    Required,
    Absent,
    Value(String),
    Section,
}

/// Collects what is found while a configuration is read.
#[derive(Debug)]
pub(crate) struct Reader {
    folder: PathBuf,
    files: RefCell<Vec<NamedFile>>,
    mistakes: RefCell<Vec<Mistake>>,
    entries: RefCell<Vec<Entry>>,
}

impl Reader {
    /// A reader for a file in this folder: relative paths in the file start there.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: RefCell::default(),
            mistakes: RefCell::default(),
            entries: RefCell::default(),
        }
    }

    /// Begins with the whole document.
    pub(crate) fn root(&self, table: Table) -> Section<'_> {
        Section { path: String::new(), table, known: Vec::new(), reader: self }
    }

    pub(crate) fn mistake(&self, path: impl Into<String>, problem: impl Into<String>) {
        self.mistakes.borrow_mut().push(Mistake::new(path, problem));
    }

    /// The files that the configuration names for what is in them.
    pub(crate) fn take_files(&self) -> Vec<NamedFile> {
        self.files.take()
    }

    pub(crate) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    #[cfg(test)]
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries.into_inner()
    }
}

/// A table that is being read. When it is dropped, the keys that nobody asked for are mistakes.
pub(crate) struct Section<'r> {
    path: String,
    table: Table,
    known: Vec<&'static str>,
    reader: &'r Reader,
}

impl<'r> Section<'r> {
    /// The path of a key of this table, as mistakes name it.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reports a mistake in one of this table's keys.
    pub(crate) fn mistake(&self, key: &str, problem: impl Into<String>) {
        self.reader.mistake(self.path_of(key), problem);
    }

    /// Reports a mistake in the table as a whole.
    pub(crate) fn mistake_here(&self, problem: impl Into<String>) {
        self.reader.mistake(self.path.as_str(), problem);
    }

    /// Resolves a path that is relative to the configuration file. It is absolute, so that an error can name it to
    /// somebody who is in another folder.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        let path = self.reader.folder.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Takes note of a file that a key of this table names, and whose content matters as if it were written here.
    pub(crate) fn names_file(&self, key: &str, file: &Path) {
        self.reader.files.borrow_mut().push(NamedFile::look_at(self.path_of(key), file));
    }

    /// Reads a key that may be absent.
    pub(crate) fn optional<T: Setting>(&mut self, key: &'static str, doc: &'static str) -> Option<T> {
        self.note(key, T::KIND, Default::Absent, doc);
        self.read(key)
    }

    /// Reads a key that must be there.
    pub(crate) fn required<T: Setting>(&mut self, key: &'static str, doc: &'static str) -> Option<T> {
        self.note(key, T::KIND, Default::Required, doc);
        if !self.table.contains_key(key) {
            self.mistake(key, format!("is missing. {doc}"));
        }
        self.read(key)
    }

    /// Reads a key that has a default; it holds, too, where the value is a mistake.
    pub(crate) fn or<T: Setting>(&mut self, key: &'static str, default: impl Into<Value>, doc: &'static str) -> T {
        let default = default.into();
        self.note(key, T::KIND, Default::Value(default.to_string()), doc);
        self.read(key).unwrap_or_else(|| T::read(&default).expect("a default is of its key's type"))
    }

    /// Reads a table; an absent one is empty.
    pub(crate) fn section(&mut self, key: &'static str, doc: &'static str) -> Section<'r> {
        self.optional_section(key, doc).unwrap_or_else(|| self.child(key, Table::new()))
    }

    /// Reads a table that may be absent.
    pub(crate) fn optional_section(&mut self, key: &'static str, doc: &'static str) -> Option<Section<'r>> {
        self.note(key, "table", Default::Section, doc);
        match self.table.remove(key)? {
            Value::Table(table) => Some(self.child(key, table)),
            other => {
                let header = without_places(&self.path_of(key));
                self.mistake(
                    key,
                    format!("is a table, not {}: write `[{header}]`, or `{key} = {{ … }}` in place", kind_of(&other)),
                );
                None
            }
        }
    }

    /// Reads a key whose value may be a table with keys of its own, and is documented as a single key nevertheless.
    pub(crate) fn table_in_place<T: Setting>(&mut self, key: &'static str, doc: &'static str) -> Option<Section<'r>> {
        self.note(key, T::KIND, Default::Absent, doc);
        match self.table.remove(key)? {
            Value::Table(table) => Some(self.child(key, table)),
            _ => None,
        }
    }

    /// Takes a key's value as it is, to be read by hand.
    pub(crate) fn take(&mut self, key: &'static str, kind: &'static str, doc: &'static str) -> Option<Value> {
        self.note(key, kind, Default::Absent, doc);
        self.table.remove(key)
    }

    /// A table that was found in one of this table's keys, to be read on.
    pub(crate) fn child(&self, key: &str, table: Table) -> Section<'r> {
        Section { path: self.path_of(key), table, known: Vec::new(), reader: self.reader }
    }

    /// Reads an array of tables.
    pub(crate) fn sections(&mut self, key: &'static str, doc: &'static str) -> Vec<Section<'r>> {
        self.note(key, "array of tables", Default::Section, doc);
        let items = match self.table.remove(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.mistake(
                    key,
                    format!("is an array, not {}: write `[[{}]]`", kind_of(&other), without_places(&self.path_of(key))),
                );
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let key = format!("{key}[{at}]");
            match item {
                Value::Table(table) => sections.push(self.child(&key, table)),
                other => self.mistake(&key, format!("is a table, not {}", kind_of(&other))),
            }
        }
        sections
    }

    /// A key's text, if it is there and is text; it stays to be read.
    pub(crate) fn peek(&self, key: &str) -> Option<String> {
        self.table.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    /// A key's table, if it is there and is one; it stays to be read.
    pub(crate) fn peek_table(&self, key: &str) -> Option<&Table> {
        self.table.get(key).and_then(Value::as_table)
    }

    /// Whether there is a table that nobody has asked for. It is a mistake by itself, and likely one for what seems to be
    /// missing.
    pub(crate) fn has_unknown_table(&self) -> bool {
        self.table.values().any(Value::is_table)
    }

    /// Whether the key is there and has not been read.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key's value is a table.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(Value::is_table)
    }

    fn read<T: Setting>(&mut self, key: &str) -> Option<T> {
        let value = self.table.remove(key)?;
        match T::read(&value) {
            Ok(setting) => Some(setting),
            Err(problem) => {
                self.mistake(key, problem);
                None
            }
        }
    }

    fn note(&mut self, key: &'static str, kind: &'static str, default: Default, doc: &'static str) {
        self.known.push(key);
        let path = self.path_of(key);
        self.reader.entries.borrow_mut().push(Entry { path, kind, default, doc });
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for key in self.table.keys() {
            let remedy = match nearest(&self.known, key) {
                Some(known) => format!("did you mean `{known}`?"),
                None if self.known.is_empty() => "this table takes no keys".to_owned(),
                None => format!("there are: {}", self.known.join(", ")),
            };
            self.mistake(key, format!("is not a known key; {remedy}"));
        }
    }
}

/// A path as a table's heading has it: `[consumer.sql]` is the `sql` of the last `[[consumer]]` above it.
fn without_places(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// The known key that somebody meant, most likely: a letter in three may be wrong, missing, too many, or have changed
/// places with its neighbour.
pub(super) fn nearest<'k>(known: &[&'k str], key: &str) -> Option<&'k str> {
    let edits = |known: &&str| strsim::damerau_levenshtein(known, key);
    let nearest = known.iter().copied().min_by_key(edits)?;
    (3 * edits(&nearest) <= key.chars().count().max(nearest.chars().count())).then_some(nearest)
}

/// How a value's type is called, with its article.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_fingers_is_recognised() {
        let known = ["url", "ack", "user", "token", "response", "listen"];
        for (key, meant) in
            [("akc", "ack"), ("respnse", "response"), ("lisen", "listen"), ("usr", "user"), ("tokn", "token")]
        {
            assert_eq!(nearest(&known, key), Some(meant), "{key}");
        }
        for key in ["banana", "x", "no"] {
            assert_eq!(nearest(&known, key), None, "{key}");
        }
    }
}
