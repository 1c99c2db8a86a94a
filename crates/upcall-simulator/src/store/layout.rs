//! Which file holds which object.
//!
//! A key's segments become directories and a file, each name percent-escaped, so that no key can name anything
//! outside the folder. A directory's name ends with a bare `%`: the object `a` and the object `a/b` are the file
//! `a` and the file `a%/b`. A segment too long for a file name goes on in a directory whose name ends with `%+`.

use std::path::{Path, PathBuf};

/// The most bytes in a file name of ours before its suffix. File systems take 255.
const NAME_BYTES_MAX: usize = 200;

/// Ends a directory's name where the key has a `/`.
const SLASH: &str = "%";
/// Ends a directory's name where the segment goes on.
const CONTINUED: &str = "%+";
/// Is the file name of an empty last segment, as folders such as `dir/` have.
const EMPTY: &str = "%e";
/// Ends the name of the file that describes an object. No object's own file ends so.
const SIDECAR: &str = "%meta";

/// The file of an object's content, relative to its bucket's folder of objects.
pub(crate) fn content_path(key: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let mut segments = key.split('/').peekable();
    while let Some(segment) = segments.next() {
        let mut pieces = pieces(segment);
        let mut last = pieces.pop().unwrap_or_default();
        for piece in pieces {
            path.push(piece + CONTINUED);
        }
        if segments.peek().is_some() {
            last.push_str(SLASH);
        } else if last.is_empty() {
            last.push_str(EMPTY);
        }
        path.push(last);
    }
    path
}

/// The file that describes the object whose content is in a file.
pub(crate) fn sidecar_path(content: &Path) -> PathBuf {
    let mut path = content.as_os_str().to_owned();
    path.push(SIDECAR);
    PathBuf::from(path)
}

/// What a directory's name adds to a key. `None` if no object made it.
pub(crate) fn directory_part(name: &str) -> Option<String> {
    if let Some(piece) = name.strip_suffix(CONTINUED) {
        return unescape(piece);
    }
    let segment = name.strip_suffix(SLASH)?;
    unescape(segment).map(|segment| segment + "/")
}

/// What a sidecar's name adds to a key. `None` if it is no sidecar.
pub(crate) fn sidecar_part(name: &str) -> Option<String> {
    match name.strip_suffix(SIDECAR)? {
        EMPTY => Some(String::new()),
        name => unescape(name),
    }
}

/// Escapes a segment, in pieces that are short enough for a file name.
fn pieces(segment: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for byte in segment.bytes() {
        if pieces.last().is_none_or(|piece| piece.len() >= NAME_BYTES_MAX) {
            pieces.push(String::new());
        }
        let Some(piece) = pieces.last_mut() else { continue };
        // A dot in front is escaped: no name is `.` or `..`, none is hidden.
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b' ' | b'(' | b')' | b'=' | b'@' | b',' | b'+')
            || (byte == b'.' && !piece.is_empty());
        if plain {
            piece.push(char::from(byte));
        } else {
            piece.push_str(&format!("%{byte:02X}"));
        }
    }
    pieces
}

fn unescape(name: &str) -> Option<String> {
    percent_encoding::percent_decode_str(name).decode_utf8().ok().map(String::from)
}
