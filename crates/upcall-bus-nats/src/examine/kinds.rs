//! Every kind of finding about NATS.

use super::finding::Severity::{Harm, Note, Risk};
use super::{Kind, Severity};

/// All of them, in the order of the documentation.
pub const ALL: &[&Kind] = &[
    &NO_JETSTREAM,
    &SERVER_OLD,
    &ONE_SERVER,
    &CLOCK_OFF,
    &SYNC_INTERVAL,
    &SYNC_INTERVAL_UNSEEN,
    &SYNC_HOLD_SHORT,
    &PAYLOAD_SMALL,
    &NEARLY_FULL,
    &FULL,
    &STREAM_MISSING,
    &STREAM_ONE_REPLICA,
    &STREAM_REPLICA_LOST,
    &STREAM_IN_MEMORY,
    &STREAM_DISCARDS_OLD,
    &STREAM_SUBJECT_LIMIT,
    &STREAM_TRANSFORMS,
    &STREAM_RETENTION,
    &STREAM_SHORT_WINDOW,
    &STREAM_SEALED,
    &STREAM_NO_ACK,
    &STREAM_MIRROR,
    &STREAM_DIFFERS,
    &SUBJECT_UNCAPTURED,
    &SUBJECT_ELSEWHERE,
    &CONSUMER_MISSING,
    &CONSUMER_UNREAD,
    &CONSUMER_BEHIND,
    &CONSUMER_TOO_LATE,
    &CONSUMER_FULL,
    &CONSUMER_REDELIVERED,
    &CONSUMER_GIVES_UP,
    &CONSUMER_NO_ACK,
    &CONSUMER_HEADERS_ONLY,
    &CONSUMER_FILTER,
    &CONSUMER_EXPIRES,
    &CONSUMER_PAUSED,
    &DEAD_LETTERS,
    &QUARANTINE,
];

const fn kind(
    name: &'static str,
    severity: Severity,
    title: &'static str,
    why: &'static str,
    remedy: &'static str,
) -> Kind {
    Kind { name, severity, title, why, remedy }
}

pub(super) static NO_JETSTREAM: Kind = kind(
    "no-jetstream",
    Harm,
    "JetStream is off, for the server or for the account",
    "Nothing can be stored, so every callback fails.",
    "Add `jetstream { store_dir: \"…\" }` to the server's configuration, or `jetstream: enabled` to the account.",
);
pub(super) static SERVER_OLD: Kind = kind(
    "server-old",
    Risk,
    "The server is older than 2.12",
    "Upcall is tested with 2.12 and newer; what it relies on may be missing or have known faults before.",
    "Upgrade the servers, one after the other.",
);
pub(super) static ONE_SERVER: Kind = kind(
    "one-server",
    Note,
    "One server alone, so each event is stored once",
    "While it is down events are refused, or spill to the journal; a lost disk loses what it held.",
    "Where that is too little, run three servers, and set `bus.nats.streams.replicas = 3`.",
);
pub(super) static CLOCK_OFF: Kind = kind(
    "clock-off",
    Risk,
    "The server's clock and ours differ by more than 2 seconds",
    "Ages, retention, `--since` and certificates go by clocks: events may go too soon, or not be found.",
    "Let both machines keep time by NTP (`timedatectl set-ntp true`).",
);
pub(super) static SYNC_INTERVAL: Kind = kind(
    "sync-interval",
    Risk,
    "Acknowledged events are not on the server's disk at once",
    "The server acknowledges first and syncs its disk later. A power failure of all replicas takes what was answered \
     200 meanwhile (Jepsen, NATS 2.12.1: 14 % of the acknowledged messages).",
    "Set `bus.nats.ack = \"journal\"` and name a journal, or `jetstream { sync_interval: always }` on every server, \
     which then takes as many single events as its disk can sync (5,800 a second in docs/performance.md).",
);
pub(super) static SYNC_INTERVAL_UNSEEN: Kind = kind(
    "sync-interval-unseen",
    Risk,
    "How soon the server syncs its disk can't be seen",
    "Unless it is configured otherwise, that is up to 2 minutes after the acknowledgement, and a power failure of all \
     replicas takes what was answered 200 meanwhile.",
    "Set `bus.nats.monitor = \"http://HOST:8222\"` to the server's monitoring port (`http_port: 8222` in its \
     configuration), so that it can be seen; or set `bus.nats.ack = \"journal\"`, with which it does not matter.",
);
pub(super) static SYNC_HOLD_SHORT: Kind = kind(
    "sync-hold-short",
    Harm,
    "The journal lets go of events before the server has synced them",
    "A power failure of all servers takes events that have left the journal already.",
    "Set `bus.nats.sync_hold` to more than twice the server's `sync_interval`.",
);
pub(super) static PAYLOAD_SMALL: Kind = kind(
    "payload-small",
    Risk,
    "The server takes only small messages",
    "A callback with a longer body is refused.",
    "Raise `max_payload` of the servers (1 MiB is the default), or the stream's `max_msg_size`.",
);
pub(super) static NEARLY_FULL: Kind = kind(
    "nearly-full",
    Risk,
    "A stream, the account or the server is 80 % full",
    "A full one refuses events.",
    "Raise the limit, add disk, or keep events for a shorter time (`bus.nats.streams.age`).",
);
pub(super) static FULL: Kind = kind(
    "full",
    Harm,
    "A stream, the account or the server is 95 % full",
    "It refuses events already, or is about to.",
    "Raise the limit, add disk, or keep events for a shorter time (`bus.nats.streams.age`).",
);
pub(super) static STREAM_MISSING: Kind = kind(
    "stream-missing",
    Harm,
    "A stream or bucket is not there",
    "What belongs into it can't be stored.",
    "`upcall provision` makes it; with `bus.nats.provision = true`, `upcall serve` does.",
);
pub(super) static STREAM_ONE_REPLICA: Kind = kind(
    "stream-one-replica",
    Harm,
    "A stream has one replica, in a cluster",
    "When the one server that has it is down, events are refused; when its disk is lost, so are they.",
    "Set `bus.nats.streams.replicas = 3`, and run `upcall provision`.",
);
pub(super) static STREAM_REPLICA_LOST: Kind = kind(
    "stream-replica-lost",
    Risk,
    "A replica of a stream is offline or behind",
    "One more fault, and the stream has no majority and takes no events.",
    "Bring the server back; `nats server report jetstream` shows how far it is.",
);
pub(super) static STREAM_IN_MEMORY: Kind = kind(
    "stream-in-memory",
    Harm,
    "A stream is kept in memory",
    "A restart of the servers loses every event in it, answered or not.",
    "Storage can't be changed in place: make the stream anew with file storage, once its consumers are done.",
);
pub(super) static STREAM_DISCARDS_OLD: Kind = kind(
    "stream-discards-old",
    Risk,
    "A stream with limits drops its oldest events when it is full",
    "They are gone for consumers that had not come to them, and nobody is told.",
    "`upcall provision` sets the discard policy to `new`: a full stream then refuses, and the uploader knows.",
);
pub(super) static STREAM_SUBJECT_LIMIT: Kind = kind(
    "stream-subject-limit",
    Harm,
    "A stream keeps only so many events of a subject",
    "All uploads to one bucket have one subject. With each new one the stream drops an old one, also with `discard: new`, \
     whether a consumer has had it or not; with `discard_new_per_subject` it refuses the new one.",
    "`nats stream edit STREAM --max-msgs-per-subject=-1`; `upcall provision` does it, too.",
);
pub(super) static STREAM_TRANSFORMS: Kind = kind(
    "stream-transforms",
    Harm,
    "A stream changes the subjects of events",
    "Consumers select events by their subjects, and do not find those that were changed.",
    "Remove `subject_transform` from the stream; `upcall provision` does it, too.",
);
pub(super) static STREAM_RETENTION: Kind = kind(
    "stream-retention",
    Harm,
    "A stream has another retention policy than it needs",
    "Events go with the first consumer's acknowledgement, or stay for ever.",
    "`upcall provision` mends it where the server can change it in place; otherwise make the stream anew.",
);
pub(super) static STREAM_SHORT_WINDOW: Kind = kind(
    "stream-short-window",
    Harm,
    "A stream recognises ids for less than 2 minutes",
    "A callback or publication that is repeated after that makes a second event.",
    "`upcall provision` sets `bus.nats.streams.duplicate_window`.",
);
pub(super) static STREAM_SEALED: Kind = kind(
    "stream-sealed",
    Harm,
    "A stream is sealed",
    "It takes no events any more.",
    "It can't be opened again: read what it has, delete it (its events go with it), and run `upcall provision`.",
);
pub(super) static STREAM_NO_ACK: Kind = kind(
    "stream-no-ack",
    Harm,
    "A stream acknowledges nothing",
    "Upcall waits for the acknowledgement, gets none, and every callback fails.",
    "`upcall provision` mends it.",
);
pub(super) static STREAM_MIRROR: Kind = kind(
    "stream-mirror",
    Harm,
    "A stream is a mirror of another",
    "It takes no publications, only what the other has.",
    "Name the other stream in `bus.nats.stream`, or delete this one and run `upcall provision`.",
);
pub(super) static STREAM_DIFFERS: Kind = kind(
    "stream-differs",
    Note,
    "A stream differs from what is configured",
    "It does no harm to events.",
    "Change it with `nats stream edit`, or change `[bus.nats.streams]`.",
);
pub(super) static SUBJECT_UNCAPTURED: Kind = kind(
    "subject-uncaptured",
    Harm,
    "No stream captures what a route publishes",
    "Every callback of the route fails.",
    "`upcall provision` adds the subject to the stream.",
);
pub(super) static SUBJECT_ELSEWHERE: Kind = kind(
    "subject-elsewhere",
    Harm,
    "Another stream captures some of what a route publishes",
    "What it captures is refused by Upcall's stream, so these callbacks fail.",
    "Take the subject from the other stream, or give the route's `subject` another beginning.",
);
pub(super) static CONSUMER_MISSING: Kind = kind(
    "consumer-missing",
    Note,
    "A configured consumer is not there yet",
    "It is made when `upcall serve` starts; one with `start = \"new\"` gets nothing from before.",
    "`upcall provision` makes it now.",
);
pub(super) static CONSUMER_UNREAD: Kind = kind(
    "consumer-unread",
    Risk,
    "Events wait for a consumer, and nobody asks for them",
    "They go when they are older than the stream keeps them.",
    "Start the process that reads it, or delete it with `nats consumer rm`.",
);
pub(super) static CONSUMER_BEHIND: Kind = kind(
    "consumer-behind",
    Risk,
    "A consumer is behind",
    "Its effects come late; if it goes on, its events are too old for the stream before it comes to them.",
    "Look at its log and its sink; raise its `concurrency`, or run more processes.",
);
pub(super) static CONSUMER_TOO_LATE: Kind = kind(
    "consumer-too-late",
    Harm,
    "A consumer is about to miss events",
    "Its oldest event is past half of the age at which the stream removes it, whoever still wants it.",
    "Raise `bus.nats.streams.age` and the stream's `max_age` now, then look at the consumer.",
);
pub(super) static CONSUMER_FULL: Kind = kind(
    "consumer-full",
    Risk,
    "A consumer holds as many unsettled events as it may",
    "It gets no more until some are settled.",
    "Look whether its sink hangs; if it is only busy, raise `bus.nats.ack_pending_max`.",
);
pub(super) static CONSUMER_REDELIVERED: Kind = kind(
    "consumer-redelivered",
    Note,
    "Unsettled events of a consumer were delivered more than once",
    "The sink fails, or processes die, or the work takes longer than `ack_wait` and is not extended.",
    "Look at the consumer's log.",
);
pub(super) static CONSUMER_GIVES_UP: Kind = kind(
    "consumer-gives-up",
    Harm,
    "The server gives up on a consumer's events (`max_deliver`)",
    "It counts crashes and outages, too, and passes an event over in silence: no dead letter.",
    "`nats consumer edit STREAM CONSUMER --max-deliver=-1`, or `upcall provision`; Upcall's own `attempts_max` makes dead \
     letters.",
);
pub(super) static CONSUMER_NO_ACK: Kind = kind(
    "consumer-no-ack",
    Harm,
    "A consumer's events count as settled before they are",
    "A crash loses what was delivered and not yet done.",
    "`upcall provision` makes it anew with explicit acks, where it is; one that is not Upcall's make anew yourself.",
);
pub(super) static CONSUMER_HEADERS_ONLY: Kind = kind(
    "consumer-headers-only",
    Harm,
    "A consumer gets events without their data",
    "It can't do anything with them.",
    "`upcall provision` mends it.",
);
pub(super) static CONSUMER_FILTER: Kind = kind(
    "consumer-filter",
    Harm,
    "A consumer selects other events than is configured",
    "It misses some, or gets some that it is not to have.",
    "`upcall provision` mends it, and so does `upcall serve` when it starts.",
);
pub(super) static CONSUMER_EXPIRES: Kind = kind(
    "consumer-expires",
    Harm,
    "The server deletes a consumer when nobody reads it for a while",
    "Its progress goes with it: it misses events, or gets all of them again.",
    "`nats consumer edit STREAM CONSUMER --inactive-threshold=0s`, or `upcall provision`.",
);
pub(super) static CONSUMER_PAUSED: Kind = kind(
    "consumer-paused",
    Risk,
    "A consumer is paused",
    "It gets nothing until then, and its events grow older.",
    "`nats consumer resume STREAM CONSUMER`.",
);
pub(super) static DEAD_LETTERS: Kind = kind(
    "dead-letters",
    Risk,
    "Dead letters wait",
    "Each is an event that a consumer did not apply; after `bus.nats.streams.dead_age` it is gone.",
    "`upcall dead list` shows why; then `upcall dead retry` or `upcall dead drop`.",
);
pub(super) static QUARANTINE: Kind = kind(
    "quarantine",
    Note,
    "Rejected callbacks are in quarantine",
    "Somebody knocked with something that is not genuine, or a route or bucket is configured wrong.",
    "`upcall quarantine list` tells the reasons; `drop` forgets what was looked at.",
);
