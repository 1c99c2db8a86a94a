//! Which traces are recorded, and how spans of several processes come to be one trace.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use upcall_event::TraceContext;
use upcall_telemetry::trace::Recorder;

/// Records by OpenTelemetry.
pub(crate) struct OtelRecorder {
    /// A trace is recorded whose id is below this.
    limit: u64,
    ids: RandomIdGenerator,
}

/// Of an id, what decides: as OpenTelemetry's own sampler by ratio does it.
const DECIDING_BITS: u32 = 63;

impl OtelRecorder {
    /// Records this share of the traces that begin here.
    pub(crate) fn new(sample: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the share is from 0 to 1")]
        let limit = (sample.clamp(0.0, 1.0) * (1_u64 << DECIDING_BITS) as f64) as u64;
        Self { limit, ids: RandomIdGenerator::default() }
    }
}

impl Recorder for OtelRecorder {
    fn samples(&self) -> bool {
        // An id like a trace's: the SDK draws the trace's own when there is a span of it.
        u64::from_be_bytes(self.ids.new_span_id().to_bytes()) >> 1 < self.limit
    }

    fn follow(&self, span: &Span, parent: &TraceContext) {
        let state = parent.state().and_then(|state| state.as_str().parse::<TraceState>().ok());
        let parent = SpanContext::new(
            TraceId::from_bytes(parent.trace_id()),
            SpanId::from_bytes(parent.span_id()),
            TraceFlags::SAMPLED,
            true,
            state.unwrap_or_default(),
        );
        // An error means that the span is not recorded, as at the end of the process.
        let _unrecorded = span.set_parent(Context::new().with_remote_span_context(parent));
    }

    fn link(&self, span: &Span, to: &Span) {
        span.add_link(to.context().span().span_context().clone());
    }

    fn rename(&self, span: &Span, name: String) {
        span.context().span().update_name(name);
    }

    fn context(&self, span: &Span) -> Option<TraceContext> {
        let context = span.context();
        let context = context.span().span_context().clone();
        let ours =
            TraceContext::new(context.trace_id().to_bytes(), context.span_id().to_bytes(), context.is_sampled())?;
        Some(ours.with_state(upcall_event::TraceState::parse(&context.trace_state().header()).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_recorded_is_the_share_that_is_asked_for() {
        for (sample, least, most) in [(0.0, 0, 0), (1.0, 10_000, 10_000), (0.01, 50, 200), (0.5, 4_700, 5_300)] {
            let recorder = OtelRecorder::new(sample);
            let recorded = (0..10_000).filter(|_| recorder.samples()).count();
            assert!((least..=most).contains(&recorded), "{sample}: {recorded}");
        }
    }
}
