//! Buckets and what is in them.

use crate::support::Harness;

#[tokio::test]
async fn buckets_are_made_described_and_removed() {
    let simulator = Harness::with(|options| options.buckets = vec!["first".to_owned()]).await;
    assert_eq!(simulator.send("PUT", "/second", &[], b"").await.status(), 200);
    let list = simulator.send("GET", "/", &[], b"").await;
    assert_eq!(list.elements("Name"), ["first", "second"]);
    let info = simulator.send("GET", "/second?bucketInfo", &[], b"").await;
    assert_eq!((info.element("Name").as_str(), info.element("Grant").as_str()), ("second", "private"));
    assert_eq!(simulator.send("HEAD", "/second", &[], b"").await.status(), 200);
    simulator.send("PUT", "/second/a", &[], b"x").await;
    assert_eq!(simulator.send("DELETE", "/second", &[], b"").await.status(), 409);
    simulator.send("DELETE", "/second/a", &[], b"").await;
    assert_eq!(simulator.send("DELETE", "/second", &[], b"").await.status(), 204);
    assert_eq!(simulator.send("HEAD", "/second", &[], b"").await.status(), 404);
    let wrong = simulator.send("PUT", "/_wrong", &[], b"").await;
    assert_eq!((wrong.status(), wrong.element("Code").as_str()), (400, "InvalidBucketName"));
}

#[tokio::test]
async fn a_bucket_is_listed_page_by_page() {
    let simulator = Harness::start().await;
    for key in ["a", "dir/a%20b", "dir/c", "dir/sub/d", "e"] {
        simulator.send("PUT", &format!("/examplebucket/{key}"), &[], b"hello").await;
    }
    let list = async |query: &str| simulator.send("GET", &format!("/examplebucket?{query}"), &[], b"").await;

    let first = list("list-type=2&max-keys=2").await;
    assert_eq!(first.elements("Key"), ["a", "dir/a b"]);
    assert_eq!((first.element("IsTruncated").as_str(), first.element("KeyCount").as_str()), ("true", "2"));
    assert_eq!(first.elements("Size"), ["5", "5"]);
    let token = first.element("NextContinuationToken");
    let second = list(&format!("list-type=2&max-keys=3&continuation-token={token}")).await;
    assert_eq!(second.elements("Key"), ["dir/c", "dir/sub/d", "e"]);
    assert_eq!(second.element("IsTruncated"), "false");

    let folders = list("list-type=2&delimiter=%2F").await;
    assert_eq!(
        (folders.elements("Key"), folders.element("CommonPrefixes")),
        (vec!["a".into(), "e".into()], String::new())
    );
    let folder = list("list-type=2&delimiter=%2F&prefix=dir%2F&encoding-type=url").await;
    assert_eq!(folder.elements("Key"), ["dir/a%20b", "dir/c"]);
    assert_eq!(folder.elements("Prefix"), ["dir/", "dir/sub/"]);
    assert_eq!(list("list-type=2&start-after=dir%2Fc").await.elements("Key"), ["dir/sub/d", "e"]);

    let old = list("max-keys=2&marker=dir/c").await;
    assert_eq!((old.elements("Key"), old.element("Marker")), (vec!["dir/sub/d".into(), "e".into()], "dir/c".into()));
    for query in ["list-type=2&max-keys=0", "list-type=2&max-keys=1001", "list-type=2&continuation-token=%25"] {
        assert_eq!(list(query).await.element("Code"), "InvalidArgument", "{query}");
    }
}

#[tokio::test]
async fn many_objects_are_removed_at_once() {
    let simulator = Harness::start().await;
    for key in ["a", "b", "c"] {
        simulator.send("PUT", &format!("/examplebucket/{key}"), &[], b"x").await;
    }
    let list = b"<Delete><Quiet>false</Quiet><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>";
    let answer = simulator.send("POST", "/examplebucket?delete", &[], list).await;
    assert_eq!(answer.elements("Key"), ["a", "b"]);
    let left = simulator.send("GET", "/examplebucket?list-type=2", &[], b"").await;
    assert_eq!(left.elements("Key"), ["c"]);
}
