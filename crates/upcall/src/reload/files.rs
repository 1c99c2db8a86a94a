//! Reading files that may never answer, without waiting for them for ever.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::in_force::Refusal;
use crate::config;

/// How long all files together may take. They are small, and a mount that is well answers within milliseconds.
const READ_TIME: Duration = Duration::from_secs(5);

/// Reads files on a thread that may be held up. There is one at most: a mount that hangs must not take thread after thread.
pub(super) struct Files {
    limit: Duration,
    held_up: Option<JoinHandle<()>>,
}

impl Default for Files {
    fn default() -> Self {
        Self { limit: READ_TIME, held_up: None }
    }
}

impl Files {
    /// Does what reads files.
    ///
    /// # Errors
    /// If it takes too long, or what was begun before still does.
    pub(super) async fn read<T: Send + 'static>(
        &mut self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        if self.held_up.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Err(hanging());
        }
        let (done, result) = oneshot::channel();
        // Nobody may be left to be told.
        let thread = spawn_blocking(move || drop(done.send(read())));
        match timeout(self.limit, result).await {
            Ok(result) => result.map_err(|_| Refusal::failed("reading it failed within Upcall; please report it")),
            Err(_) => {
                self.held_up = Some(thread);
                Err(hanging())
            }
        }
    }
}

fn hanging() -> Refusal {
    let file = config::being_read().map_or("a file".to_owned(), |file| file.display().to_string());
    let reason =
        format!("{file}: can't be read within {} s: is it a pipe, or on a mount that hangs?", READ_TIME.as_secs());
    Refusal::failed(reason)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_hangs_holds_up_one_thread_and_is_read_again_once_it_answers() {
        let mut files = Files { limit: Duration::from_millis(50), ..Files::default() };
        let (answer, hangs) = mpsc::channel::<()>();
        let hung = files.read(move || hangs.recv().is_ok()).await.unwrap_err();
        assert!(hung.reasons[0].contains("is it a pipe, or on a mount that hangs?"), "{hung:?}");
        assert_eq!(files.read(|| 7).await, Err(hung), "nothing else is begun meanwhile");
        drop(answer);
        while files.read(|| 7).await != Ok(7) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
