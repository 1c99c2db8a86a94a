//! Requests as they go to a collector: protobuf, made once.

use bytes::Bytes;
use opentelemetry::InstrumentationScope;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::logs::{LogBatch, SdkLogRecord};
use opentelemetry_sdk::trace::SpanData;
use prost::Message;

/// The name of the scope that everything is of.
pub(crate) const SCOPE: &str = "upcall";

pub(crate) fn of_spans(spans: Vec<SpanData>, resource: &ResourceAttributesWithSchema) -> Bytes {
    let resource_spans = group_spans_by_resource_and_scope(spans, resource);
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

pub(crate) fn of_lines(
    lines: Vec<(SdkLogRecord, InstrumentationScope)>,
    resource: &ResourceAttributesWithSchema,
) -> Bytes {
    let lines: Vec<_> = lines.iter().map(|(line, scope)| (line, scope)).collect();
    let resource_logs = group_logs_by_resource_and_scope(&LogBatch::new(&lines), resource);
    ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
}

pub(crate) fn of_metrics(metrics: Vec<Metric>, resource: &ResourceAttributesWithSchema) -> Bytes {
    let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(ProtoResource { attributes: resource.attributes.0.clone(), ..ProtoResource::default() }),
        scope_metrics: vec![ScopeMetrics { scope: Some((&scope, None).into()), metrics, schema_url: String::new() }],
        schema_url: String::new(),
    }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec().into()
}

/// How many of a request's things a collector has refused, and why. Its answer has the same form for all of them.
pub(crate) fn refused(answer: &[u8]) -> Option<(usize, String)> {
    let partial = ExportTraceServiceResponse::decode(answer).ok()?.partial_success?;
    let number = usize::try_from(partial.rejected_spans).ok().filter(|number| *number > 0)?;
    Some((number, partial.error_message))
}
