//! `[keys]`: the public keys that callbacks are verified with, beside OSS's own.

use std::path::PathBuf;

use upcall_callback::PublicKey;
use upcall_verifier::TrustedKey;

use super::file::read_text;
use super::reader::Section;

/// Which keys are trusted.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) fetch: bool,
    pub(crate) trusted: Vec<TrustedKey>,
}

/// Reads `[keys]`.
pub(super) fn read(mut section: Section<'_>) -> Option<Keys> {
    let fetch = section.or("fetch", true, "Whether a key that OSS might introduce is fetched from OSS's own key host when a callback first names it. OSS's one key of today is built in and never fetched.");
    let trusted = section.sections("trusted", "A further key to trust, such as a simulator's.");
    let trusted: Vec<_> = trusted.into_iter().map(read_trusted).collect();
    Some(Keys { fetch, trusted: trusted.into_iter().collect::<Option<_>>()? })
}

fn read_trusted(mut section: Section<'_>) -> Option<TrustedKey> {
    let url: Option<String> =
        section.required("url", "The URL that callbacks name the key by, to the letter. It is never fetched.");
    if url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        section.mistake("url", "is no http or https URL, so that no callback can name it");
    }
    let pem: Option<String> = section.optional("pem", "The public key in PEM.");
    let file: Option<PathBuf> =
        section.optional("file", "The file that holds the public key in PEM, relative to this one.");
    let (key, pem) = match (pem, file) {
        (Some(pem), None) => ("pem", pem),
        (None, Some(file)) => {
            let path = section.resolve(&file);
            section.names_file("file", &path);
            match read_text(&path) {
                Ok(pem) => ("file", pem),
                Err(error) => {
                    section.mistake("file", format!("names {}, which can't be read: {error}", path.display()));
                    return None;
                }
            }
        }
        _ => {
            section.mistake_here("takes the key either as `pem` or as `file`");
            return None;
        }
    };
    if let Err(error) = PublicKey::from_pem(&pem) {
        section.mistake(key, format!("holds no key that can be used: {error}"));
        return None;
    }
    Some(TrustedKey { url: url?, pem })
}
