//! Reads metrics in OpenMetrics' text form: what the admin port shows is what is exported.

use std::collections::BTreeMap;

/// Metrics of one name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) unit: String,
    pub(crate) kind: Kind,
    pub(crate) samples: Vec<Sample>,
}

/// What a family's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Gauge,
    Counter,
    Histogram,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// What the sample's name has behind the family's: `_total`, `_bucket`, `_sum`, `_count`, or nothing.
    pub(crate) suffix: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Reads all families. What is in no form that we write is passed over.
pub(crate) fn families(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(about) => describe(&mut families, about),
            None => {
                if let Some(family) = families.last_mut() {
                    family.samples.extend(sample(&family.name, line));
                }
            }
        }
    }
    families
}

fn describe(families: &mut Vec<Family>, about: &str) {
    let mut words = about.splitn(3, ' ');
    let (Some(what), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else { return };
    if families.last().is_none_or(|family| family.name != name) {
        families.push(Family { name: name.to_owned(), ..Family::default() });
    }
    let Some(family) = families.last_mut() else { return };
    match (what, value) {
        ("HELP", help) => family.help = unescaped(help),
        ("UNIT", unit) => family.unit = unit.to_owned(),
        ("TYPE", "counter") => family.kind = Kind::Counter,
        ("TYPE", "histogram") => family.kind = Kind::Histogram,
        _ => {}
    }
}

fn sample(family: &str, line: &str) -> Option<Sample> {
    let rest = line.strip_prefix(family)?;
    let at = rest.find(['{', ' '])?;
    let (suffix, rest) = rest.split_at(at);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { suffix: suffix.to_owned(), labels, value })
}

/// Reads labels up to their closing brace, and gives back what is behind it.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let (mut labels, mut rest) = (BTreeMap::new(), text);
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut is_escaped = false;
        let end = quoted.find(|character| {
            let ends = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            ends
        })?;
        labels.insert(name.to_owned(), unescaped(&quoted[..end]));
        rest = &quoted[end + 1..];
    }
}

fn unescaped(text: &str) -> String {
    let (mut plain, mut characters) = (String::with_capacity(text.len()), text.chars());
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use upcall_telemetry::metrics::{CallbackLabels, Metrics, StageLabels};

    use super::*;

    #[test]
    fn what_the_admin_port_shows_is_read_back() {
        let metrics = Metrics::new();
        let route = "a \"quoted\\ route\n{}, with=\"all\"".to_owned();
        metrics.callbacks.get_or_create_owned(&CallbackLabels { route: route.clone(), outcome: "accepted" }).inc_by(3);
        metrics.stage_duration.get_or_create_owned(&StageLabels { stage: "read" }).observe(0.003);
        metrics.journal_sequence.get().set(7);
        let families = families(&metrics.encode());
        let family = |name: &str| families.iter().find(|family| family.name == name).unwrap();

        let callbacks = family("upcall_callbacks");
        assert_eq!((callbacks.kind, callbacks.samples.len()), (Kind::Counter, 1));
        let Sample { suffix, labels, value } = &callbacks.samples[0];
        assert_eq!((suffix.as_str(), *value, &labels["route"]), ("_total", 3.0, &route));

        let stages = family("upcall_callback_stage_duration_seconds");
        assert_eq!((stages.kind, stages.unit.as_str()), (Kind::Histogram, "seconds"));
        let bucket = |le: &str| stages.samples.iter().find(|sample| sample.labels.get("le").is_some_and(|l| l == le));
        assert_eq!([bucket("0.0025"), bucket("0.005"), bucket("+Inf")].map(|b| b.unwrap().value), [0.0, 1.0, 1.0]);
        assert_eq!(family("upcall_journal_sequence").samples[0].value, 7.0);
        assert!(family("upcall_journal_sequence").help.starts_with("The sequence of the newest event"));
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        assert_eq!(families("what\n# TYPE a\n# EOF\n"), []);
        assert_eq!(families("# TYPE a gauge\nb 1\na{x=\"1} 2\na x\na 1\n")[0].samples.len(), 1);
    }
}
