//! What to run, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::program;

/// What to run, and how. [`Options::new`] has the defaults.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The program: a path, or a name without a slash that is looked for in `PATH`.
    pub program: PathBuf,
    /// Its arguments, as they are. Nothing of an event is ever among them.
    pub args: Vec<String>,
    /// Variables that it gets.
    pub env: BTreeMap<String, String>,
    /// Variables of this process that it gets, too, beside a few that every program needs.
    pub env_from: Vec<String>,
    /// The folder that it runs in; by default this process's.
    pub folder: Option<PathBuf>,
    /// How long it may take over one event.
    pub timeout: Duration,
    /// How long it has to end once it is told to, before it is killed.
    pub kill_after: Duration,
}

impl Options {
    /// Why the program can't be run on this machine as it is now, if it can't.
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        program::check(self).err().map(|unfit| unfit.to_string())
    }

    /// A program without arguments that has 20 seconds for an event, and 5 more to end.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            env_from: Vec::new(),
            folder: None,
            timeout: Duration::from_secs(20),
            kill_after: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves the values of variables and the arguments out: they may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("program", &self.program)
            .field("env", &self.env.keys())
            .field("env_from", &self.env_from)
            .field("folder", &self.folder)
            .field("timeout", &self.timeout)
            .field("kill_after", &self.kill_after)
            .finish_non_exhaustive()
    }
}
