//! The labels of metrics, each with what its values are.

use prometheus_client::encoding::EncodeLabelSet;

/// A set of labels that says what its values are.
pub(super) trait Labels {
    /// Each label's name and what it takes.
    const LABELS: &'static [(&'static str, &'static str)];
}

macro_rules! labels {
    ($(#[doc = $doc:literal] $name:ident { $($(#[doc = $values:literal])+ $label:ident: $type:ty,)+ })+) => {$(
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            $($(#[doc = $values])+ pub $label: $type,)+
        }

        impl Labels for $name {
            const LABELS: &'static [(&'static str, &'static str)] = &[$((stringify!($label), concat!($($values),+))),+];
        }
    )+};
}

labels! {
    /// Labels of a callback's outcome.
    CallbackLabels {
        /// The route's name; empty where no route was found.
        route: String,
        /// `accepted`, `duplicate`, or the code of the error that was answered.
        outcome: &'static str,
    }
    /// Labels of a stage's duration.
    StageLabels {
        /// `read`, `verify`, `publish`, `ask`, `respond` or `total`.
        stage: &'static str,
    }
    /// Labels of an event that was given to the bus.
    PublishLabels {
        /// `published`, `spilled` (to the journal, since NATS did not take it in time), `duplicate`, or the code of the error:
        /// `bus_busy`, `bus_timeout`, `bus_full`, `bus_unavailable`, `bus_rejected`.
        outcome: &'static str,
    }
    /// Labels of a proof.
    ProofLabels {
        /// The route's name.
        route: String,
        /// `signature`, `grant` or `confirmed`.
        proof: &'static str,
    }
    /// Labels of a question to a service.
    QuestionLabels {
        /// The route's name.
        route: String,
        /// `answered`, `vetoed`, or why the service had no say.
        outcome: &'static str,
    }
    /// Labels of a field that could not be read.
    FieldLabels {
        /// The route's name.
        route: String,
        /// The event's field.
        field: &'static str,
    }
    /// Labels of a rejected callback on its way to the quarantine.
    QuarantineLabels {
        /// `kept`, `limited` (too many of its code came), or `overflowed` (too many waited for the bus).
        outcome: &'static str,
    }
    /// Labels of a configuration that was read while the process runs.
    ReloadLabels {
        /// `applied`, `unchanged`, `invalid` (it has mistakes), `needs_restart` (it changes what can't be changed at run time),
        /// or `failed` (a part of it can't be built).
        outcome: &'static str,
    }
    /// Labels of what concerns one consumer.
    ConsumerLabels {
        /// The consumer's name.
        consumer: String,
    }
    /// Labels of a consumer's deliveries.
    DeliveryLabels {
        /// The consumer's name.
        consumer: String,
        /// `done`, `skipped` (the condition leaves it out), `retried`, `dead`, `handed_back`, or `unsettled` (the bus did not
        /// take what became of it, and delivers it again).
        outcome: &'static str,
    }
    /// Labels of what is sent to a collector.
    TelemetryLabels {
        /// `traces`, `metrics` or `logs`.
        signal: &'static str,
    }
}
