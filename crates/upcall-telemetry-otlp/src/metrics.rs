//! Metrics as OTLP has them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, number_data_point,
};

use crate::text::{Family, Kind, Sample};

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// Makes metrics of what was read, counted since `started`.
pub(crate) fn metrics(families: Vec<Family>, started: SystemTime, now: SystemTime) -> Vec<Metric> {
    let times = (nanos(started), nanos(now));
    families.into_iter().map(|family| metric(family, times)).collect()
}

fn metric(family: Family, times: (u64, u64)) -> Metric {
    let points = || family.samples.iter().map(|sample| number(sample, times)).collect();
    let data = match family.kind {
        Kind::Gauge => Data::Gauge(Gauge { data_points: points() }),
        Kind::Counter => {
            Data::Sum(Sum { data_points: points(), aggregation_temporality: CUMULATIVE, is_monotonic: true })
        }
        Kind::Histogram => Data::Histogram(Histogram {
            data_points: histograms(&family.samples, times),
            aggregation_temporality: CUMULATIVE,
        }),
    };
    let unit = match family.unit.as_str() {
        "seconds" => "s",
        "bytes" => "By",
        other => other,
    };
    Metric { unit: unit.to_owned(), name: family.name, description: family.help, data: Some(data), ..Metric::default() }
}

fn number(sample: &Sample, (started, now): (u64, u64)) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: started,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    }
}

/// One histogram for each set of labels, of the samples that are its parts.
fn histograms(samples: &[Sample], (started, now): (u64, u64)) -> Vec<HistogramDataPoint> {
    #[derive(Default)]
    struct Parts {
        buckets: Vec<(f64, f64)>,
        sum: f64,
        count: f64,
    }
    let mut by_labels: BTreeMap<BTreeMap<String, String>, Parts> = BTreeMap::new();
    for Sample { suffix, labels, value } in samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        let parts = by_labels.entry(labels).or_default();
        match (suffix.as_str(), bound) {
            ("_sum", _) => parts.sum = *value,
            ("_count", _) => parts.count = *value,
            ("_bucket", Some(bound)) => parts.buckets.extend(bound.parse().ok().map(|bound: f64| (bound, *value))),
            _ => {}
        }
    }
    let point = |(labels, mut parts): (_, Parts)| {
        parts.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let before = [0.0].into_iter().chain(parts.buckets.iter().map(|(_, below)| *below));
        let counts = parts.buckets.iter().zip(before).map(|((_, below), before)| whole(below - before));
        HistogramDataPoint {
            attributes: attributes(&labels),
            start_time_unix_nano: started,
            time_unix_nano: now,
            count: whole(parts.count),
            sum: Some(parts.sum),
            bucket_counts: counts.collect(),
            explicit_bounds: parts.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            ..HistogramDataPoint::default()
        }
    };
    by_labels.into_iter().map(point).collect()
}

fn attributes(labels: &BTreeMap<String, String>) -> Vec<KeyValue> {
    let value = |text: &String| Some(AnyValue { value: Some(any_value::Value::StringValue(text.clone())) });
    labels.iter().map(|(key, text)| KeyValue { key: key.clone(), value: value(text), ..KeyValue::default() }).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a count, written as a number")]
fn whole(count: f64) -> u64 {
    count.max(0.0) as u64
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use upcall_telemetry::metrics::{Metrics, StageLabels};

    use super::*;
    use crate::text::families;

    #[test]
    fn a_histogram_keeps_its_buckets() {
        let ours = Metrics::new();
        let read = ours.stage_duration.get_or_create_owned(&StageLabels { stage: "read" });
        [0.0001, 0.003, 0.003, 9.0].iter().for_each(|seconds| read.observe(*seconds));
        let all = metrics(families(&ours.encode()), UNIX_EPOCH, SystemTime::now());
        let metric = all.iter().find(|metric| metric.name == "upcall_callback_stage_duration_seconds").unwrap();
        assert_eq!(metric.unit, "s");
        let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
        let [point] = histogram.data_points.as_slice() else { panic!("{histogram:?}") };
        assert_eq!((point.count, point.bucket_counts.len(), point.explicit_bounds.len()), (4, 13, 12));
        assert_eq!(point.bucket_counts, [1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!((point.sum.unwrap() - 9.0061).abs() < 1e-9);
    }
}
