//! A configuration's text with the environment over it, on its way to be read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::file::read_text;
use super::lines::line_of;
use super::overlay::{self, Origin, PREFIX};
use super::reader::{Mistake, Reader};
use super::sources::Sources;
use super::{ConfigError, otel};

/// A configuration's tables, and what is known of where they are from.
pub(super) struct Document {
    file: PathBuf,
    text: String,
    table: Table,
    origins: Vec<Origin>,
    reader: Reader,
}

/// Which of the tables at the top of a document are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// All of them.
    All,
    /// These. The others may be as they like.
    Only(&'static [&'static str]),
}

impl Wanted {
    fn takes(self, table: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(tables) => tables.contains(&table),
        }
    }

    /// Whether a variable sets a key of a table that is wanted.
    fn takes_variable(self, variable: &str) -> bool {
        let table = variable.strip_prefix(PREFIX).and_then(|rest| rest.split("__").next());
        table.is_some_and(|table| self.takes(&table.to_ascii_lowercase()))
    }
}

impl Document {
    /// Reads a file, with the process's environment over it.
    ///
    /// # Errors
    /// If it can't be read, or is no TOML.
    pub(super) fn load(file: &Path, wanted: Wanted) -> Result<Self, ConfigError> {
        let text = read_text(file).map_err(|source| match source.kind() {
            ErrorKind::NotFound => ConfigError::Missing { file: file.to_owned() },
            _ => ConfigError::Unreadable { file: file.to_owned(), source },
        })?;
        let variables =
            std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
        Self::parse(file, &text, variables, wanted)
    }

    /// Takes a file's text. Relative paths in it start at the file's folder.
    ///
    /// # Errors
    /// If it is no TOML.
    pub(super) fn parse(
        file: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
        wanted: Wanted,
    ) -> Result<Self, ConfigError> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            // Not the line itself, which toml would show: it may hold a secret.
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
            let (line, column) =
                (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
            let problem = format!("is not TOML: line {line}, column {column}: {}", error.message());
            let mistakes = vec![Mistake::new("the file", problem)];
            ConfigError::Mistaken { file: file.to_owned(), mistakes }
        })?;
        table.retain(|key, _| wanted.takes(key));
        let reader = Reader::new(file.parent().unwrap_or(Path::new("")));
        let variables: Vec<_> = variables.collect();
        let ours = variables.iter().filter(|(name, _)| matches!(wanted, Wanted::All) || wanted.takes_variable(name));
        let mut origins = overlay::lay_over(&mut table, ours.cloned()).unwrap_or_else(|mistakes| {
            for (variable, problem) in mistakes {
                reader.mistake(format!("environment variable {variable}"), problem);
            }
            Vec::new()
        });
        if wanted.takes("telemetry") {
            origins.extend(otel::lay_under(&mut table, &variables));
        }
        Ok(Self { file: file.to_owned(), text: text.to_owned(), table, origins, reader })
    }

    /// Leaves out all keys of a table, or of each table of an array, but those that are wanted.
    pub(super) fn narrow(&mut self, name: &str, is_wanted: impl Fn(&str) -> bool) {
        let narrow = |value: &mut Value| {
            if let Value::Table(table) = value {
                table.retain(|key, _| is_wanted(key));
            }
        };
        match self.table.get_mut(name) {
            Some(Value::Array(items)) => items.iter_mut().for_each(narrow),
            Some(value) => narrow(value),
            None => {}
        }
    }

    /// Reads it, and gives what was read with what it was read from.
    ///
    /// # Errors
    /// With every mistake.
    pub(super) fn read<T>(self, read: impl FnOnce(&Reader, Table) -> Option<T>) -> Result<(T, Sources), ConfigError> {
        let Self { file, text, table, origins, reader } = self;
        let written = table.clone();
        let result = read(&reader, table);
        let named = reader.take_files();
        let mut mistakes = reader.into_mistakes();
        match result {
            Some(result) if mistakes.is_empty() => Ok((result, Sources::new(&file, written, named))),
            _ => {
                for mistake in &mut mistakes {
                    place(mistake, &text, &written, &origins);
                }
                // As whoever mends them comes to them; what is in no line of the file comes last.
                mistakes.sort_by_cached_key(|mistake| line_of(&text, &mistake.path).unwrap_or(usize::MAX));
                Err(ConfigError::Mistaken { file, mistakes })
            }
        }
    }
}

/// Says of a mistake where it is.
fn place(mistake: &mut Mistake, text: &str, written: &Table, origins: &[Origin]) {
    let mut place = Vec::new();
    if let Some(origin) = origins.iter().find(|origin| origin.path == mistake.path) {
        mistake.problem.push_str(&format!(" (set by {} in the environment)", origin.variable));
    } else if let Some(line) = line_of(text, &mistake.path) {
        place.push(format!("line {line}"));
    }
    place.extend(name_of(written, &mistake.path));
    mistake.place = place.join(", ");
}

/// The route or the consumer that a key is of, if it has a name.
fn name_of(written: &Table, path: &str) -> Option<String> {
    let (array, rest) = path.split_once('[')?;
    let (at, _) = rest.split_once(']')?;
    let entry = written.get(array)?.as_array()?.get(at.parse::<usize>().ok()?)?;
    Some(format!("{array} {:?}", entry.get("name")?.as_str()?))
}
