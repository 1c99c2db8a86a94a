//! The sink: one run for each event, one after another.

use std::time::Duration;

use async_trait::async_trait;
use upcall_consumer::{Item, Sink, Source, Verdict};
use upcall_telemetry::trace;

use crate::closing::Closing;
use crate::program::{self, End};
use crate::verdict::{of_status, reason};
use crate::{Options, Unfit};

/// Runs a program for each event.
///
/// A batch's events go one after another, so the consumer's `concurrency` is how many programs run at once. Of an
/// object's events one runs at a time. Whether an effect happens once is the program's to see to: `UPCALL_EVENT_ID` is
/// the same whenever an event comes again. The exit status is the verdict: 0 is done; 65 (`EX_DATAERR`) and 100 make a
/// dead letter; 69 (`EX_UNAVAILABLE`) is an outage; everything else, a signal and a timeout are a failure to be tried
/// again.
pub struct CommandSink {
    options: Options,
    closing: Closing,
}

impl CommandSink {
    /// Makes a sink. The program is looked for when the consumer starts.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, closing: Closing::new() }
    }

    /// Looks whether the program is there and may be run.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub fn check(&self) -> Result<(), Unfit> {
        program::check(&self.options)
    }

    async fn take(&self, item: &Item<'_>) -> Verdict {
        if self.closing.has_begun() {
            return Verdict::Unavailable { reason: "the consumer shuts down".to_owned() };
        }
        match program::run(&self.options, item, &self.closing).await {
            Ok((End::Exited(status), said)) => of_status(status, &said),
            Ok((End::TimedOut, said)) => {
                let how = format!("it took longer than {:?} and was ended", self.options.timeout);
                Verdict::Retry { after: None, reason: reason(&how, &said) }
            }
            Ok((End::ShutDown, said)) => {
                Verdict::Unavailable { reason: reason("it was ended, since the consumer shuts down", &said) }
            }
            Err(error) => {
                let program = self.options.program.display();
                Verdict::Unavailable { reason: format!("the program {program} can't be run: {error}") }
            }
        }
    }
}

#[async_trait]
impl Sink for CommandSink {
    async fn prepare(&self) -> Result<(), Source> {
        Ok(self.check()?)
    }

    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for item in batch {
            let verdict = match verdicts.last() {
                // It would be so for each.
                Some(outage @ Verdict::Unavailable { .. }) => Verdict::clone(outage),
                _ => {
                    let span = trace::sink(item.span, "program");
                    let verdict = self.take(&Item { span: Some(&span), ..*item }).await;
                    trace::ended(&span, "upcall.outcome", verdict.name(), verdict != Verdict::Done);
                    verdict
                }
            };
            verdicts.push(verdict);
        }
        verdicts
    }

    /// A program that has not ended by then is told to in time, and then killed.
    fn drain(&self, time: Duration) {
        self.closing.begin(time);
    }

    fn ordered_by_object(&self) -> bool {
        true
    }
}
