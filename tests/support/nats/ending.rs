//! How a server comes to its end, other than by SIGKILL.

use std::time::Instant;

use super::{NatsServer, POLL, PortTaken, Process};
use crate::executable::PATIENCE;

impl NatsServer {
    /// Asks the server to end (SIGTERM), if it runs, and waits until it has.
    ///
    /// # Panics
    /// If it has not within the tests' patience.
    pub fn terminate(&self) {
        if self.has_ended() {
            return self.kill();
        }
        self.signal("-TERM");
        let end = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < end, "{} does not end:\n{}", self.name(), self.log());
            std::thread::sleep(POLL);
        }
        // Takes note that it is gone.
        self.kill();
    }

    /// Whether there is no running process.
    pub fn has_ended(&self) -> bool {
        match &mut *self.process() {
            Process::Running(child) => child.try_wait().expect("it is ours to wait for").is_some(),
            Process::Gone => true,
        }
    }

    /// Starts the server if it has ended, and waits until JetStream answers. Somebody may have had one of its ports
    /// meanwhile; it is waited for.
    ///
    /// # Panics
    /// As [`NatsServer::wait_until_ready`].
    pub fn heal(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.has_ended() {
                self.kill();
                self.launch();
            }
            match self.wait_until_ready() {
                Ok(()) => return,
                Err(PortTaken) => assert!(Instant::now() < end, "a port of {} stays taken", self.name()),
            }
            std::thread::sleep(POLL);
        }
    }
}
