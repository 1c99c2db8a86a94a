//! Requests as they go to a collector: protobuf, made once. And what it answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry::InstrumentationScope;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope as ProtoScope;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use prost::Message;

use crate::processor::Line;

/// The name of the scope that everything is of.
pub(crate) const SCOPE: &str = "upcall";

pub(crate) fn of_spans(spans: Vec<Span>, resource: &ResourceAttributesWithSchema) -> Bytes {
    let resource_spans = vec![ResourceSpans {
        resource: Some(of_process(resource)),
        scope_spans: vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

pub(crate) fn of_lines(lines: Vec<Line>, resource: &ResourceAttributesWithSchema) -> Bytes {
    let mut by_scope: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for Line { scope, record } in lines {
        by_scope.entry(scope).or_default().push(record);
    }
    let of_scope = |(name, log_records)| {
        let scope = Some(ProtoScope { name, ..ProtoScope::default() });
        ScopeLogs { scope, log_records, ..ScopeLogs::default() }
    };
    let resource_logs = vec![ResourceLogs {
        resource: Some(of_process(resource)),
        scope_logs: by_scope.into_iter().map(of_scope).collect(),
        ..ResourceLogs::default()
    }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
}

pub(crate) fn of_metrics(metrics: Vec<Metric>, resource: &ResourceAttributesWithSchema) -> Bytes {
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(of_process(resource)),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec().into()
}

fn of_process(resource: &ResourceAttributesWithSchema) -> ProtoResource {
    ProtoResource { attributes: resource.attributes.0.clone(), ..ProtoResource::default() }
}

fn scope() -> ProtoScope {
    let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
    (&scope, None).into()
}

/// What a collector has to say of a request that it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// How many of the request's things it has refused.
    pub(crate) refused: usize,
    /// Why.
    pub(crate) reason: String,
}

impl Answer {
    /// Reads an answer, which has the same form for everything. `None` if it is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let partial = ExportTraceServiceResponse::decode(bytes).ok()?.partial_success.unwrap_or_default();
        let refused = usize::try_from(partial.rejected_spans).unwrap_or_default();
        Some(Self { refused, reason: partial.error_message })
    }
}
