//! Objects in, out and away.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde_json::json;

use crate::support::{App, Harness, callback, ok};

#[tokio::test]
async fn what_was_put_comes_back_in_either_style() {
    let simulator = Harness::start().await;
    let headers = [
        ("Host", "examplebucket.localhost:1234"),
        ("Content-Type", "text/plain"),
        ("Cache-Control", "no-cache"),
        ("x-oss-meta-user", "42"),
    ];
    let put = simulator.send("PUT", "/dir/a%2Bb+c%20d.txt", &headers, b"hello world").await;
    assert_eq!((put.status(), put.body.len()), (200, 0));
    assert_eq!(put.header("etag"), "\"5EB63BBBE01EEED093CB22BB8F5ACDC3\"");
    assert_eq!(put.header("content-md5"), "XrY7u+Ae7tCTyyK7j1rNww==");

    for (host, target) in [
        ("localhost", "/examplebucket/dir/a+b+c%20d.txt"),
        ("examplebucket.localhost", "/dir/a+b%2Bc%20d.txt"),
        ("examplebucket.oss-cn-hangzhou.aliyuncs.com", "/dir/a+b+c%20d.txt"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = simulator.send(method, target, &[("Host", host)], b"").await;
            assert_eq!(answer.status(), 200, "{method} {host} {target}");
            assert_eq!(answer.body, if method == "GET" { &b"hello world"[..] } else { b"" });
            assert_eq!(answer.header("content-length"), "11");
            assert_eq!(answer.header("content-type"), "text/plain");
            assert_eq!(answer.header("cache-control"), "no-cache");
            assert_eq!(answer.header("x-oss-meta-user"), "42");
            assert_eq!(answer.header("etag"), put.header("etag"));
            assert_eq!(answer.header("x-oss-hash-crc64ecma"), put.header("x-oss-hash-crc64ecma"));
            assert_eq!(answer.header("x-oss-object-type"), "Normal");
            assert!(answer.header("last-modified").ends_with(" GMT"));
        }
    }
}

#[tokio::test]
async fn a_range_is_a_part_of_the_object() {
    let simulator = Harness::start().await;
    simulator.send("PUT", "/examplebucket/a", &[], b"0123456789").await;
    let read = async |headers: &[(&str, &str)]| simulator.send("GET", "/examplebucket/a", headers, b"").await;
    let part = read(&[("Range", "bytes=2-4")]).await;
    assert_eq!((part.status(), part.text(), part.header("content-range")), (206, "234", "bytes 2-4/10"));
    let beyond = read(&[("Range", "bytes=10-")]).await;
    assert_eq!((beyond.status(), beyond.text()), (200, "0123456789"));
    let beyond = read(&[("Range", "bytes=10-"), ("x-oss-range-behavior", "standard")]).await;
    assert_eq!((beyond.status(), beyond.element("Code").as_str()), (416, "InvalidRange"));
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let simulator = Harness::with(|options| options.creates_buckets = false).await;
    let get = simulator.send("GET", "/examplebucket/a", &[], b"").await;
    assert_eq!((get.status(), get.element("Code").as_str()), (404, "NoSuchBucket"));
    let put = simulator.send("PUT", "/examplebucket/a", &[], b"x").await;
    assert_eq!((put.status(), put.element("Code").as_str()), (404, "NoSuchBucket"));
    simulator.send("PUT", "/examplebucket", &[], b"").await;
    let get = simulator.send("GET", "/examplebucket/a", &[], b"").await;
    assert_eq!((get.status(), get.element("Code").as_str()), (404, "NoSuchKey"));
    let head = simulator.send("HEAD", "/examplebucket/a", &[], b"").await;
    let document = String::from_utf8(STANDARD.decode(head.header("x-oss-err")).unwrap()).unwrap();
    assert!(head.status() == 404 && document.contains("<Code>NoSuchKey</Code>"), "{document}");
    let upload = simulator.send("PUT", "/examplebucket/a?partNumber=1&uploadId=../../x", &[], b"x").await;
    assert_eq!((upload.status(), upload.element("Code").as_str()), (404, "NoSuchUpload"));
    assert_eq!(simulator.send("DELETE", "/examplebucket/a", &[], b"").await.status(), 204);
}

#[tokio::test]
async fn what_the_simulator_cannot_do_is_said() {
    let simulator = Harness::start().await;
    simulator.send("PUT", "/examplebucket/a", &[], b"x").await;
    for (method, target) in [
        ("PUT", "/examplebucket/a?acl"),
        ("POST", "/examplebucket/a?append&position=0"),
        ("GET", "/examplebucket?lifecycle"),
    ] {
        let answer = simulator.send(method, target, &[], b"").await;
        assert_eq!((answer.status(), answer.element("Code").as_str()), (501, "NotImplemented"), "{method} {target}");
    }
    let copy = simulator.send("PUT", "/examplebucket/b", &[("x-oss-copy-source", "/examplebucket/a")], b"").await;
    assert_eq!(copy.status(), 501);
    assert_eq!(simulator.send("PATCH", "/examplebucket/a", &[], b"").await.status(), 405);
}

#[tokio::test]
async fn content_that_was_damaged_on_its_way_is_not_stored() {
    let simulator = Harness::start().await;
    let put = simulator.send("PUT", "/examplebucket/a", &[("Content-MD5", "XrY7u+Ae7tCTyyK7j1rNww==")], b"hullo").await;
    assert_eq!((put.status(), put.element("Code").as_str()), (400, "InvalidDigest"));
    assert!(!simulator.has("a").await);
    assert_eq!(std::fs::read_dir(simulator.folder.path().join("drafts")).unwrap().count(), 0);
}

#[tokio::test]
async fn objects_outlive_a_restart() {
    let first = Harness::start().await;
    first.send("PUT", "/examplebucket/dir/a", &[], b"hello").await;
    let folder = first.folder.path().to_owned();
    let second = Harness::with(|options| options.folder = folder).await;
    assert_eq!(second.send("GET", "/examplebucket/dir/a", &[], b"").await.text(), "hello");
}

#[tokio::test]
async fn parts_become_one_object_with_a_callback() {
    let (simulator, app) = (Harness::start().await, App::answering(ok(r#"{"Status":"OK"}"#)).await);
    let described = [("Content-Type", "text/x")];
    let id = simulator.send("POST", "/examplebucket/dir/a?uploads", &described, b"").await.element("UploadId");
    let mut list = String::new();
    let mut digests = Md5::new();
    for (number, content) in [(1, "hello "), (3, "cruel "), (7, "world")] {
        let target = format!("/examplebucket/dir/a?partNumber={number}&uploadId={id}");
        let part = simulator.send("PUT", &target, &[], content.as_bytes()).await;
        list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", part.header("etag")));
        digests.update(part.header("etag").trim_matches('"'));
    }
    let target = format!("/examplebucket/dir/a?uploadId={id}");
    let parts = simulator.send("GET", &format!("{target}&max-parts=2"), &[], b"").await;
    assert_eq!(
        (parts.elements("PartNumber"), parts.element("IsTruncated")),
        (vec!["1".into(), "3".into()], "true".into())
    );
    let rest = simulator.send("GET", &format!("{target}&part-number-marker=3"), &[], b"").await;
    assert_eq!((rest.elements("PartNumber"), rest.element("IsTruncated")), (vec!["7".into()], "false".into()));

    let parameter = callback(&json!({
        "callbackUrl": app.url("/"),
        "callbackBody": "e=${etag}&s=${size}&m=${contentMd5}&o=${operation}&t=${mimeType}",
    }));
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let answer = simulator.send("POST", &target, &[("x-oss-callback", &parameter)], list.as_bytes()).await;
    assert_eq!((answer.status(), answer.text()), (200, r#"{"Status":"OK"}"#));
    let etag = digests.finalize().iter().map(|byte| format!("{byte:02X}")).collect::<String>() + "-3";
    let body = format!("e={etag}&s=17&m=&o=CompleteMultipartUpload&t=text%2Fx");
    assert_eq!(app.received()[0].text(), body);
    let object = simulator.send("GET", "/examplebucket/dir/a", &[], b"").await;
    assert_eq!((object.text(), object.header("etag")), ("hello cruel world", format!("\"{etag}\"").as_str()));
    assert_eq!(object.header("x-oss-object-type"), "Multipart");
    assert_eq!(object.header("x-oss-hash-crc64ecma"), answer.header("x-oss-hash-crc64ecma"));
    // The checksum is that of the whole object, as if it had come in one piece.
    let whole = simulator.send("PUT", "/examplebucket/b", &[], b"hello cruel world").await;
    assert_eq!(object.header("x-oss-hash-crc64ecma"), whole.header("x-oss-hash-crc64ecma"));
    let again = simulator.send("POST", &target, &[], list.as_bytes()).await;
    assert_eq!((again.status(), again.element("Code").as_str()), (404, "NoSuchUpload"));
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused() {
    let simulator = Harness::start().await;
    let id = simulator.send("POST", "/examplebucket/a?uploads", &[], b"").await.element("UploadId");
    let target = format!("/examplebucket/a?uploadId={id}");
    let etag = simulator.send("PUT", &format!("{target}&partNumber=1"), &[], b"x").await.header("etag").to_owned();
    let part = |number: u32, etag: &str| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    for (list, code) in [
        (part(1, "0"), "InvalidPart"),
        (part(2, &etag), "InvalidPart"),
        (part(1, &etag) + &part(1, &etag), "InvalidPartOrder"),
        ("<Part>".to_owned(), "MalformedXML"),
    ] {
        let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let answer = simulator.send("POST", &target, &[], list.as_bytes()).await;
        assert_eq!((answer.status(), answer.element("Code").as_str()), (400, code));
    }
    for number in ["0", "10001", "x"] {
        let answer = simulator.send("PUT", &format!("{target}&partNumber={number}"), &[], b"x").await;
        assert_eq!(answer.element("Code"), "InvalidArgument");
    }
    assert_eq!(simulator.send("DELETE", &target, &[], b"").await.status(), 204);
    let gone = simulator.send("GET", &target, &[], b"").await;
    assert_eq!(gone.element("Code"), "NoSuchUpload");
}
