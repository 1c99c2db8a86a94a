//! Metrics of what not every process has.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A metric of what not every process has: it does not show before somebody has taken it, since a zero of what is not
/// there would be read as a fault. A clone is the same metric.
#[derive(Debug, Clone, Default)]
pub struct Sometimes<M>(Arc<OnceLock<M>>);

impl<M: Default> Sometimes<M> {
    /// The metric, which shows from now on.
    #[must_use]
    pub fn get(&self) -> &M {
        self.0.get_or_init(M::default)
    }
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Sometimes<M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.get().map_or(Ok(()), |metric| metric.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }
}
