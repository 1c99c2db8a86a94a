use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Keys that look for trouble: dots, slashes, escapes, long segments, controls, other scripts.
fn key() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        Just(String::new()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("%".to_owned()),
        Just("%e".to_owned()),
        Just("a%meta".to_owned()),
        Just("a%+".to_owned()),
        "[a-c]{1,3}",
        "[.%/a+]{1,6}",
        "[a.]{195,420}",
        "\\PC{1,8}",
        any::<String>().prop_map(|text| text.chars().take(20).collect()),
    ];
    let key = proptest::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"));
    key.prop_filter("a key that OSS takes", |key| ObjectKey::parse(key).is_ok())
}

/// Reads a key back from the path of its sidecar.
fn key_of(path: &Path) -> Option<String> {
    let mut names: Vec<&str> = path.iter().map(|name| name.to_str().unwrap()).collect();
    let last = names.pop()?;
    let mut key = String::new();
    for name in names {
        key.push_str(&layout::directory_part(name)?);
    }
    Some(key + &layout::sidecar_part(last)?)
}

proptest! {
    #[test]
    fn every_key_has_a_file_of_its_own_inside_the_folder(key in key()) {
        let path = layout::content_path(&key);
        for component in path.components() {
            let std::path::Component::Normal(name) = component else {
                panic!("{key:?} became {path:?}");
            };
            prop_assert!(name.len() <= 255 && !name.is_empty());
            prop_assert!(!name.to_str().unwrap().starts_with('.'));
        }
        // A key that can be read back is no other key's file.
        prop_assert_eq!(key_of(&layout::sidecar_path(&path)), Some(key));
    }

    #[test]
    fn the_file_of_one_key_is_never_a_folder_or_a_sidecar_of_another(one in key(), other in key()) {
        prop_assume!(one != other);
        let (one, other) = (layout::content_path(&one), layout::content_path(&other));
        prop_assert_ne!(&one, &other);
        prop_assert!(!other.starts_with(&one), "{:?} is above {:?}", one, other);
        prop_assert_ne!(&layout::sidecar_path(&one), &other);
    }
}

async fn put(store: &Store, bucket: &BucketName, key: &str, content: &[u8]) {
    let mut draft = store.draft().unwrap();
    draft.write(content).await.unwrap();
    let written = draft.finish().await.unwrap();
    let described = Described { content_type: "text/plain".to_owned(), headers: BTreeMap::new() };
    let metadata = Metadata::whole(&written, described);
    store.place(bucket, &ObjectKey::parse(key).unwrap(), written, &metadata).await.unwrap();
}

async fn opened() -> (tempfile::TempDir, Store, BucketName) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_owned()).await.unwrap();
    let bucket = BucketName::parse("examplebucket").unwrap();
    store.create_bucket(&bucket).await.unwrap();
    (folder, store, bucket)
}

/// Lists a bucket page by page: keys, and common prefixes with a `|` in front.
async fn listed(store: &Store, bucket: &BucketName, mut wanted: Wanted) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let page = store.list(bucket, &wanted).await.unwrap();
        assert!(page.entries.len() <= wanted.entries_max);
        names.extend(page.entries.into_iter().map(|entry| match entry {
            Listed::Object(key, _) => key,
            Listed::CommonPrefix(prefix) => format!("|{prefix}"),
        }));
        match page.next_after {
            Some(after) => wanted.after = after,
            None => return names,
        }
    }
}

#[tokio::test]
async fn a_key_can_be_the_folder_of_another() {
    let (_folder, store, bucket) = opened().await;
    for key in ["a", "a/", "a/b", "a//b", "a/b/c", "../x", "a/../../x"] {
        put(&store, &bucket, key, key.as_bytes()).await;
    }
    for key in ["a", "a/", "a/b", "a//b", "a/b/c", "../x", "a/../../x"] {
        let (metadata, _) = store.open_object(&bucket, &ObjectKey::parse(key).unwrap()).await.unwrap().unwrap();
        assert_eq!(metadata.size, key.len() as u64);
    }
    store.remove_object(&bucket, &ObjectKey::parse("a/b").unwrap()).await.unwrap();
    let wanted = Wanted { entries_max: 2, ..Wanted::default() };
    assert_eq!(listed(&store, &bucket, wanted).await, ["../x", "a", "a/", "a/../../x", "a//b", "a/b/c"]);
}

#[tokio::test]
async fn removing_the_last_object_leaves_no_folders() {
    let (folder, store, bucket) = opened().await;
    put(&store, &bucket, "a/b/c/d", b"x").await;
    store.remove_object(&bucket, &ObjectKey::parse("a/b/c/d").unwrap()).await.unwrap();
    let objects = folder.path().join("buckets/examplebucket/objects");
    assert_eq!(std::fs::read_dir(objects).unwrap().count(), 0);
    assert!(store.remove_bucket(&bucket).await.unwrap());
}

#[tokio::test]
async fn an_object_that_is_replaced_stays_readable_to_whoever_opened_it() {
    use tokio::io::AsyncReadExt;
    let (_folder, store, bucket) = opened().await;
    let key = ObjectKey::parse("a").unwrap();
    put(&store, &bucket, "a", b"old").await;
    let (_, mut file) = store.open_object(&bucket, &key).await.unwrap().unwrap();
    put(&store, &bucket, "a", b"newer").await;
    let mut content = String::new();
    file.read_to_string(&mut content).await.unwrap();
    assert_eq!(content, "old");
    assert_eq!(store.open_object(&bucket, &key).await.unwrap().unwrap().0.size, 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pages_add_up_to_the_listing(
        keys in proptest::collection::btree_set("[ab/]{1,6}", 0..12),
        prefix in "[ab/]{0,2}",
        delimited in any::<bool>(),
        entries_max in 1_usize..5,
    ) {
        let keys: BTreeSet<String> = keys.into_iter().filter(|key| ObjectKey::parse(key).is_ok()).collect();
        let delimiter = if delimited { "/" } else { "" };
        let expected: BTreeSet<String> = keys.iter().filter_map(|key| {
            let rest = key.strip_prefix(&prefix)?;
            Some(match rest.find('/').filter(|_| delimited) {
                Some(end) => format!("|{prefix}{}", &rest[..=end]),
                None => key.clone(),
            })
        }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let names = runtime.block_on(async {
            let (_folder, store, bucket) = opened().await;
            for key in &keys {
                put(&store, &bucket, key, b"").await;
            }
            let wanted = Wanted { prefix: prefix.clone(), delimiter: delimiter.to_owned(), after: String::new(), entries_max };
            listed(&store, &bucket, wanted).await
        });
        let set: BTreeSet<String> = names.iter().cloned().collect();
        prop_assert_eq!(set.len(), names.len(), "listed twice: {:?}", names);
        prop_assert_eq!(set, expected);
    }
}
