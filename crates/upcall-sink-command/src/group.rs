//! A program with all that it has started, and all of them that run.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// All that run, of every sink of this process: whoever ends the process in haste has to end them, too.
static RUNNING: Mutex<Running> = Mutex::new(Running { groups: Vec::new(), is_over: false });

struct Running {
    groups: Vec<Pid>,
    is_over: bool,
}

/// Kills every program that runs, with all that it has started, and lets none start any more. For the process's last
/// moment: nothing else would end them.
pub fn kill_all() {
    let mut running = running();
    running.is_over = true;
    running.groups.iter().for_each(|group| signal(*group, Signal::KILL));
}

/// The program and all that it has started, unless that left on purpose. Killed when this is dropped.
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// Starts the program, which is to be the first of a group of its own.
    ///
    /// # Errors
    /// When it can't be started, or the process is about to end.
    pub(crate) fn start(mut command: Command) -> io::Result<(Child, Self)> {
        // None starts between the last look at those that run and the end of the process.
        let mut running = running();
        if running.is_over {
            return Err(io::Error::other("this process ends"));
        }
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        running.groups.extend(group);
        Ok((child, Self(group)))
    }

    pub(crate) fn signal(&self, which: Signal) {
        if let Some(group) = self.0 {
            signal(group, which);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut running = running();
        self.signal(Signal::KILL);
        running.groups.retain(|group| Some(*group) != self.0);
    }
}

fn signal(group: Pid, signal: Signal) {
    // A group that is gone has done what was wanted of it.
    let _ = kill_process_group(group, signal);
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
