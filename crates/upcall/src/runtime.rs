//! The runtime that everything asynchronous runs on.

use std::time::Duration;

/// How long the end waits for what can't be stopped: a file that is being read from a mount that hangs, a name that nobody
/// resolves. What is to be flushed has been waited for before.
const LAST_TIME: Duration = Duration::from_millis(500);

/// Runs a future to its end on a runtime with a thread per core.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(future);
    runtime.shutdown_timeout(LAST_TIME);
    ended
}
