//! Every kind of finding about the journal and the configuration.

use upcall_bus_nats::examine::Severity::{Harm, Note, Risk};
use upcall_bus_nats::examine::{Kind, Severity};

const fn kind(
    name: &'static str,
    severity: Severity,
    title: &'static str,
    why: &'static str,
    remedy: &'static str,
) -> Kind {
    Kind { name, severity, title, why, remedy }
}

/// About the journal and its disk.
#[cfg(test)]
pub(super) const JOURNAL: &[&Kind] = &[
    &JOURNAL_MISSING,
    &DISK_NEARLY_FULL,
    &DISK_FULL,
    &DISK_IN_MEMORY,
    &DISK_OF_NETWORK,
    &DISK_OF_CONTAINER,
    &JOURNAL_OUTGROWS_DISK,
    &JOURNAL_DROPS_UNSETTLED,
    &JOURNAL_CONSUMER_BEHIND,
    &JOURNAL_CONSUMER_FORGOTTEN,
    &JOURNAL_DEAD_LETTERS,
    &RELAY_BEHIND,
];

/// About the configuration.
#[cfg(test)]
pub(super) const CONFIGURATION: &[&Kind] =
    &[&ADMIN_OPEN, &ADMIN_IN_POD, &BUCKET_FROM_HEADER, &SIGNATURE_ONLY, &ANY_BUCKET, &KEYS_FETCHED];

pub(super) static JOURNAL_MISSING: Kind = kind(
    "journal-missing",
    Note,
    "There is no journal yet",
    "`upcall serve` makes it at its first start. If there was one, the folder is not where it was.",
    "Check `bus.journal`; in a container, that its volume is mounted.",
);
pub(super) static DISK_NEARLY_FULL: Kind = kind(
    "disk-nearly-full",
    Risk,
    "The journal's disk has less than 1 GiB free",
    "On a full disk callbacks are answered 503, and the uploads' events are missing.",
    "Make room, or shorten `bus.journal.retention`.",
);
pub(super) static DISK_FULL: Kind = kind(
    "disk-full",
    Harm,
    "The journal's disk has less than 100 MiB free",
    "On a full disk callbacks are answered 503, and the uploads' events are missing.",
    "Make room now, or shorten `bus.journal.retention`.",
);
pub(super) static DISK_IN_MEMORY: Kind = kind(
    "disk-in-memory",
    Harm,
    "The journal's folder is in memory",
    "A restart of the machine loses what was answered 200: its `fsync` reaches no disk.",
    "Name a folder on a disk in `bus.journal`.",
);
pub(super) static DISK_OF_NETWORK: Kind = kind(
    "disk-of-network",
    Harm,
    "The journal's folder is on a network's file system",
    "SQLite's log needs memory that processes share, and locks and `fsync` that such file systems do not promise: the \
     journal can be damaged.",
    "Name a folder on a local disk or a block device in `bus.journal`.",
);
pub(super) static DISK_OF_CONTAINER: Kind = kind(
    "disk-of-container",
    Risk,
    "The journal's folder is in the container's own layer",
    "It is gone with the container, and with it what was answered 200 and is not consumed yet.",
    "Mount a volume that outlives the container there.",
);
pub(super) static JOURNAL_OUTGROWS_DISK: Kind = kind(
    "journal-outgrows-disk",
    Risk,
    "The journal may take more than its disk has",
    "The disk is full before `retention.size` takes hold.",
    "Lower `bus.journal.retention.size`, or take a larger disk.",
);
pub(super) static JOURNAL_DROPS_UNSETTLED: Kind = kind(
    "journal-drops-unsettled",
    Risk,
    "The journal drops events that a consumer has not settled",
    "A consumer that is down for longer than the retention misses events, and nobody is told.",
    "Set `bus.journal.retention.drop_unsettled = false`.",
);
pub(super) static JOURNAL_CONSUMER_BEHIND: Kind = kind(
    "journal-consumer-behind",
    Risk,
    "A consumer of the journal is behind",
    "Its effects come late, and the journal keeps everything that it has not settled.",
    "Look at the log and at the sink; raise the consumer's `concurrency`.",
);
pub(super) static JOURNAL_CONSUMER_FORGOTTEN: Kind = kind(
    "journal-consumer-forgotten",
    Note,
    "The journal knows a consumer that the configuration does not name",
    "Nobody reads it, and the journal keeps every event for it.",
    "Configure it again, or stop Upcall and have it forgotten: `upcall journal forget`.",
);
pub(super) static JOURNAL_DEAD_LETTERS: Kind = kind(
    "journal-dead-letters",
    Risk,
    "Dead letters wait in the journal",
    "Each is an event that a consumer did not apply.",
    "`upcall dead list` shows why; then `upcall dead retry` or `upcall dead drop`.",
);
pub(super) static RELAY_BEHIND: Kind = kind(
    "relay-behind",
    Risk,
    "Events wait in the journal to be relayed to NATS",
    "Consumers have not got them; they are on this machine only.",
    "See whether `upcall serve` runs, and what its `/ready` says of `relay` and `nats`.",
);
pub(super) static ADMIN_OPEN: Kind = kind(
    "admin-open",
    Risk,
    "The admin port is open to everybody",
    "Whoever reaches it reads metrics and the reasons of rejections, and changes what is logged.",
    "Let `gateway.admin` be a private address, or see to it that a firewall keeps strangers off. A load balancer needs `gateway.health` only.",
);
pub(super) static ADMIN_IN_POD: Kind = kind(
    "admin-in-pod",
    Note,
    "The admin port is open to whoever reaches the pod",
    "Prometheus must. Whoever else does reads metrics and the reasons of rejections, and changes what is \
     logged.",
    "Keep a NetworkPolicy such as that of `deploy/`, in a cluster whose network enforces it.",
);
pub(super) static BUCKET_FROM_HEADER: Kind = kind(
    "bucket-from-header",
    Risk,
    "A route believes a header about the bucket",
    "Nobody signed `x-oss-bucket`: whoever replays or makes a callback chooses it.",
    "Have the callbackBody name `bucket=${bucket}`, or name the route's one bucket in `buckets`.",
);
pub(super) static SIGNATURE_ONLY: Kind = kind(
    "signature-only",
    Note,
    "A route demands the signature and nothing else",
    "A valid signature proves that OSS sent it, for any account: a stranger can have OSS call you with a body of their \
     own.",
    "Treat the events as claims: look the object up before you rely on it. Each says in `proof` what was proved.",
);
pub(super) static ANY_BUCKET: Kind = kind(
    "any-bucket",
    Note,
    "A route takes callbacks for any bucket",
    "Nothing keeps out what names a bucket that is not yours.",
    "List the route's `buckets`.",
);
pub(super) static KEYS_FETCHED: Kind = kind(
    "keys-fetched",
    Note,
    "Keys that OSS might introduce are fetched",
    "Only from OSS's own key host, over https, and never the one key of today, which is built in.",
    "`keys.fetch = false` trusts what is built in and configured, and nothing else.",
);

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    const INTRODUCTION: &str = "\
# What `upcall doctor` finds

<!-- Generated from the code by a test; change the code. -->

`upcall doctor -c upcall.toml` looks at the configuration, the journal and NATS, and says what would lose events, the worst
first, each with its remedy. It changes nothing. With `--json` each finding has its `name` of these tables, `severity`,
`what` was seen, `why` it matters, and the `remedy`; names stay from version to version.

- **harm**: events are being lost or refused, or one ordinary fault (a restart, a lost disk, a crash) is enough.
- **risk**: events are lost or refused when something else goes wrong, too; or somebody has to look.
- **note**: good to know; no event is in danger.

| grade | |
|---|---|
| A | no risk and no harm |
| B | one risk |
| C | more risks |
| D | one harm |
| F | more harm |

The exit status is 0 if nothing is worse than a note, 1 if something is, and 2 if something could not be looked at; there
is no grade then, and what could not be looked at is named. A NATS server that is not up yet is waited for, for `--wait` (10 s by
default), and this machine's findings are shown meanwhile. One that refuses the login is not waited for.
";

    /// Writes the reference anew where it differs, and fails: the repaired file belongs in the commit.
    #[test]
    fn the_reference_lists_every_finding() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/doctor.md");
        let mut text = INTRODUCTION.to_owned();
        for (title, kinds) in [
            ("NATS", upcall_bus_nats::examine::kinds::ALL),
            ("The journal and its disk", JOURNAL),
            ("The configuration", CONFIGURATION),
        ] {
            write!(text, "\n## {title}\n\n| name | | what | why | remedy |\n|---|---|---|---|---|\n").unwrap();
            for Kind { name, severity, title, why, remedy } in kinds {
                writeln!(text, "| `{name}` | {severity} | {title} | {why} | {remedy} |").unwrap();
            }
        }
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            std::fs::write(&path, text).unwrap();
            panic!("{} was out of date and has been written anew: commit it", path.display());
        }
    }
}
