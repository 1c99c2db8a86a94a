//! Metrics, in Prometheus' format: their names, their labels, and the registry that holds them.
//!
//! Whoever counts resolves its handles once (`family.get_or_create_owned(&labels)`) and then touches an atomic only.

mod describe;
mod labels;
mod sometimes;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use describe::Description;
pub use labels::{
    CallbackLabels, ConsumerLabels, DeliveryLabels, FieldLabels, ProofLabels, PublishLabels, QuarantineLabels,
    QuestionLabels, ReloadLabels, StageLabels, TelemetryLabels,
};
pub use sometimes::Sometimes;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the duration buckets, in seconds, with OSS's 5-second limit and our own 4.5 in sight.
pub const DURATION_BUCKETS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 4.5, 5.0];

/// Counters by signal.
pub type TelemetryFamily = Family<TelemetryLabels, Counter>;

/// Makes duration histograms; a named type, since a family needs one.
#[derive(Debug, Clone)]
pub struct DurationBuckets;

impl MetricConstructor<Histogram> for DurationBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(DURATION_BUCKETS)
    }
}

type BeforeScrape = Box<dyn Fn(&Metrics) + Send + Sync>;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal $(in $unit:ident)? , new $new:expr;)+) => {
        /// Every metric of Upcall. A clone is the same metrics.
        #[derive(Clone)]
        pub struct Metrics {
            registry: Arc<Registry>,
            before_scrape: Arc<Mutex<Vec<BeforeScrape>>>,
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Metrics {
            /// Registers every metric.
            #[must_use]
            pub fn new() -> Self {
                let mut registry = Registry::default();
                $(
                    let $field: $type = $new;
                    let help = concat!($($doc),+).trim().trim_end_matches('.');
                    metrics!(@register registry, $name, help, $field.clone() $(, $unit)?);
                )+
                Self { registry: Arc::new(registry), before_scrape: Arc::default(), $($field),+ }
            }

            /// What there is to know of every metric, in the order of the reference.
            #[must_use]
            pub fn descriptions() -> Vec<Description> {
                vec![$(Description::of::<$type>($name, metrics!(@unit $($unit)?), concat!($($doc),+).trim())),+]
            }
        }
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit.as_str()) };
    (@register $registry:ident, $name:literal, $help:ident, $metric:expr) => { $registry.register($name, $help, $metric); };
    (@register $registry:ident, $name:literal, $help:ident, $metric:expr, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric);
    };
}

metrics! {
    /// Callbacks answered, by route and outcome.
    callbacks: Family<CallbackLabels, Counter> = "upcall_callbacks", new Family::default();
    /// Time that a callback spent in each stage; `total` counts from the request's head to the answer. OSS gives up after
    /// 5 seconds.
    stage_duration: Family<StageLabels, Histogram, DurationBuckets> = "upcall_callback_stage_duration" in Seconds,
        new Family::new_with_constructor(DurationBuckets);
    /// Callbacks whose event is durable, whatever the uploader was told in the end. Always the sum of what is `published`,
    /// `spilled` and `duplicate` in `upcall_publishes_total`.
    accepted: Sometimes<Counter> = "upcall_accepted_callbacks", new Sometimes::default();
    /// Events given to the bus, by what became of that.
    publishes: Family<PublishLabels, Counter> = "upcall_publishes", new Family::default();
    /// What was proved about callbacks that were admitted. One callback may have several proofs.
    proofs: Family<ProofLabels, Counter> = "upcall_proofs", new Family::default();
    /// Questions to the services that compute answers, by route and outcome.
    questions: Family<QuestionLabels, Counter> = "upcall_service_questions", new Family::default();
    /// Callbacks that are being worked on.
    callbacks_in_flight: Sometimes<Gauge> = "upcall_callbacks_in_flight", new Sometimes::default();
    /// Connections that are open on the callback listener.
    connections: Sometimes<Gauge> = "upcall_connections_open", new Sometimes::default();
    /// Connections that were closed at once, because too many were open.
    connections_refused: Sometimes<Counter> = "upcall_connections_refused", new Sometimes::default();
    /// Fields of accepted callbacks that are not of their type; their raw value is kept under `extra`.
    fields_unread: Family<FieldLabels, Counter> = "upcall_event_fields_unread", new Family::default();
    /// Refused callbacks that were counted and not logged, because too many were refused at once.
    rejections_unlogged: Sometimes<Counter> = "upcall_rejections_unlogged", new Sometimes::default();
    /// Refused callbacks on their way to the quarantine: those that are kept there, and those that are not.
    quarantine: Family<QuarantineLabels, Counter> = "upcall_quarantine_callbacks", new Family::default();
    /// Public keys of callbacks that were fetched, successfully or not.
    key_fetches: Sometimes<Counter> = "upcall_key_fetches", new Sometimes::default();
    /// The sequence of the newest event in the journal.
    journal_sequence: Sometimes<Gauge> = "upcall_journal_sequence", new Sometimes::default();
    /// Space that the journal takes on disk.
    journal_size: Sometimes<Gauge> = "upcall_journal_size" in Bytes, new Sometimes::default();
    /// Whether the journal takes events: 1 if the last attempt to write succeeded.
    journal_writable: Sometimes<Gauge> = "upcall_journal_writable", new Sometimes::default();
    /// Events that a consumer had not settled when they were dropped, past their retention. Only with
    /// `retention.drop_unsettled`.
    journal_dropped: Family<ConsumerLabels, Counter> = "upcall_journal_dropped_unsettled_events", new Family::default();
    /// Whether NATS can be reached and its streams take events: 1 if so.
    nats_ready: Sometimes<Gauge> = "upcall_nats_ready", new Sometimes::default();
    /// Events in the journal that the stream on NATS has not acknowledged.
    relay_backlog: Sometimes<Gauge> = "upcall_relay_backlog_events", new Sometimes::default();
    /// Age of the oldest event in the journal that the stream has not acknowledged; 0 when there is none.
    relay_backlog_age: Sometimes<Gauge> = "upcall_relay_backlog_age" in Seconds, new Sometimes::default();
    /// Events that the stream has acknowledged, and that stay in the journal until the server has synced them.
    relay_unconfirmed: Sometimes<Gauge> = "upcall_relay_unconfirmed_events", new Sometimes::default();
    /// Events that the stream has acknowledged to the relay.
    relay_relayed: Sometimes<Counter> = "upcall_relay_relayed_events", new Sometimes::default();
    /// How often the server came back with less than it had acknowledged to the relay.
    relay_losses: Sometimes<Counter> = "upcall_relay_losses", new Sometimes::default();
    /// Events that were sent again, because the server had come back without them.
    relay_resent: Sometimes<Counter> = "upcall_relay_resent_events", new Sometimes::default();
    /// Events that the server refuses for good, or whose subject its stream does not capture, set aside.
    relay_set_aside: Sometimes<Gauge> = "upcall_relay_set_aside_events", new Sometimes::default();
    /// Events that went to the journal because NATS did not take them in time, as the journal's side counts them.
    spilled: Sometimes<Counter> = "upcall_spilled_events", new Sometimes::default();
    /// Spans and log lines that a collector has taken, and how often it has taken metrics.
    telemetry_sent: TelemetryFamily = "upcall_telemetry_sent", new Family::default();
    /// Spans and log lines that were dropped, since they had no room or the collector refused them, and how often metrics were.
    telemetry_dropped: TelemetryFamily = "upcall_telemetry_dropped", new Family::default();
    /// Deliveries that have come to an end, by consumer and outcome.
    deliveries: Family<DeliveryLabels, Counter> = "upcall_consumer_deliveries", new Family::default();
    /// Events that a consumer's sink has in hand.
    consumer_in_flight: Family<ConsumerLabels, Gauge> = "upcall_consumer_in_flight_events", new Family::default();
    /// Events on the bus that a consumer has not settled. On NATS it is the same number in each process that runs the
    /// consumer.
    consumer_lag: Family<ConsumerLabels, Gauge> = "upcall_consumer_lag_events", new Family::default();
    /// Dead letters of a consumer, until somebody retries or drops them. On NATS it is the same number in each process that
    /// runs the consumer.
    consumer_dead: Family<ConsumerLabels, Gauge> = "upcall_consumer_dead_letters", new Family::default();
    /// Age of the oldest event that a consumer has not settled; 0 when there is none.
    consumer_oldest: Family<ConsumerLabels, Gauge> = "upcall_consumer_oldest_unsettled_age" in Seconds, new Family::default();
    /// Whether the journal keeps events beyond their retention, since a consumer has not settled them: 1 if so. The relay
    /// counts as the consumer `relay`.
    consumer_overdue: Family<ConsumerLabels, Gauge> = "upcall_consumer_overdue", new Family::default();
    /// Whether a consumer's target takes events: 1 if it does.
    consumer_ready: Family<ConsumerLabels, Gauge> = "upcall_consumer_ready", new Family::default();
    /// Changed configurations that were read while the process runs, by what became of them.
    config_reloads: Family<ReloadLabels, Counter> = "upcall_config_reloads", new Family::default();
    /// Whether the configuration as it is now was refused, so that an older one is in force: 1 if so.
    config_refused: Sometimes<Gauge> = "upcall_config_refused", new Sometimes::default();
    /// Since when the configuration is in force that is, in seconds since 1970.
    config_since: Sometimes<Gauge> = "upcall_config_in_force_since_timestamp" in Seconds, new Sometimes::default();
}

impl Metrics {
    /// Has something bring metrics up to date before they are read: a value that is known elsewhere.
    pub fn before_scrape(&self, update: impl Fn(&Self) + Send + Sync + 'static) {
        self.before_scrape.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(update));
    }

    /// Writes all metrics in OpenMetrics text format. Brings them up to date first, which may read files: not
    /// for a thread that must not block.
    #[must_use]
    pub fn encode(&self) -> String {
        for update in &*self.before_scrape.lock().unwrap_or_else(PoisonError::into_inner) {
            update(self);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
