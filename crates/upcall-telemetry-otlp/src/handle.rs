//! A way to telemetry from elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::watch;
use upcall_telemetry::metrics::{Metrics, TelemetryFamily, TelemetryLabels};

use crate::options::Options;
use crate::processor::Line;
use crate::queue::{Queue, Side, Wanted};
use crate::telemetry::StartError;
use crate::transport::{Kind, Transport};

/// A way to telemetry from elsewhere. A clone is the same.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) spans: Queue<Span>,
    pub(crate) lines: Queue<Line>,
    /// Who wants metrics to be sent now.
    pub(crate) metrics: Queue<Wanted>,
    pub(crate) sides: [Arc<Side>; Kind::ALL.len()],
    pub(crate) transport: watch::Sender<Transport>,
}

/// Another way to the same collector.
#[derive(Debug)]
pub struct Renewal(Transport);

/// What is sent before somebody goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flush {
    /// How long it may take.
    pub limit: Duration,
    /// Whether metrics are sent in any case, and not only where it is time for them.
    pub metrics: bool,
    /// Whether it waits though somebody has just waited in vain.
    pub insists: bool,
}

impl Renewal {
    /// With the headers and authorities of these options; everything else is to be as it was.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub fn new(options: &Options) -> Result<Self, StartError> {
        Transport::new(options).map(Self)
    }
}

impl Handle {
    /// Has the next request go another way. One that is under way is finished as it was begun.
    pub fn renew(&self, Renewal(transport): Renewal) {
        self.transport.send_replace(transport);
    }

    /// Waits until the spans and lines that there are now have been sent, and metrics, too. It does not wait for longer
    /// than it may, nor for a collector that does not take them; and after that, for some time, it does not wait at all.
    pub async fn flush(&self, flush: Flush) {
        let Flush { limit, metrics, insists } = flush;
        if metrics {
            self.metrics.put(|| Wanted);
        }
        tokio::join!(
            self.spans.flush(limit, insists),
            self.lines.flush(limit, insists),
            self.metrics.flush(limit, insists)
        );
    }

    /// Counts what became of telemetry.
    pub(crate) fn count(&self, metrics: &Metrics) {
        for (kind, side) in Kind::ALL.into_iter().zip(&self.sides) {
            let labels = TelemetryLabels { signal: kind.name() };
            let set = |family: &TelemetryFamily, number| {
                family.get_or_create_owned(&labels).inner().store(number, Ordering::Relaxed);
            };
            set(&metrics.telemetry_sent, side.counts.sent());
            set(&metrics.telemetry_dropped, side.counts.dropped());
        }
    }
}
