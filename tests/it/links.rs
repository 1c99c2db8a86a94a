//! Every link in the documentation leads somewhere, and so does every page that code, configuration and messages name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use upcall_tests::executable::workspace;

/// What is no text, or written by tools.
const PASSED_OVER: [&str; 4] = ["lock", "png", "svg", "db"];

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut anchors = BTreeMap::new();
    let mut broken = Vec::new();
    for page in files().into_iter().filter(|file| is_page(file)) {
        for target in links(&read(&page)) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { page.clone() } else { resolved(&page, file) };
            if !leads_to(&file, anchor, &mut anchors) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_page_that_is_named_elsewhere_is_there() {
    let mut anchors = BTreeMap::new();
    let mut broken = Vec::new();
    for file in files().into_iter().filter(|file| !is_page(file) && file != Path::new("tests/it/links.rs")) {
        for target in named(&read(&file)) {
            let (page, anchor) = target.split_once('#').unwrap_or((&target, ""));
            if !leads_to(Path::new(page), anchor, &mut anchors) {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these are not there:\n{}", broken.join("\n"));
}

#[test]
fn the_walk_names_every_page_for_operators() {
    let walk = read(Path::new("docs/operations.md"));
    let pages = files().into_iter().filter(|file| file.parent() == Some(Path::new("docs/operations")));
    let hidden: Vec<_> = pages.filter(|page| !walk.contains(&page.display().to_string()["docs/".len()..])).collect();
    assert!(hidden.is_empty(), "docs/operations.md does not lead to {hidden:?}");
}

/// The files of the repository, relative to it, without what git ignores.
fn files() -> Vec<PathBuf> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(workspace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = String::from_utf8(output.stdout).unwrap();
    let files = files.lines().map(PathBuf::from).filter(|file| workspace().join(file).is_file());
    files.filter(|file| file.extension().is_none_or(|ending| PASSED_OVER.iter().all(|over| ending != *over))).collect()
}

fn is_page(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "md")
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(workspace().join(file)).unwrap()).into_owned()
}

/// The targets of a page's links within the repository.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets =
        prose.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()));
    // An ellipsis shows what a link looks like.
    targets.filter(|target| !target.contains(':') && target != "…" && target != "link").collect()
}

/// A page without its blocks of code.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut is_prose = |line: &str| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    };
    text.lines().filter(|line| is_prose(line)).collect::<Vec<_>>().join("\n")
}

/// The pages that a text names by their whole path.
fn named(text: &str) -> Vec<String> {
    let is_of_it = |c: char| c.is_ascii_alphanumeric() || "_-./#".contains(c);
    let begin = text.match_indices("docs/").map(|(at, _)| &text[at..]);
    let names = begin.map(|rest| &rest[..rest.find(|c| !is_of_it(c)).unwrap_or(rest.len())]);
    let page = |name: &str| {
        let (file, anchor) = name.split_once(".md")?;
        let anchor = anchor.strip_prefix('#').map(|anchor| format!("#{}", anchor.trim_end_matches(['.', '/'])));
        Some(format!("{file}.md{}", anchor.unwrap_or_default()))
    };
    names.filter_map(page).collect()
}

fn resolved(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{}: {target} leaves the repository", page.display()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

fn leads_to(file: &Path, anchor: &str, known: &mut BTreeMap<PathBuf, BTreeSet<String>>) -> bool {
    if !workspace().join(file).exists() {
        return false;
    }
    let of = known.entry(file.to_owned());
    anchor.is_empty() || of.or_insert_with(|| anchors(&read(file))).contains(anchor)
}

/// What the headings of a page can be linked by.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(slug).collect()
}
