//! From the SDK into the queues.

use std::time::Duration;

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use prost::Message;

use crate::queue::{Load, Queue};
use crate::trim;

/// Puts spans that have ended into a queue.
#[derive(Debug)]
pub(crate) struct Spans(pub(crate) Queue<v1::Span>);

impl SpanProcessor for Spans {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.put(|| {
                let mut span = v1::Span::from(span);
                trim::span(&mut span);
                span
            });
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Puts log lines into a queue.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) Queue<Line>);

/// A log line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// Whose it is: a module's name.
    pub(crate) scope: String,
    pub(crate) record: LogRecord,
}

impl Load for v1::Span {
    fn bytes(&self) -> usize {
        self.encoded_len()
    }
}

impl Load for Line {
    fn bytes(&self) -> usize {
        self.scope.len() + self.record.encoded_len()
    }
}

impl LogProcessor for Lines {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.put(|| {
            let mut line = LogRecord::from(&*record);
            trim::line(&mut line);
            Line { scope: record.target().map_or(scope.name(), AsRef::as_ref).to_owned(), record: line }
        });
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
