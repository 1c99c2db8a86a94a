//! `[reload]`: how a changed configuration is taken up.

use super::reader::Section;

/// How a changed configuration is taken up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reload {
    /// Whether files are looked at again and again.
    pub(crate) watch: bool,
}

/// Reads `[reload]`.
pub(super) fn read(mut section: Section<'_>) -> Reload {
    let watch = section.or(
        "watch",
        true,
        "Whether this file, and the files of secrets and certificates that it names, are looked at every 2 seconds, and \
         read again once they have changed and stay so.",
    );
    Reload { watch }
}
