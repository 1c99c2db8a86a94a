//! Certificates in files that keys name. Other content of them is another configuration.

use std::path::{Path, PathBuf};

use upcall_bus_nats::{Identity, InvalidIdentity};
use upcall_egress::CertificateDer;

use super::file::read as read_file;
use super::reader::Section;

/// Reads a PEM file of authorities. `None` where it is a mistake, which is on record.
pub(super) fn authorities(
    section: &Section<'_>,
    key: &'static str,
    file: &Path,
) -> Option<Vec<CertificateDer<'static>>> {
    let (file, pem) = read(section, key, file)?;
    let read = upcall_egress::authorities(&pem);
    read.map_err(|error| section.mistake(key, format!("names {}, which {error}", file.display()))).ok()
}

/// Reads the files of `certificate` and `key`, which must belong together. `None` where they are a mistake, which is on
/// record.
pub(super) fn identity(section: &Section<'_>, certificate: &Path, key: &Path) -> Option<Identity> {
    let certificate = read(section, "certificate", certificate);
    let key = read(section, "key", key)?;
    belong_together(section, ["certificate", "key"], certificate?, key)
}

/// What is to be in a PEM file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PemKind {
    Authorities,
    Certificate,
    Key,
}

/// Checks the files that a database's URL names, relative to where the process runs.
pub(super) fn of_database(section: &Section<'_>, key: &'static str, files: &[(PemKind, PathBuf)]) {
    let (mut certificate, mut certificate_key) = (None, None);
    for (kind, file) in files {
        let Some((file, pem)) = read(section, key, &std::path::absolute(file).unwrap_or_default()) else { continue };
        match kind {
            PemKind::Authorities => {
                if let Err(error) = upcall_egress::authorities(&pem) {
                    section.mistake(key, format!("names {}, which {error}", file.display()));
                }
            }
            PemKind::Certificate => certificate = Some((file, pem)),
            PemKind::Key => certificate_key = Some((file, pem)),
        }
    }
    if let (Some(certificate), Some(certificate_key)) = (certificate, certificate_key) {
        belong_together(section, [key; 2], certificate, certificate_key);
    }
}

/// A file, and what is in it.
type Pem = (PathBuf, Vec<u8>);

fn belong_together(
    section: &Section<'_>,
    [certificate_place, key_place]: [&'static str; 2],
    (certificate_file, certificate): Pem,
    (key_file, key): Pem,
) -> Option<Identity> {
    let mistaken = |error| {
        let (place, file) = match error {
            InvalidIdentity::Certificate => (certificate_place, certificate_file),
            InvalidIdentity::Key | InvalidIdentity::Mismatch => (key_place, key_file),
        };
        section.mistake(place, format!("names {}, which {error}", file.display()));
    };
    Identity::parse(&certificate, &key).map_err(mistaken).ok()
}

/// Reads a file whole, and takes note of it.
fn read(section: &Section<'_>, key: &'static str, file: &Path) -> Option<Pem> {
    let file = section.resolve(file);
    section.names_file(key, &file);
    match read_file(&file) {
        Ok(pem) => Some((file, pem)),
        Err(error) => {
            section.mistake(key, format!("names {}, which can't be read: {error}", file.display()));
            None
        }
    }
}
