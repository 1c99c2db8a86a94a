//! Changing what is logged while the process runs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{Level, enabled, info};
use tracing_subscriber::EnvFilter;

use super::filter::{self, FilterError};

/// A handle to change what is logged; cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    apply: Box<dyn Fn(EnvFilter) + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    configured: String,
    set: Option<String>,
    /// Grows with each change, so that a change that is to end after a while does not end a later one.
    change: u64,
}

/// What is logged, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The filter that holds.
    pub filter: String,
    /// What the configuration says.
    pub configured: String,
    /// Which change this is; grows with each.
    pub change: u64,
}

impl Control {
    pub(super) fn new(configured: &str, apply: impl Fn(EnvFilter) + Send + Sync + 'static) -> Self {
        let state = State { configured: configured.to_owned(), set: None, change: 0 };
        Self(Arc::new(Inner { apply: Box::new(apply), state: Mutex::new(state) }))
    }

    /// What is logged now.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.lock().shown()
    }

    /// Logs by another filter, whatever the configuration says, until [`Control::revert`].
    ///
    /// # Errors
    /// If it is none; then nothing changes.
    pub fn set(&self, filter: &str) -> Result<Shown, FilterError> {
        let parsed = filter::parse(filter)?;
        let mut state = self.lock();
        state.set = Some(filter.to_owned());
        Ok(self.changed(&mut state, parsed))
    }

    /// Goes back to what the configuration says; where a change is named, only if there has been none since.
    pub fn revert(&self, change: Option<u64>) -> Shown {
        let mut state = self.lock();
        let is_meant = state.set.is_some() && change.is_none_or(|change| change == state.change);
        match filter::parse(&state.configured) {
            Ok(parsed) if is_meant => {
                state.set = None;
                self.changed(&mut state, parsed)
            }
            // What is configured was checked.
            _ => state.shown(),
        }
    }

    /// Takes note of a changed configuration. A filter that was set by hand stays.
    ///
    /// # Errors
    /// If it is no filter; then nothing changes.
    pub fn configure(&self, filter: &str) -> Result<(), FilterError> {
        let parsed = filter::parse(filter)?;
        let mut state = self.lock();
        let is_new = state.configured != filter;
        filter.clone_into(&mut state.configured);
        if is_new && state.set.is_none() {
            self.changed(&mut state, parsed);
        }
        Ok(())
    }

    fn changed(&self, state: &mut State, parsed: EnvFilter) -> Shown {
        state.change += 1;
        let shown = state.shown();
        // Said once: by the filter that goes, or by the one that comes where the other lets no such line pass.
        let say = || info!(target: TARGET, filter = shown.filter, "what is logged changes");
        let is_said = enabled!(target: TARGET, Level::INFO);
        if is_said {
            say();
        }
        (self.0.apply)(parsed);
        if !is_said {
            say();
        }
        shown
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose line it is when the filter changes.
const TARGET: &str = "upcall_telemetry";

impl State {
    fn shown(&self) -> Shown {
        let filter = self.set.as_ref().unwrap_or(&self.configured).clone();
        Shown { filter, configured: self.configured.clone(), change: self.change }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Control").field(&self.shown()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_by_hand_ends_when_it_is_told_to_and_not_a_later_one() {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&applied);
        let control = Control::new("info", move |filter| seen.lock().unwrap().push(filter.to_string()));
        let first = control.set("debug").unwrap();
        let second = control.set("trace").unwrap();
        assert_eq!(control.revert(Some(first.change)), second, "another one was set meanwhile");
        assert!(control.set("nonsense").is_err());
        control.configure("warn").unwrap();
        assert_eq!(control.shown().filter, "trace", "by hand goes before the configuration");
        assert_eq!(control.revert(Some(second.change)).filter, "warn");
        control.configure("error").unwrap();
        assert_eq!(control.shown().filter, "error");
        assert_eq!(*applied.lock().unwrap(), ["debug", "trace", "warn", "error"]);
    }
}
