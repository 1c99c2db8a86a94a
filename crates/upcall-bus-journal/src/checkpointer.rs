//! Copying the write-ahead log into the database beside the writer, so that publishers don't wait for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tracing::warn;

use crate::database;
use crate::error::Cause;

/// How often a checkpoint is followed by another, of what was written meanwhile, before the writer does the rest.
const PASSES_MAX: u32 = 5;
/// What is left for the writer to copy, in pages: a few milliseconds' work.
const REST_PAGES: i64 = 512;

/// A thread that copies the write-ahead log into the database when it is told to.
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    step: Mutex<Step>,
    changed: Condvar,
}

/// Where a checkpoint is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    #[default]
    Idle,
    Running,
    /// All but a rest is copied.
    Done,
    Ended,
}

impl Checkpointer {
    pub(crate) fn start(folder: PathBuf) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let copier = Arc::clone(&shared);
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(move || copier.run(&folder))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn step(&self) -> Step {
        *self.shared.lock()
    }

    /// Begins a checkpoint, or takes note of one that is done.
    pub(crate) fn set(&self, step: Step) {
        *self.shared.lock() = step;
        self.shared.changed.notify_all();
    }

    /// Waits until no checkpoint is running.
    pub(crate) fn wait(&self) {
        let running = |step: &mut Step| *step == Step::Running;
        drop(self.shared.changed.wait_while(self.shared.lock(), running).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wait();
        self.set(Step::Ended);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported, and concerns nobody else.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, folder: &Path) {
        let mut db = None;
        loop {
            let idle = |step: &mut Step| matches!(step, Step::Idle | Step::Done);
            if *self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner) == Step::Ended {
                return;
            }
            db = copy(db, folder)
                .inspect_err(
                    |error| warn!(cause = %Cause::new(error), "the journal's write-ahead log could not be copied"),
                )
                .ok();
            let mut step = self.lock();
            if *step == Step::Running {
                *step = Step::Done;
            }
            drop(step);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy(db: Option<Connection>, folder: &Path) -> rusqlite::Result<Connection> {
    let db = match db {
        Some(db) => db,
        None => database::open_beside(folder)?,
    };
    for _ in 0..PASSES_MAX {
        if database::pages_left(&db)? < REST_PAGES {
            break;
        }
    }
    Ok(db)
}
