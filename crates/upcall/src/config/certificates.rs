//! Certificates in files that keys name.

use std::path::Path;

use upcall_egress::CertificateDer;

use super::reader::Section;

/// Reads a PEM file of authorities, and takes note of it. `None` where it is a mistake, which is on record.
pub(super) fn authorities(
    section: &Section<'_>,
    key: &'static str,
    file: &Path,
) -> Option<Vec<CertificateDer<'static>>> {
    let file = section.resolve(file);
    section.names_file(key, &file);
    let pem = std::fs::read(&file).map_err(|error| format!("names {}, which can't be read: {error}", file.display()));
    let read = pem.and_then(|pem| {
        upcall_egress::authorities(&pem).map_err(|error| format!("names {}, which {error}", file.display()))
    });
    read.map_err(|problem| section.mistake(key, problem)).ok()
}
