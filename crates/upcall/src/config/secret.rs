//! Values that may be secret: written out, or taken from the environment or a file.

use std::path::PathBuf;

use toml::Value;

use super::file::read_text;
use super::reader::{Section, kind_of};
use super::setting::Setting;

/// A secret that is written out.
struct Written(String);

impl Setting for Written {
    const KIND: &'static str = "a string, `{ env = \"NAME\" }` or `{ file = \"PATH\" }`";

    fn read(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| format!("takes {}, not {}", Self::KIND, kind_of(value)))?;
        Ok(Self(text.to_owned()))
    }
}

/// Reads `key = "value"`, `key = { env = "NAME" }` or `key = { file = "PATH" }`.
pub(super) fn required(section: &mut Section<'_>, key: &'static str, doc: &'static str) -> Option<String> {
    if !section.is_table(key) {
        return section.required(key, doc).map(|Written(text)| text);
    }
    from_elsewhere(section.optional_section(key, doc)?)
}

/// As [`required`], for a key that may be absent.
pub(super) fn optional(section: &mut Section<'_>, key: &'static str, doc: &'static str) -> Option<String> {
    if !section.is_table(key) {
        return section.optional(key, doc).map(|Written(text)| text);
    }
    from_elsewhere(section.optional_section(key, doc)?)
}

/// Reads an array of values, each of which may be secret, with its place: `["value", { env = "NAME" }]`.
pub(super) fn list(section: &mut Section<'_>, key: &'static str, doc: &'static str) -> Vec<(String, String)> {
    let items = match section.take(key, "an array of strings, or of tables as for other secrets", doc) {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(single) => vec![single],
    };
    let named = items.into_iter().enumerate().map(|(at, item)| (format!("{key}[{at}]"), item));
    named.filter_map(|(place, item)| Some((place.clone(), value(section, &place, item)?))).collect()
}

/// Reads a table of values, each of which may be secret, with its place, by their names:
/// `{ NAME = "value", OTHER = { env = "NAME" } }`.
pub(super) fn table(section: &mut Section<'_>, key: &'static str, doc: &'static str) -> Vec<(String, String, String)> {
    let items = match section.take(key, "a table of strings, or of tables as for other secrets", doc) {
        None => return Vec::new(),
        Some(Value::Table(items)) => items,
        Some(other) => {
            section.mistake(key, format!("takes a table, not {}", kind_of(&other)));
            return Vec::new();
        }
    };
    let named = items.into_iter().map(|(name, item)| (format!("{key}.{name}"), name, item));
    named.filter_map(|(place, name, item)| Some((place.clone(), name, value(section, &place, item)?))).collect()
}

fn value(section: &Section<'_>, place: &str, value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Table(source) => from_elsewhere(section.child(place, source)),
        other => {
            section.mistake(place, format!("takes a string, not {}", kind_of(&other)));
            None
        }
    }
}

fn from_elsewhere(mut source: Section<'_>) -> Option<String> {
    let variable: Option<String> = source.optional("env", "The environment variable that holds the value.");
    let file: Option<PathBuf> = source
        .optional("file", "The file that holds the value, relative to this one. White space at its end is dropped.");
    match (variable, file) {
        (Some(variable), None) => match std::env::var(&variable) {
            // Nothing is no secret: whoever has emptied it has taken it away, and has not yet said so here.
            Ok(value) if value.trim().is_empty() => {
                source.mistake("env", format!("names {variable}, which is empty: set it, or leave this key out"));
                None
            }
            Ok(value) => Some(value),
            Err(_) => {
                source.mistake("env", format!("names {variable}, which is not set in the environment"));
                None
            }
        },
        (None, Some(file)) => {
            let path = source.resolve(&file);
            source.names_file("file", &path);
            match read_text(&path) {
                Ok(value) if value.trim().is_empty() => {
                    let problem = format!(
                        "names {}, which is empty: write the value into it, or leave this key out",
                        path.display()
                    );
                    source.mistake("file", problem);
                    None
                }
                Ok(value) => Some(value.trim_end().to_owned()),
                Err(error) => {
                    source.mistake("file", format!("names {}, which can't be read: {error}", path.display()));
                    None
                }
            }
        }
        _ => {
            source.mistake_here("takes either `env` or `file`");
            None
        }
    }
}
