//! SIGTERM and SIGINT: the first asks for an ordered shutdown, the second ends the process at once. SIGHUP: the
//! configuration is to be read again.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// Exit status after a second signal, as shells have it for SIGINT.
const INTERRUPTED: i32 = 130;

/// A flag that turns true at the first signal.
///
/// Signals have a thread and a runtime of their own: they are heard as long as the process lives, whatever everybody else is
/// waiting for.
pub(crate) fn shutdown() -> anyhow::Result<watch::Receiver<bool>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("signals can't be waited for")?;
    let (mut terminate, mut interrupt) = {
        let _within = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("SIGTERM can't be caught")?;
        (terminate, signal(SignalKind::interrupt()).context("SIGINT can't be caught")?)
    };
    let (flag, shutdown) = watch::channel(false);
    let listen = async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                // The journal is made for being killed: what was answered is on disk. Programs would go on.
                upcall_sink_command::kill_all();
                std::process::exit(INTERRUPTED);
            }
            info!("shutting down; a second signal ends at once");
            // Nobody may be left to be told.
            let _ = flag.send(true);
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(listen)).context("signals can't be waited for")?;
    Ok(shutdown)
}

/// SIGHUPs, as they come; several at once are one.
pub(crate) struct Hangups(Signal);

/// From now on SIGHUP does not end the process.
pub(crate) fn hangups() -> anyhow::Result<Hangups> {
    Ok(Hangups(signal(SignalKind::hangup()).context("SIGHUP can't be caught")?))
}

impl Hangups {
    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // There are none any more.
            std::future::pending::<()>().await;
        }
    }
}
