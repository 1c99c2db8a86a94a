//! Callbacks that succeed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use rsa::pkcs8::DecodePublicKey;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use upcall_callback::{CallbackRequest, PublicKey, Target};
use upcall_simulator::{CallbackOutcome, Faults, Options, Simulator};

use crate::support::{App, Harness, Message, PATIENCE, callback, callback_to, ok, read_message};

/// Every system variable and one custom one, as JSON.
const EVERYTHING: &str = r#"{"bucket":${bucket},"object":${object},"etag":${etag},"size":${size},"mimeType":${mimeType},"crc64":${crc64},"contentMd5":${contentMd5},"vpcId":${vpcId},"clientIp":${clientIp},"reqId":${reqId},"operation":${operation},"user":${x:user}}"#;

fn assert_signed(request: &Message, pem: &str) {
    // By the rsa crate: independent of the code that signed.
    let (path, query) = request.target().split_once('?').map_or((request.target(), None), |(p, q)| (p, Some(q)));
    let mut message = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    if let Some(query) = query {
        message.extend_from_slice(format!("?{query}").as_bytes());
    }
    message.push(b'\n');
    message.extend_from_slice(&request.body);
    let signature = STANDARD.decode(request.header("authorization")).unwrap();
    let key = RsaPublicKey::from_public_key_pem(pem).unwrap();
    // The prefix of an MD5 digest in PKCS#1, RFC 8017, section 9.2.
    let prefix = b"\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10".to_vec();
    let scheme = Pkcs1v15Sign { hash_len: Some(16), prefix: prefix.into() };
    key.verify(scheme, &Md5::digest(&message), &signature).unwrap();

    // And as an application server does it.
    let target = Target::parse(request.target()).unwrap();
    let key_url = String::from_utf8(STANDARD.decode(request.header("x-oss-pub-key-url")).unwrap()).unwrap();
    let callback = CallbackRequest {
        target: &target,
        body: &request.body,
        authorization: request.optional("authorization"),
        pub_key_url: request.optional("x-oss-pub-key-url"),
        content_type: request.optional("content-type"),
        bucket: request.optional("x-oss-bucket"),
        request_id: request.optional("x-oss-request-id"),
    };
    let unverified = callback.parse(|url| url == key_url).unwrap();
    assert!(unverified.verify(&PublicKey::from_pem(pem).unwrap()).is_ok());
}

#[tokio::test]
async fn put_object_relays_the_answer_and_keeps_its_headers() {
    let (simulator, app) = (Harness::start().await, App::answering(ok(r#"{"Status":"OK"}"#)).await);
    let parameter = callback(&json!({
        "callbackUrl": app.url("/cb"), "callbackBody": EVERYTHING, "callbackBodyType": "application/json",
    }));
    let vars = callback(&json!({"x:user": "4\"2"}));
    let headers =
        [("x-oss-callback", parameter.as_str()), ("x-oss-callback-var", &vars), ("Content-Type", "text/plain")];
    let answer = simulator.send("PUT", "/examplebucket/dir/a%20b.txt", &headers, b"123456789").await;

    assert_eq!((answer.status(), answer.text()), (200, r#"{"Status":"OK"}"#));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("etag"), "\"25F9E794323B453885F5181F1B624D0B\"");
    assert_eq!(answer.header("x-oss-hash-crc64ecma"), "11051210869376104954");
    assert_eq!(answer.header("server"), "AliyunOSS");

    let request = app.received().remove(0);
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let expected = json!({
        "bucket": "examplebucket", "object": "dir/a b.txt", "etag": "25F9E794323B453885F5181F1B624D0B", "size": 9,
        "mimeType": "text/plain", "crc64": 11_051_210_869_376_104_954_u64, "contentMd5": "JfnnlDI7RTiF9RgfG2JNCw==",
        "vpcId": "", "clientIp": "127.0.0.1", "reqId": answer.header("x-oss-request-id"), "operation": "PutObject",
        "user": "4\"2",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_callback_request_is_as_oss_sends_it() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    // The target goes out as it is written: escapes, double slashes, dots, plus signs, a bare question mark.
    for target in ["/cb", "/", "/a%2Fb//./../c+d%20e?x=%2f&y=1+2&z=?", "/cb?", "//cb/{a}\"b\"?{c}|d"] {
        let answer = simulator.put("a.txt", &callback_to(&app.url(target))).await;
        assert_eq!(answer.status(), 200, "{target}: {}", answer.text());
        let request = app.received().pop().unwrap();
        assert_eq!(request.line, format!("POST {target} HTTP/1.1"));
        assert_eq!(request.header("host"), app.address.to_string());
        assert_eq!(request.header("connection"), "close");
        assert_eq!(request.header("user-agent"), "aliyun-oss-callback");
        assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
        assert_eq!(request.header("content-md5"), STANDARD.encode(Md5::digest(&request.body)));
        assert_eq!(request.header("content-length"), request.body.len().to_string());
        assert!(request.header("date").ends_with(" GMT"));
        assert_eq!(request.header("x-oss-bucket"), "examplebucket");
        assert_eq!(request.header("x-oss-request-id"), answer.header("x-oss-request-id"));
        assert_eq!(request.header("x-oss-owner"), request.header("x-oss-requester"));
        assert_eq!(request.header("x-oss-signature-version"), "1.0");
        assert_eq!(request.header("x-oss-tag"), "CALLBACK");
        assert_eq!(request.header("x-oss-additional-headers"), "");
        assert_signed(&request, simulator.handle.public_key_pem());
    }
}

#[tokio::test]
async fn the_key_is_served_where_callbacks_say_and_survives_a_restart() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    simulator.put("a.txt", &callback_to(&app.url("/"))).await;
    let url = STANDARD.decode(app.received()[0].header("x-oss-pub-key-url")).unwrap();
    assert_eq!(url, simulator.handle.key_url().as_bytes());
    let target = simulator.handle.key_url().strip_prefix(simulator.handle.endpoint()).unwrap();
    let served = simulator.send("GET", target, &[], b"").await;
    assert_eq!((served.status(), served.text()), (200, simulator.handle.public_key_pem()));

    let options = Options::new(simulator.folder.path());
    let again = Simulator::bind(options).await.unwrap();
    assert_eq!(again.handle().public_key_pem(), simulator.handle.public_key_pem());
}

#[tokio::test]
async fn the_callback_host_is_sent_and_not_called() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let parameter = callback(&json!({
        "callbackUrl": app.address.to_string(), "callbackHost": "oss-cn-hangzhou.aliyuncs.com", "callbackBody": "a",
    }));
    assert_eq!(simulator.put("a.txt", &parameter).await.status(), 200);
    let request = app.received().remove(0);
    assert_eq!(request.header("host"), "oss-cn-hangzhou.aliyuncs.com");
    assert_eq!(request.target(), "/");
}

#[tokio::test]
async fn urls_are_tried_in_order_until_the_first_success() {
    let simulator = Harness::start().await;
    let mut reports = simulator.handle.reports();
    let not_found = App::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let redirect = App::answering("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n").await;
    let not_json = App::answering(ok("hello")).await;
    let good = App::answering(ok(r#"{"from":"good"}"#)).await;
    let spare = App::answering(ok(r#"{"from":"spare"}"#)).await;
    let apps = [&not_found, &redirect, &not_json, &good, &spare];
    let urls: Vec<String> = apps.iter().map(|app| app.url("/cb")).collect();
    let answer = simulator.put("a.txt", &callback_to(&urls.join(";"))).await;
    assert_eq!((answer.status(), answer.text()), (200, r#"{"from":"good"}"#));
    assert_eq!(apps.map(|app| app.received().len()), [1, 1, 1, 1, 0]);
    // Every attempt is about the same upload.
    assert_eq!(not_found.received()[0].body, good.received()[0].body);
    for url in &urls[..4] {
        assert_eq!(&reports.recv().await.unwrap().url, url);
    }
    assert!(reports.try_recv().is_err());
}

#[tokio::test]
async fn a_callback_is_reported() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let mut reports = simulator.handle.reports();
    let answer = simulator.put("dir/a.txt", &callback_to(&app.url("/cb"))).await;
    let report = reports.recv().await.unwrap();
    assert_eq!((report.bucket.as_str(), report.object.as_str()), ("examplebucket", "dir/a.txt"));
    assert_eq!(report.request_id, answer.header("x-oss-request-id"));
    assert_eq!((report.url, report.outcome), (app.url("/cb"), CallbackOutcome::Answered { bytes: 2 }));
}

#[tokio::test]
async fn an_uploader_that_goes_away_does_not_take_its_callback_along() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let mut reports = simulator.handle.reports();
    simulator.handle.set_faults(Faults { delay_ms: 200, ..Faults::default() });
    let mut stream = TcpStream::connect(simulator.address).await.unwrap();
    let parameter = callback_to(&app.url("/"));
    let request = format!(
        "PUT /examplebucket/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nx-oss-callback: {parameter}\r\n\r\nx"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let stored = async {
        while !simulator.has("a").await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, stored).await.unwrap();
    drop(stream);
    let report = tokio::time::timeout(PATIENCE, reports.recv()).await.unwrap().unwrap();
    assert_eq!((report.outcome, app.received().len()), (CallbackOutcome::Answered { bytes: 2 }, 1));
}

#[tokio::test]
async fn an_upload_under_way_is_finished_before_the_shutdown_ends() {
    let (folder, app) = (tempfile::tempdir().unwrap(), App::answering(ok("{}")).await);
    let mut options = Options::new(folder.path());
    options.faults.delay_ms = 200;
    let simulator = Simulator::bind(options).await.unwrap();
    let mut stream = TcpStream::connect(simulator.address().unwrap()).await.unwrap();
    let request = format!(
        "PUT /examplebucket/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\nx-oss-callback: {}\r\n\r\n",
        callback_to(&app.url("/"))
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(simulator.run(async move { drop(stopped.await) }));
    // The simulator has begun with the upload when it asks for the body.
    assert_eq!(read_message(&mut stream, true).await.status(), 100);
    drop(stop);
    stream.write_all(b"x").await.unwrap();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(app.received().len(), 1);
    assert_eq!(read_message(&mut stream, false).await.text(), "{}");
}

#[tokio::test]
async fn an_idle_client_does_not_hold_up_the_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = Simulator::bind(Options::new(folder.path())).await.unwrap();
    let address = simulator.address().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(simulator.run(async move { drop(stopped.await) }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert_eq!(read_message(&mut stream, false).await.status(), 200);
    drop(stop);
    // Far less than the time that requests under way are given.
    tokio::time::timeout(std::time::Duration::from_secs(5), running).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_presigned_url_carries_the_callback_in_its_query() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let parameter = callback(&json!({"callbackUrl": app.url("/cb"), "callbackBody": "u=${x:user}"}));
    let vars = callback(&json!({"x:user": "a b"}));
    let query = serde_urlencoded::to_string([("callback", parameter), ("callback-var", vars)]).unwrap();
    let target = format!("/examplebucket/a.txt?{query}&Expires=1&Signature=x&OSSAccessKeyId=y");
    assert_eq!(simulator.send("PUT", &target, &[], b"x").await.status(), 200);
    assert_eq!(app.received()[0].text(), "u=a%20b");
}

#[tokio::test]
async fn an_answer_by_http_1_0_is_taken() {
    let app = App::answering("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nnull").await;
    let answer = Harness::start().await.put("a", &callback_to(&app.url("/"))).await;
    assert_eq!((answer.status(), answer.text()), (200, "null"));
}

#[tokio::test]
async fn an_images_values_are_in_the_body() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let parameter = callback(&json!({
        "callbackUrl": app.url("/"),
        "callbackBody": "w=${imageInfo.width}&h=${imageInfo.height}&f=${imageInfo.format}",
    }));
    let gif = b"GIF89a\x03\x00\x02\x00\x80\x00\x00;";
    let headers = [("x-oss-callback", parameter.as_str()), ("Content-Type", "image/gif")];
    simulator.send("PUT", "/examplebucket/a.gif", &headers, gif).await;
    simulator.put("a.txt", &parameter).await;
    let received = app.received();
    assert_eq!((received[0].text(), received[1].text()), ("w=3&h=2&f=gif", "w=&h=&f="));
}
