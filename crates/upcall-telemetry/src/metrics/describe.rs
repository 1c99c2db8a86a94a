//! What there is to know of a metric, for its reference.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Sometimes;
use super::labels::Labels;

/// What there is to know of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name as it is scraped. A histogram's series have `_bucket`, `_sum` and `_count` behind it.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it is measured in, if it is measured.
    pub unit: Option<&'static str>,
    /// Each label's name and what it takes.
    pub labels: &'static [(&'static str, &'static str)],
    /// What it tells.
    pub meaning: &'static str,
}

impl Description {
    pub(super) fn of<M: Described>(name: &str, unit: Option<&'static str>, meaning: &'static str) -> Self {
        let measure = unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let ending = if M::KIND == Counter::<u64>::KIND { "_total" } else { "" };
        Self { name: format!("{name}{measure}{ending}"), kind: M::KIND, unit, labels: M::LABELS, meaning }
    }
}

/// A type of metric that says what it is.
pub(super) trait Described {
    const KIND: &'static str;
    const LABELS: &'static [(&'static str, &'static str)] = &[];
}

impl<N, A> Described for Counter<N, A> {
    const KIND: &'static str = "counter";
}

impl<N, A> Described for Gauge<N, A> {
    const KIND: &'static str = "gauge";
}

impl Described for Histogram {
    const KIND: &'static str = "histogram";
}

impl<M: Described> Described for Sometimes<M> {
    const KIND: &'static str = M::KIND;
    const LABELS: &'static [(&'static str, &'static str)] = M::LABELS;
}

impl<L: Labels, M: Described, C> Described for Family<L, M, C> {
    const KIND: &'static str = M::KIND;
    const LABELS: &'static [(&'static str, &'static str)] = L::LABELS;
}
