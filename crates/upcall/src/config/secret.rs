//! Values that may be secret: written out, or taken from the environment or a file.

use std::path::PathBuf;

use super::reader::Section;

/// Reads `key = "value"`, `key = { env = "NAME" }` or `key = { file = "PATH" }`.
pub(super) fn required(section: &mut Section<'_>, key: &'static str, doc: &'static str) -> Option<String> {
    if !section.is_table(key) {
        return section.required(key, doc);
    }
    from_elsewhere(section.optional_section(key, doc)?)
}

/// As [`required`], for a key that may be absent.
pub(super) fn optional(section: &mut Section<'_>, key: &'static str, doc: &'static str) -> Option<String> {
    if !section.is_table(key) {
        return section.optional(key, doc);
    }
    from_elsewhere(section.optional_section(key, doc)?)
}

fn from_elsewhere(mut source: Section<'_>) -> Option<String> {
    let variable: Option<String> = source.optional("env", "The environment variable that holds the value.");
    let file: Option<PathBuf> = source
        .optional("file", "The file that holds the value, relative to this one. White space at its end is dropped.");
    match (variable, file) {
        (Some(variable), None) => match std::env::var(&variable) {
            Ok(value) => Some(value),
            Err(_) => {
                source.mistake("env", format!("names {variable}, which is not set in the environment"));
                None
            }
        },
        (None, Some(file)) => {
            let path = source.resolve(&file);
            match std::fs::read_to_string(&path) {
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
