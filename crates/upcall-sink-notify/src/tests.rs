//! What the sink promises, against servers of this machine.

mod conformance;
mod escape;
mod golden;
mod mail;
mod service;

use upcall_event::{BucketSource, Event, EventId, Image, Origin, Proof, UploadCompleted};

/// An event about an object of this name.
pub(crate) fn event(object: &str) -> Event {
    Event {
        id: EventId::from_request("examplebucket", object, "5CF3E7821AB22D0FDB86704D"),
        time: "2026-01-01T00:00:00.123456Z".parse().unwrap(),
        data: UploadCompleted {
            bucket: "examplebucket".into(),
            object: object.into(),
            etag: Some("D8E8FCA2DC0F896FD7CB4CB0031BA249".into()),
            size: Some(1_234_567),
            mime_type: Some("image/jpeg".into()),
            crc64: None,
            content_md5: None,
            image: Some(Image { width: Some(1920), height: Some(1080), format: Some("jpg".into()) }),
            operation: Some("PutObject".into()),
            request_id: Some("5CF3E7821AB22D0FDB86704D".into()),
            client_ip: Some("203.0.113.7".into()),
            vpc_id: None,
            vars: [("user".to_owned(), "42".to_owned())].into(),
            extra: [].into(),
            route: "avatars".into(),
            bucket_from: BucketSource::Body,
            proof: vec![Proof::Signature],
            origin: Origin::Callback,
        },
        trace: None,
    }
}

/// Every chat service, with its name in golden files.
pub(crate) fn chats() -> Vec<(&'static str, crate::ChatKind)> {
    use crate::ChatKind::{DingTalk, Discord, Feishu, Slack, Teams, WeCom};
    vec![
        ("slack", Slack),
        ("teams", Teams),
        ("discord", Discord),
        ("dingtalk", DingTalk { secret: None }),
        ("feishu", Feishu { secret: None }),
        ("wecom", WeCom),
    ]
}

/// A mail from and to somebody.
pub(crate) fn mail() -> crate::Mail {
    crate::Mail {
        host: "127.0.0.1".into(),
        port: None,
        security: crate::Security::None,
        credentials: None,
        authorities: Vec::new(),
        from: "Upcall <upcall@example.com>".parse().unwrap(),
        to: vec!["ops@example.com".parse().unwrap(), "Büro <office@example.org>".parse().unwrap()],
        timeout: std::time::Duration::from_secs(10),
    }
}
