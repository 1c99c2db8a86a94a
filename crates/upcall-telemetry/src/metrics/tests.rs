use std::fmt::Write;
use std::path::Path;

use super::*;

#[test]
fn what_was_counted_is_what_is_read() {
    let metrics = Metrics::new();
    let labels = CallbackLabels { route: "avatars".into(), outcome: "accepted" };
    let accepted = metrics.callbacks.get_or_create_owned(&labels);
    accepted.inc_by(3);
    metrics.before_scrape(|metrics| {
        metrics.journal_sequence.get().set(7);
        metrics.journal_size.get().set(8);
    });
    let text = metrics.encode();
    assert!(text.contains("upcall_callbacks_total{route=\"avatars\",outcome=\"accepted\"} 3"), "{text}");
    assert!(text.contains("upcall_journal_sequence 7"), "{text}");
    assert!(text.contains("# UNIT upcall_journal_size_bytes bytes"), "{text}");
}

#[test]
fn what_a_process_does_not_have_is_not_shown_as_zero() {
    let text = Metrics::new().encode();
    assert_eq!(text, "# EOF\n", "there is nothing to tell yet");
}

#[test]
fn names_keep_the_convention() {
    let descriptions = Metrics::descriptions();
    for Description { name, kind, unit, meaning, .. } in &descriptions {
        assert!(name.starts_with("upcall_") && !meaning.is_empty(), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
        assert!(unit.is_none_or(|unit| name.ends_with(unit)), "{name}");
    }
    let mut names: Vec<_> = descriptions.iter().map(|description| &description.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), descriptions.len());
}

#[test]
fn the_reference_lists_every_metric() {
    let (expected, path) = (reference(), Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md"));
    if std::fs::read_to_string(&path).unwrap_or_default() != expected {
        std::fs::write(&path, expected).unwrap();
        panic!("docs/reference/metrics.md was out of date; it is repaired now, please commit it");
    }
}

fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    for Description { name, kind, unit, labels, meaning } in Metrics::descriptions() {
        let labels: Vec<_> = labels.iter().map(|(name, values)| format!("`{name}`: {}", values.trim())).collect();
        let (unit, labels) = (unit.unwrap_or_default(), labels.join("<br>"));
        writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {meaning} |").unwrap();
    }
    page
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from the code by a test of upcall-telemetry, which repairs this page. Don't edit it. -->

`/metrics` of the admin port has them in OpenMetrics' text format; names are as they are scraped. A histogram's series are
`_bucket`, `_sum` and `_count`; its buckets end at 0.5, 1, 2.5, 5, 10, 25, 100 and 500 ms, 1, 2.5, 4.5 and 5 s: a callback has
4.5 s (`deadline`), and OSS gives up after 5 s.

What a process does not have has no series: without NATS there is no `upcall_nats_ready`, and one that takes no
callbacks counts none. What can happen and has not is 0, so that `rate()` sees the first time. Counters begin anew with
the process.

**Nothing vanishes.** At rest, in every process, what was accepted is what is durable:

```
upcall_accepted_callbacks_total = sum(upcall_publishes_total{outcome=~\"published|spilled|duplicate\"})
```

Every test that ends a gateway checks it before.

The codes of refusals are in [errors.md](errors.md). A dashboard and alerts are in
[deploy/observability](../../deploy/observability).

| metric | type | unit | labels | meaning |
|---|---|---|---|---|
";
