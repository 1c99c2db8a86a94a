//! The connection for gRPC.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};

/// How long a connection may have been unused. Common servers close theirs after 5 seconds, what is between may forget one,
/// and a process that was frozen is told of neither.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(4);

/// A connection for gRPC, made anew where the one that there is may be dead: one that is silent is never given up by
/// itself.
pub(crate) struct Line {
    endpoint: Endpoint,
    /// With when it was used last.
    current: Mutex<Option<(Channel, Instant)>>,
}

impl Line {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, current: Mutex::default() }
    }

    /// A connection that may be used. It connects by itself.
    pub(crate) fn channel(&self) -> Channel {
        let (mut current, now) = (self.lock(), Instant::now());
        let known = current.take().filter(|(_, used)| now.duration_since(*used) < IDLE_MAX);
        let channel = known.map_or_else(|| self.endpoint.connect_lazy(), |(channel, _)| channel);
        *current = Some((channel.clone(), now));
        channel
    }

    /// Has the next one be another.
    pub(crate) fn hang_up(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Channel, Instant)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
