//! Noticing that files have changed.
//!
//! They are read again and again and compared, and not watched by inotify: a ConfigMap or Secret changes by an exchange of
//! symbolic links above the files, network file systems tell nothing, and a dozen small files every two seconds cost
//! nothing that could be measured.

use super::files::Files;
use super::in_force::Refusal;
use crate::config::Sources;

/// Notices that files have changed, and stay so. At first everything is new to it: they may have changed since they were
/// read.
#[derive(Default)]
pub(super) struct Watcher {
    /// What is known.
    known: Option<u64>,
    /// What was there at the last look.
    last: Option<u64>,
}

impl Watcher {
    /// Whether the files have changed since they were taken note of, and are the same at two looks: so that a file which is
    /// being written is not read half. After a refusal they are to be read again in any case: what was missing may have
    /// come.
    ///
    /// # Errors
    /// If a file does not answer.
    pub(super) async fn has_settled_anew(
        &mut self,
        files: &mut Files,
        sources: &Sources,
        was_refused: bool,
    ) -> Result<bool, Refusal> {
        let sources = sources.clone();
        let now = Some(files.read(move || sources.digest_now()).await?);
        let is_settled = now == self.last;
        self.last = now;
        Ok(is_settled && (was_refused || now != self.known))
    }

    /// Takes note of what was there at the last look. Whatever has changed since, a later look finds, and to read it once
    /// too often does no harm.
    pub(super) fn seen(&mut self) {
        self.known = self.last;
    }
}
