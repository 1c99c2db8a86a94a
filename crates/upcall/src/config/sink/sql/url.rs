//! The URL of a database, and what it names.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use upcall_sink_sql::OptionsError;

use crate::config::certificates::{self, PemKind};
use crate::config::reader::{Section, nearest};

/// What a database's URL names certificates and keys by.
const CERTIFICATE_KEYS: [(&str, PemKind); 8] = [
    ("sslrootcert", PemKind::Authorities),
    ("ssl-root-cert", PemKind::Authorities),
    ("sslca", PemKind::Authorities),
    ("ssl-ca", PemKind::Authorities),
    ("sslcert", PemKind::Certificate),
    ("ssl-cert", PemKind::Certificate),
    ("sslkey", PemKind::Key),
    ("ssl-key", PemKind::Key),
];

/// Checks a URL, and makes the path of a database file absolute.
pub(super) fn read(section: &Section<'_>, url: &str) -> Option<String> {
    let url = match url.split_once("://") {
        Some(("sqlite", path)) => format!("sqlite://{}", section.resolve(Path::new(path)).display()),
        _ => url.to_owned(),
    };
    // Read at each connection; a pool that is open goes on with what it has read.
    certificates::of_database(section, "url", &certificate_files(&url));
    // A path without `//` would begin where the process runs.
    let checked = match url.starts_with("sqlite:") && !url.starts_with("sqlite://") {
        true => Err(OptionsError::Scheme("sqlite".to_owned())),
        false => upcall_sink_sql::check_url(&url),
    };
    match checked {
        Ok(()) => Some(url),
        Err(error) => {
            section.mistake("url", problem(&error));
            None
        }
    }
}

fn problem(error: &OptionsError) -> String {
    match error {
        OptionsError::Parameter { name, known } => {
            let meant = nearest(known, name).map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
            format!("has the parameter `{name}`, which there is not; {meant}There are: {}", known.join(", "))
        }
        OptionsError::Value { name, takes } => format!("has a value for `{name}` that is none; it takes {takes}"),
        OptionsError::Scheme(_) => {
            "is no database that this version knows: write `sqlite://PATH`, `postgres://USER:PASSWORD@HOST/DATABASE` or \
             `mysql://USER:PASSWORD@HOST/DATABASE`"
                .to_owned()
        }
        // What is wrong with the address is left out: it might show a part of it.
        OptionsError::Url(_) => {
            "can't be read; write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with what is not a letter or a digit in \
             the password percent-encoded (`@` is `%40`)"
                .to_owned()
        }
    }
}

/// The files that a database's URL names, each with what is to be in it. What is written out there is no file.
fn certificate_files(url: &str) -> Vec<(PemKind, PathBuf)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let file = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let (_, kind) = CERTIFICATE_KEYS.iter().find(|(known, _)| *known == key)?;
        let file = percent_decode_str(value).decode_utf8_lossy().into_owned();
        (!file.starts_with("-----BEGIN")).then(|| (*kind, file.into()))
    };
    query.split('&').filter_map(file).collect()
}
