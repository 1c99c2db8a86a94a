//! The dashboard, the alerts and their runbook speak of what there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use upcall_telemetry::metrics::{Description, Metrics};
use upcall_tests::executable::workspace;
use upcall_tests::skip;

/// Labels that Prometheus adds, or that every histogram has.
const LABELS_OF_ALL: [&str; 3] = ["instance", "job", "le"];

/// An alert: its name, its expression, and where its page is.
struct Alert {
    name: String,
    expression: String,
    runbook: String,
}

fn folder() -> PathBuf {
    workspace().join("deploy/observability")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn alerts() -> Vec<Alert> {
    let text = read(&folder().join("alerts.yaml"));
    let one = |text: &str| {
        let after = |key: &str| text.split_once(key).unwrap_or_else(|| panic!("{key} is missing: {text}")).1;
        let line = |key: &str| after(key).lines().next().unwrap().trim().to_owned();
        let expression = after("expr: |-\n").split("\n        for:").next().unwrap().trim().to_owned();
        Alert { name: text.lines().next().unwrap().trim().to_owned(), expression, runbook: line("runbook_url: ") }
    };
    text.split("- alert: ").skip(1).map(one).collect()
}

fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(&folder().join("dashboard.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let queries = variables.filter_map(|variable| Some(variable["query"]["query"].as_str()?.to_owned()));
    expressions.chain(queries).collect()
}

/// The metrics that an expression names, each with the labels that it selects by.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("upcall_").map(|(at, _)| &expression[at..]);
    let selector = |text: &str| {
        let end = text.find(|c| !is_of_a_name(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let label = |matcher: &str| matcher.split(['=', '!']).next().unwrap_or_default().trim().to_owned();
        // A comma within a value separates nothing: what follows it has no quotation mark.
        let labels = matchers.split(',').filter(|matcher| matcher.contains('"')).map(label).collect();
        (name.to_owned(), labels)
    };
    starts.map(selector).collect()
}

/// The labels that an expression groups or joins by.
fn groupings(expression: &str) -> Vec<String> {
    let lists = ["by (", "on ("].iter().flat_map(|word| expression.split(word).skip(1));
    let names = lists.flat_map(|list| list.split(')').next().unwrap_or_default().split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

fn description(name: &str) -> Option<Description> {
    let all = Metrics::descriptions();
    let series = ["_bucket", "_sum", "_count"].iter().filter_map(|ending| name.strip_suffix(ending));
    let mut histogram =
        series.filter_map(|base| all.iter().find(|metric| metric.name == base && metric.kind == "histogram"));
    all.iter().find(|metric| metric.name == name && metric.kind != "histogram").or_else(|| histogram.next()).cloned()
}

#[test]
fn every_metric_that_is_shown_or_alerted_on_exists_with_these_labels() {
    let of_alerts = alerts().into_iter().map(|alert| (alert.name, alert.expression));
    let of_dashboard = dashboard().into_iter().map(|expression| ("the dashboard".to_owned(), expression));
    for (place, expression) in of_alerts.chain(of_dashboard) {
        let mut known: BTreeSet<String> = LABELS_OF_ALL.iter().map(|label| (*label).to_owned()).collect();
        for (name, labels) in selectors(&expression) {
            let metric = description(&name).unwrap_or_else(|| panic!("{place}: there is no {name}: {expression}"));
            let has =
                |label: &str| LABELS_OF_ALL.contains(&label) || metric.labels.iter().any(|(known, _)| *known == label);
            labels.iter().for_each(|label| assert!(has(label), "{place}: {name} has no label {label}: {expression}"));
            known.extend(metric.labels.iter().map(|(label, _)| (*label).to_owned()));
        }
        for label in groupings(&expression) {
            assert!(known.contains(&label), "{place}: nothing has the label {label}: {expression}");
        }
    }
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let shown: Vec<String> =
        dashboard().iter().flat_map(|expression| selectors(expression)).map(|(name, _)| name).collect();
    let shown: BTreeSet<String> = shown.iter().filter_map(|name| description(name)).map(|metric| metric.name).collect();
    let hidden: Vec<_> =
        Metrics::descriptions().into_iter().map(|metric| metric.name).filter(|name| !shown.contains(name)).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let pages = workspace().join("docs/runbook");
    let index = read(&pages.join("README.md"));
    let mut named = BTreeSet::from(["README.md".to_owned()]);
    for Alert { name, runbook, .. } in alerts() {
        assert!(runbook.ends_with(&format!("/docs/runbook/{name}.md")), "{name}: {runbook}");
        let page = read(&pages.join(format!("{name}.md")));
        for part in
            [format!("# {name}\n"), "**What is lost.**".to_owned(), "## First look".to_owned(), "## Remedy".to_owned()]
        {
            assert!(page.contains(&part), "{name}.md has no {part:?}");
        }
        assert!(index.contains(&format!("[{name}]({name}.md)")), "the index has no {name}");
        named.insert(format!("{name}.md"));
    }
    let there = std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), named);
}

#[test]
fn the_documented_line_has_every_alert_lead_to_the_runbook_of_a_site() {
    let script = |page: &str| {
        let text = read(&workspace().join(page));
        let line = text.lines().find_map(|line| Some(line.split_once("sed 's#")?.1.to_owned()));
        format!("sed 's#{}", line.unwrap_or_else(|| panic!("{page} does not say how")))
    };
    let there = tempfile::tempdir().unwrap();
    for (page, folder) in [("deploy/observability/README.md", folder()), ("docs/operations.md", workspace().to_owned())]
    {
        let rules = there.path().join("upcall.yaml");
        let command = script(page).replace("/etc/prometheus/rules/upcall.yaml", rules.to_str().unwrap());
        let status = Command::new("sh").args(["-c", &command]).current_dir(folder).status().unwrap();
        assert!(status.success(), "{page}: {command}");
        let text = read(&rules);
        let named = text.matches("runbook_url: https://git.example.com/upcall/blob/main/docs/runbook/").count();
        assert!(named == alerts().len() && !text.contains("upcall.invalid"), "{page}: {command}");
    }
}

#[test]
fn prometheus_takes_the_alerts_and_each_fires_when_it_should_and_only_then() {
    let promtool = |arguments: &[&str]| Command::new("promtool").args(arguments).current_dir(folder()).output();
    if promtool(&["--version"]).is_err() {
        return skip("the alerts: there is no promtool, of the package prometheus");
    }
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let output = promtool(&arguments).unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {}:\n{said}", arguments.join(" "));
    }
    let tests = read(&folder().join("alerts.test.yaml"));
    for Alert { name, .. } in alerts() {
        for case in ["fires", "stays quiet"] {
            assert!(tests.contains(&format!("- name: {name} {case}\n")), "{name} {case}: untested");
        }
    }
}
