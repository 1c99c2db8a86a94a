//! Behind proxies that rewrite paths.

use upcall_gateway::{Options, OriginalTarget};

use crate::support::{callback, route, signed_callback, start};

fn believing(proxies: &[&str]) -> impl FnOnce(&mut Options) {
    let proxies = proxies.iter().map(|network| network.parse().unwrap()).collect();
    move |options| {
        let header = http::HeaderName::from_static("x-original-uri");
        options.original_target = Some(OriginalTarget { header, proxies });
        options.routes.push(route("documents", "/oss/documents", Some("/api/documents")));
    }
}

fn original(target: &str) -> String {
    format!("x-original-uri: {target}\r\n")
}

#[tokio::test]
async fn a_route_with_a_public_path_takes_what_was_signed_for_that() {
    let gateway =
        start(|options| options.routes = vec![route("avatars", "/oss/avatars", Some("/api/oss/avatars"))]).await;
    gateway.send(signed_callback("/oss/avatars?a=%31", "/api/oss/avatars?a=%31", "")).await.assert_accepted();
    gateway.send(signed_callback("/oss/avatars", "/api/oss/avatars", "")).await.assert_accepted();
    gateway.send(callback("/oss/avatars")).await.assert_error(403, "signature_mismatch");
    gateway.send(callback("/api/oss/avatars")).await.assert_error(404, "route_unknown");
}

#[tokio::test]
async fn a_signature_for_one_route_does_not_pass_at_another() {
    let gateway = start(|options| {
        options.routes = vec![route("a", "/a", Some("/public/a")), route("b", "/b", Some("/public/b"))];
    })
    .await;
    gateway.send(signed_callback("/a", "/public/a", "")).await.assert_accepted();
    for (target, signed) in [("/a", "/public/b"), ("/b", "/public/a"), ("/a", "/a"), ("/a", "/b")] {
        gateway.send(signed_callback(target, signed, "")).await.assert_error(403, "signature_mismatch");
    }
    assert_eq!(gateway.published(), 1);
}

#[tokio::test]
async fn a_trusted_proxy_says_what_the_original_target_was() {
    let gateway = start(believing(&["127.0.0.0/8"])).await;
    let rewritten = signed_callback("/rewritten", "/oss/avatars?a=%2F", &original("/oss/avatars?a=%2F"));
    gateway.send(rewritten).await.assert_accepted();
    let by_public_path = signed_callback("/whatever", "/api/documents?x", &original("/api/documents?x"));
    gateway.send(by_public_path).await.assert_accepted();
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
    let elsewhere = signed_callback("/oss/avatars", "/oss/avatars", &original("/none"));
    gateway.send(elsewhere).await.assert_error(404, "route_unknown");
    let wrong = signed_callback("/oss/avatars", "/oss/avatars", &original("/oss/avatars?b"));
    gateway.send(wrong).await.assert_error(403, "signature_mismatch");
    let twice = format!("{}{}", original("/oss/avatars"), original("/none"));
    gateway
        .send(signed_callback("/oss/avatars", "/oss/avatars", &twice))
        .await
        .assert_error(400, "original_target_unusable");
    let absolute = original("http://host/oss/avatars");
    gateway.send(signed_callback("/oss/avatars", "/oss/avatars", &absolute)).await.assert_error(400, "target_form");
}

#[tokio::test]
async fn the_same_header_from_a_stranger_is_ignored() {
    let gateway = start(believing(&["10.0.0.0/8", "::1"])).await;
    let forged = signed_callback("/oss/documents", "/oss/avatars", &original("/oss/avatars"));
    gateway.send(forged).await.assert_error(403, "signature_mismatch");
    let harmless = signed_callback("/oss/avatars", "/oss/avatars", &original("/none"));
    gateway.send(harmless).await.assert_accepted();
    assert_eq!(gateway.published(), 1);
}
