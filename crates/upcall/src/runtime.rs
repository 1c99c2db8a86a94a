//! The runtime that everything asynchronous runs on.

/// Runs a future to its end on a runtime with a thread per core.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}
