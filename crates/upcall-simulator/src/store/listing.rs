//! Which objects a bucket holds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Metadata, Store, layout, read_sidecar};
use crate::name::BucketName;

/// Which part of a bucket's keys is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// What keys start with.
    pub(crate) prefix: String,
    /// What ends a common prefix; empty for none.
    pub(crate) delimiter: String,
    /// The key or common prefix after which the page starts.
    pub(crate) after: String,
    /// How many keys and common prefixes at most.
    pub(crate) entries_max: usize,
}

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    /// Keys and common prefixes, in the order of their bytes.
    pub(crate) entries: Vec<Listed>,
    /// Where the next page starts, if there is one.
    pub(crate) next_after: Option<String>,
}

/// One entry of a page.
#[derive(Debug)]
pub(crate) enum Listed {
    /// An object.
    Object(String, Metadata),
    /// What several keys have in common up to the delimiter.
    CommonPrefix(String),
}

impl Store {
    /// Lists a bucket. It walks the bucket's whole folder each time, which is quick enough for a developer's machine.
    pub(crate) async fn list(&self, bucket: &BucketName, wanted: &Wanted) -> io::Result<Page> {
        let objects = self.objects(bucket);
        let _unchanging = self.changing.read().await;
        let mut keys = tokio::task::spawn_blocking(move || {
            let mut keys = Vec::new();
            walk(&objects, "", &mut keys)?;
            Ok::<_, io::Error>(keys)
        })
        .await
        .map_err(io::Error::other)??;
        keys.sort();
        let found = group(keys, wanted);

        let more = found.len() > wanted.entries_max;
        let mut entries = Vec::new();
        for (name, sidecar) in found.into_iter().take(wanted.entries_max) {
            match sidecar {
                None => entries.push(Listed::CommonPrefix(name)),
                Some(path) => {
                    if let Some(metadata) = read_sidecar(&path).await? {
                        entries.push(Listed::Object(name, metadata));
                    }
                }
            }
        }
        let last = entries.last().map(|entry| match entry {
            Listed::Object(name, _) | Listed::CommonPrefix(name) => name.clone(),
        });
        Ok(Page { entries, next_after: last.filter(|_| more) })
    }
}

/// Folds keys into common prefixes and leaves out what is not asked for. Objects keep their sidecar's path.
fn group(keys: Vec<(String, PathBuf)>, wanted: &Wanted) -> BTreeMap<String, Option<PathBuf>> {
    let mut found = BTreeMap::new();
    for (key, sidecar) in keys {
        let Some(rest) = key.strip_prefix(&wanted.prefix) else { continue };
        let end = if wanted.delimiter.is_empty() { None } else { rest.find(&wanted.delimiter) };
        let common = end.map(|end| key[..wanted.prefix.len() + end + wanted.delimiter.len()].to_owned());
        match common {
            Some(common) if common > wanted.after => found.insert(common, None),
            None if key > wanted.after => found.insert(key, Some(sidecar)),
            _ => continue,
        };
        // One more than asked for tells that there are more.
        if found.len() > wanted.entries_max {
            break;
        }
    }
    found
}

/// Collects the keys below a folder, each with its sidecar.
fn walk(folder: &Path, key: &str, keys: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if entry.file_type()?.is_dir() {
            if let Some(part) = layout::directory_part(name) {
                walk(&entry.path(), &format!("{key}{part}"), keys)?;
            }
        } else if let Some(part) = layout::sidecar_part(name) {
            keys.push((format!("{key}{part}"), entry.path()));
        }
    }
    Ok(())
}
