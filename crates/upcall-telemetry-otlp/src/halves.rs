//! A request that is too much for the collector, made two.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;

use crate::transport::Kind;

/// A request's body, and how much is counted for it: of spans and lines each, of metrics the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) body: Bytes,
    pub(crate) number: usize,
}

/// The halves of a request. `None` where there is but one thing in it.
pub(crate) fn halves(kind: Kind, body: &Bytes) -> Option<[Piece; 2]> {
    match kind {
        Kind::Traces => {
            let whole = ExportTraceServiceRequest::decode(body.clone()).ok()?;
            split(whole, |whole| Some(&mut whole.resource_spans.first_mut()?.scope_spans), |scope| &mut scope.spans)
        }
        Kind::Logs => {
            let whole = ExportLogsServiceRequest::decode(body.clone()).ok()?;
            split(whole, |whole| Some(&mut whole.resource_logs.first_mut()?.scope_logs), |scope| &mut scope.log_records)
        }
        Kind::Metrics => {
            let mut whole = ExportMetricsServiceRequest::decode(body.clone()).ok()?;
            let scope = whole.resource_metrics.first_mut()?.scope_metrics.first_mut()?;
            if let [only] = scope.metrics.as_mut_slice() {
                let other = half_of_points(only)?;
                scope.metrics.push(other);
            }
            let halves = split(
                whole,
                |whole| Some(&mut whole.resource_metrics.first_mut()?.scope_metrics),
                |scope| &mut scope.metrics,
            )?;
            Some(halves.map(|half| Piece { number: 1, ..half }))
        }
    }
}

/// Makes two requests of one, each with half of the things.
fn split<M: Message + Clone, S, T>(
    mut first: M,
    scopes: for<'m> fn(&'m mut M) -> Option<&'m mut Vec<S>>,
    items: impl Fn(&mut S) -> &mut Vec<T>,
) -> Option<[Piece; 2]> {
    let mut second = first.clone();
    let [of_first, of_second] = halve(scopes(&mut first)?, scopes(&mut second)?, items)?;
    let piece = |request: M, number| Piece { body: request.encode_to_vec().into(), number };
    Some([piece(first, of_first), piece(second, of_second)])
}

/// Of two that are the same, leaves the first half in one and the second in the other, and says how many are in each.
fn halve<S, T>(first: &mut Vec<S>, second: &mut Vec<S>, items: impl Fn(&mut S) -> &mut Vec<T>) -> Option<[usize; 2]> {
    let number: usize = first.iter_mut().map(|scope| items(scope).len()).sum();
    if number < 2 {
        return None;
    }
    let half = number / 2;
    let mut left = half;
    for (first, second) in first.iter_mut().zip(second.iter_mut()) {
        let (first, second) = (items(first), items(second));
        let here = left.min(first.len());
        first.truncate(here);
        second.drain(..here);
        left -= here;
    }
    for scopes in [first, second] {
        scopes.retain_mut(|scope| !items(scope).is_empty());
    }
    Some([half, number - half])
}

/// Takes half of a metric's points away, and gives back the same metric with them.
fn half_of_points(metric: &mut Metric) -> Option<Metric> {
    fn half<T>(points: &mut Vec<T>) -> Option<Vec<T>> {
        (points.len() > 1).then(|| points.split_off(points.len() / 2))
    }
    let data = match metric.data.as_mut()? {
        Data::Gauge(gauge) => {
            let data_points = half(&mut gauge.data_points)?;
            Data::Gauge(opentelemetry_proto::tonic::metrics::v1::Gauge { data_points })
        }
        Data::Sum(sum) => {
            let data_points = half(&mut sum.data_points)?;
            Data::Sum(opentelemetry_proto::tonic::metrics::v1::Sum { data_points, ..*sum })
        }
        Data::Histogram(histogram) => {
            let data_points = half(&mut histogram.data_points)?;
            Data::Histogram(opentelemetry_proto::tonic::metrics::v1::Histogram { data_points, ..*histogram })
        }
        // We make no others.
        Data::ExponentialHistogram(_) | Data::Summary(_) => return None,
    };
    let (name, description, unit) = (metric.name.clone(), metric.description.clone(), metric.unit.clone());
    Some(Metric { name, description, unit, data: Some(data), ..Metric::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::SystemTime;

    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
    use opentelemetry_sdk::Resource;
    use proptest::prelude::*;
    use upcall_telemetry::metrics::{ConsumerLabels, Metrics};

    use super::*;
    use crate::processor::Line;
    use crate::{body, metrics, text};

    fn resource() -> ResourceAttributesWithSchema {
        (&Resource::builder().with_service_name("upcall").build()).into()
    }

    /// Halves until nothing can be halved any more.
    fn crumbs(kind: Kind, body: Bytes, number: usize) -> Vec<Piece> {
        match halves(kind, &body) {
            None => vec![Piece { body, number }],
            Some(both) => {
                assert!(kind == Kind::Metrics || both.iter().map(|half| half.number).sum::<usize>() == number);
                both.into_iter().flat_map(|half| crumbs(kind, half.body, half.number)).collect()
            }
        }
    }

    proptest! {
        #[test]
        fn halves_have_everything_once_and_in_order(scopes in prop::collection::vec(0..4_u8, 1..40)) {
            let number = scopes.len();
            let spans = (0..number).map(|at| Span { name: at.to_string(), ..Span::default() }).collect();
            let crumbs_of_spans = crumbs(Kind::Traces, body::of_spans(spans, &resource()), number);
            prop_assert_eq!(crumbs_of_spans.len(), number);
            for (at, crumb) in crumbs_of_spans.into_iter().enumerate() {
                prop_assert_eq!(crumb.number, 1);
                let request = ExportTraceServiceRequest::decode(crumb.body).unwrap();
                prop_assert!(request.resource_spans[0].resource.is_some());
                prop_assert_eq!(&request.resource_spans[0].scope_spans[0].spans[0].name, &at.to_string());
            }

            let line = |(at, scope): (usize, &u8)| {
                let record = LogRecord { severity_text: at.to_string(), ..LogRecord::default() };
                Line { scope: format!("scope{scope}"), record }
            };
            let lines = scopes.iter().enumerate().map(line).collect();
            let crumbs_of_lines = crumbs(Kind::Logs, body::of_lines(lines, &resource()), number);
            let mut seen = BTreeSet::new();
            for crumb in &crumbs_of_lines {
                let request = ExportLogsServiceRequest::decode(crumb.body.clone()).unwrap();
                let [scope] = request.resource_logs[0].scope_logs.as_slice() else { panic!("{request:?}") };
                let at = scope.log_records[0].severity_text.parse::<usize>().unwrap();
                prop_assert_eq!(&scope.scope.as_ref().unwrap().name, &format!("scope{}", scopes[at]));
                seen.insert(at);
            }
            prop_assert_eq!((crumbs_of_lines.len(), seen.len()), (number, number));
        }
    }

    #[test]
    fn metrics_are_halved_down_to_their_points() {
        let ours = Metrics::new();
        for at in 0..5 {
            let labels = ConsumerLabels { consumer: at.to_string() };
            ours.consumer_lag.get_or_create_owned(&labels).set(at);
        }
        ours.journal_sequence.get().set(7);
        let now = SystemTime::now();
        let metrics = metrics::metrics(text::families(&ours.encode()), now, now);
        let crumbs = crumbs(Kind::Metrics, body::of_metrics(metrics, &resource()), 1);
        assert_eq!(crumbs.len(), 6, "five consumers, and the journal");
        let points = crumbs.into_iter().map(|crumb| {
            let request = ExportMetricsServiceRequest::decode(crumb.body).unwrap();
            let [metric] = request.resource_metrics[0].scope_metrics[0].metrics.as_slice() else {
                panic!("{request:?}")
            };
            let Some(Data::Gauge(gauge)) = &metric.data else { panic!("{metric:?}") };
            assert_eq!(gauge.data_points.len(), 1);
            (metric.name.clone(), format!("{:?}", gauge.data_points[0].attributes))
        });
        assert_eq!(points.collect::<BTreeSet<_>>().len(), 6);
    }
}
