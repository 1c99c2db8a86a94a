//! Appends uploads to a file for each day, `2026-01-01.jsonl`, an event a line: once each, and in an object's order.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use upcall_consumer::{Item, Sink, Source, Verdict};
use upcall_event::{Event, EventId};

/// How many days' ids are kept in memory. Those of other days are read from their files when they are needed.
const DAYS_MAX: usize = 3;

/// The sink.
pub struct JsonLines {
    days: Arc<Mutex<Days>>,
}

impl JsonLines {
    /// A sink that writes into this folder. It is made when the consumer starts.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { days: Arc::new(Mutex::new(Days { folder: folder.into(), known: BTreeMap::new() })) }
    }

    /// Does something with the files, beside the runtime's threads.
    async fn with_days<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Days) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let days = Arc::clone(&self.days);
        // It goes on to its end if this future is dropped; the next call waits for the lock.
        let work = move || work(&mut days.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

#[async_trait]
impl Sink for JsonLines {
    async fn prepare(&self) -> Result<(), Source> {
        Ok(self.with_days(|days| fs::create_dir_all(&days.folder)).await?)
    }

    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict> {
        let events: Vec<Event> = batch.iter().map(|item| item.event.clone()).collect();
        let verdict = match self.with_days(move |days| days.append(&events)).await {
            Ok(()) => Verdict::Done,
            // A file that can't be written is nobody's fault among the events: they wait until it can.
            Err(error) => Verdict::Unavailable { reason: error.to_string() },
        };
        vec![verdict; batch.len()]
    }

    fn ordered_by_object(&self) -> bool {
        true
    }
}

struct Days {
    folder: PathBuf,
    known: BTreeMap<String, Known>,
}

/// What is known of a day's file.
#[derive(Default)]
struct Known {
    length: u64,
    ids: HashSet<EventId>,
}

impl Days {
    fn append(&mut self, events: &[Event]) -> io::Result<()> {
        let mut by_day: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
        for event in events {
            // RFC 3339 begins with the date.
            let day = event.time.to_string().chars().take("2026-01-01".len()).collect();
            by_day.entry(day).or_default().push(event);
        }
        for (day, events) in by_day {
            let file = self.folder.join(format!("{day}.jsonl"));
            // What failed is not known: it is read again.
            let mut known = self.known.remove(&day).unwrap_or_default();
            known.append(&file, &events)?;
            self.known.insert(day, known);
            while self.known.len() > DAYS_MAX {
                self.known.pop_first();
            }
        }
        Ok(())
    }
}

impl Known {
    fn append(&mut self, path: &Path, events: &[&Event]) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        // Nobody else looks or writes meanwhile. Let go of when the file is closed.
        file.lock()?;
        if file.metadata()?.len() != self.length {
            *self = Self::read(&mut file)?;
        }
        let mut lines = Vec::new();
        for event in events.iter().filter(|event| self.ids.insert(event.id)) {
            lines.extend(event.to_structured());
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        // Done means durable.
        file.sync_data()?;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Reads which events a file has. A last line without its end was never done, and is cut off.
    fn read(file: &mut File) -> io::Result<Self> {
        let mut content = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut content)?;
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < content.len() {
            file.set_len(whole as u64)?;
        }
        let lines = content[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let ids = lines.map(|line| Event::from_structured(line).map(|event| event.id).map_err(io::Error::other));
        Ok(Self { length: whole as u64, ids: ids.collect::<io::Result<_>>()? })
    }
}
