//! Callbacks in, published events out, with real signatures.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use upcall_bus::{Deadline, Message, PublishError, PublishErrorKind, Publisher, Receipt, Source};
use upcall_callback::{CallbackRequest, KeyUrl, PrivateKey, Target};
use upcall_event::{BucketSource, Event, EventId, Proof};
use upcall_telemetry::metrics::Metrics;
use upcall_verifier::{InvalidRoute, KeyFetcher, Keys, Refusal, Route, RouteOptions, TrustedKey, Verifier};

const TRUSTED: &str = "http://127.0.0.1:9000/key.pem";
const FETCHED: &str = "http://gosspublic.alicdn.com/callback_pub_key_v9.pem";
static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(512).unwrap());

#[derive(Default)]
struct Bus {
    published: Mutex<Vec<Message>>,
    fails: Option<PublishErrorKind>,
}

#[async_trait]
impl Publisher for Bus {
    async fn publish(&self, message: Message, _deadline: Deadline) -> Result<Receipt, PublishError> {
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        self.published.lock().unwrap().push(message);
        Ok(Receipt::Stored)
    }
}

/// Has the key, but for `none.pem`, and says which URLs it was asked for.
#[derive(Default)]
struct Fetcher(Mutex<Vec<String>>);

#[async_trait]
impl KeyFetcher for Fetcher {
    async fn fetch(&self, url: &str) -> Result<Option<String>, Source> {
        self.0.lock().unwrap().push(url.to_owned());
        Ok((!url.ends_with("/none.pem")).then(|| KEY.public_key_pem().to_owned()))
    }
}

/// A callback that is in order, to be spoilt by a test.
struct Callback {
    target: &'static str,
    body: String,
    authorization: Option<String>,
    key_url: Option<String>,
    content_type: &'static str,
    bucket: Option<&'static str>,
    request_id: Option<&'static str>,
}

impl Callback {
    fn new(body: &str) -> Self {
        let target = "/oss/avatars?a=1";
        Self {
            target,
            body: body.to_owned(),
            authorization: Some(KEY.sign(&Target::parse(target).unwrap(), body.as_bytes())),
            key_url: Some(STANDARD.encode(TRUSTED)),
            content_type: "application/x-www-form-urlencoded",
            bucket: Some("headerbucket"),
            request_id: Some("5CF3E7821AB22D0FDB86704D"),
        }
    }

    async fn send(&self, route: RouteOptions) -> Result<Event, Refusal> {
        self.send_to(&verifier(Arc::new(Bus::default()), None), route).await
    }

    async fn send_to(&self, verifier: &Verifier, route: RouteOptions) -> Result<Event, Refusal> {
        let target = Target::parse(self.target).map_err(Refusal::Target)?;
        let request = CallbackRequest {
            target: &target,
            body: self.body.as_bytes(),
            authorization: self.authorization.as_deref(),
            pub_key_url: self.key_url.as_deref(),
            content_type: Some(self.content_type),
            bucket: self.bucket,
            request_id: self.request_id,
        };
        let deadline = Deadline::after(Duration::from_secs(4));
        let route = Route::new(route).unwrap();
        let accepted = verifier.accept(request, &route, Timestamp::UNIX_EPOCH, deadline).await?;
        Ok(accepted.event)
    }
}

fn verifier(bus: Arc<Bus>, fetcher: Option<Arc<dyn KeyFetcher>>) -> Verifier {
    let trusted = TrustedKey { url: TRUSTED.to_owned(), pem: KEY.public_key_pem().to_owned() };
    Verifier::new(Keys::new([trusted], fetcher, &Metrics::new()).unwrap(), bus)
}

fn route() -> RouteOptions {
    RouteOptions { name: "avatars".to_owned(), ..RouteOptions::default() }
}

fn with_buckets(buckets: &[&str]) -> RouteOptions {
    RouteOptions { buckets: buckets.iter().map(|bucket| (*bucket).to_owned()).collect(), ..route() }
}

#[track_caller]
fn code(result: Result<Event, Refusal>) -> &'static str {
    result.map(|event| panic!("accepted: {event:?}")).unwrap_or_else(|refusal: Refusal| refusal.code())
}

#[tokio::test]
async fn a_genuine_callback_is_published_with_what_was_proved() {
    let bus = Arc::new(Bus::default());
    let callback =
        Callback::new("bucket=b&object=dir%2Fa.png&size=7&reqId=5CF3E7821AB22D0FDB867000&x%3Auser=42&other=1");
    let event = callback.send_to(&verifier(Arc::clone(&bus), None), route()).await.unwrap();
    assert_eq!(event.id, EventId::from_request("b", "dir/a.png", "5CF3E7821AB22D0FDB867000"));
    assert_eq!((event.data.size, event.data.vars["user"].as_str()), (Some(7), "42"));
    assert_eq!(event.data.extra, [("other".to_owned(), "1".into())].into());
    assert_eq!(
        (event.data.proof.as_slice(), event.data.bucket_from),
        ([Proof::Signature].as_slice(), BucketSource::Body)
    );
    assert_eq!((event.time, event.data.route.as_str()), (Timestamp::UNIX_EPOCH, "avatars"));
    let published = bus.published.lock().unwrap();
    assert_eq!((published.len(), published[0].subject.as_str()), (1, "upcall.uploads.b._"));
    assert_eq!(published[0].event, event);
}

#[tokio::test]
async fn whatever_is_changed_on_the_way_is_refused() {
    type Spoil = fn(&mut Callback);
    let spoilt = |spoil: Spoil| {
        let mut callback = Callback::new("bucket=b&object=a.png");
        spoil(&mut callback);
        callback
    };
    let cases: [(&str, Spoil); 10] = [
        ("signature_mismatch", |callback| callback.body.push('&')),
        ("signature_mismatch", |callback| callback.target = "/oss/avatars?a=2"),
        ("signature_mismatch", |callback| callback.target = "/oss/avatars"),
        ("signature_mismatch", |callback| callback.key_url = None),
        ("signature_mismatch", |callback| callback.key_url = Some(STANDARD.encode(KeyUrl::V1))),
        ("signature_missing", |callback| callback.authorization = None),
        ("signature_encoding", |callback| callback.authorization = Some("%".to_owned())),
        ("key_url_encoding", |callback| callback.key_url = Some("%".to_owned())),
        ("key_url_forbidden", |callback| callback.key_url = Some(STANDARD.encode("https://evil.example/k.pem"))),
        ("target_ambiguous", |callback| callback.target = "/oss/avatars%3Fa=1"),
    ];
    for (expected, spoil) in cases {
        assert_eq!(code(spoilt(spoil).send(route()).await), expected);
    }
}

#[tokio::test]
async fn a_body_that_is_authentic_and_unusable_says_what_is_missing() {
    let cases = [
        ("bucket=b", "object_missing"),
        ("bucket=b&object=", "object_missing"),
        ("bucket=b&filename=a", "object_missing"),
        ("object=a", "bucket_missing"),
        ("bucket=b&object=%24%7Bobject%7D", "template_encoded"),
        ("bucket=b&object=a&object=c", "body_conflict"),
        ("{", "body_unreadable"),
    ];
    for (body, expected) in cases {
        assert_eq!(code(Callback::new(body).send(route()).await), expected, "{body}");
    }
    let Err(refusal) = Callback::new("bucket=b").send(route()).await else { panic!("no object, no event") };
    assert!(refusal.message().contains("object=${object}"), "{}", refusal.message());
}

#[tokio::test]
async fn the_log_has_no_values_of_the_body() {
    for body in
        ["bucket=b&object=%24%7Bobject%7D", "object=secret&object=secreter", "object=%zzsecret", "{\"object\":secret}"]
    {
        let Err(refusal) = Callback::new(body).send(route()).await else { panic!("{body} was accepted") };
        assert!(!refusal.to_string().contains("secret"), "{refusal}");
        assert!(std::error::Error::source(&refusal).is_none());
    }
}

#[tokio::test]
async fn the_body_names_the_bucket_else_the_route_else_where_allowed_the_header() {
    let from = |event: Event| (event.data.bucket, event.data.bucket_from);
    let header = || RouteOptions { bucket_from_header: true, ..route() };
    let in_body = Callback::new("bucket=b&object=a").send(header()).await.unwrap();
    assert_eq!(from(in_body), ("b".to_owned(), BucketSource::Body));
    let without = Callback::new("object=a");
    let by_route = without.send(RouteOptions { bucket_from_header: true, ..with_buckets(&["only"]) }).await.unwrap();
    assert_eq!(from(by_route), ("only".to_owned(), BucketSource::Route));
    let by_header = without.send(header()).await.unwrap();
    assert_eq!(from(by_header), ("headerbucket".to_owned(), BucketSource::Header));
    assert_eq!(code(without.send(route()).await), "bucket_missing");
    assert_eq!(code(without.send(with_buckets(&["one", "two"])).await), "bucket_missing");
    let foreign = RouteOptions { bucket_from_header: true, ..with_buckets(&["one", "two"]) };
    assert_eq!(code(without.send(foreign).await), "bucket_not_allowed");
}

#[tokio::test]
async fn only_the_routes_buckets_are_taken() {
    let callback = Callback::new("bucket=b&object=a");
    assert!(callback.send(with_buckets(&["a", "b"])).await.is_ok());
    for buckets in [["a", "bb"], ["B", "b."]] {
        assert_eq!(code(callback.send(with_buckets(&buckets)).await), "bucket_not_allowed");
    }
    assert_eq!(code(callback.send(with_buckets(&["a"])).await), "bucket_not_allowed", "the body is what counts");
}

#[tokio::test]
async fn without_a_signed_request_id_the_id_is_made_of_what_was_signed() {
    let event = Callback::new("bucket=b&object=a").send(route()).await.unwrap();
    let signed = b"/oss/avatars?a=1\nbucket=b&object=a";
    assert_eq!(event.id, EventId::from_signed(signed, Some("5CF3E7821AB22D0FDB86704D")));
    assert_eq!(event.data.request_id, None);
}

#[tokio::test]
async fn a_field_map_is_applied_to_json_too() {
    let fields = [("object", "filename"), ("size", "bytes")];
    let fields: BTreeMap<_, _> = fields.iter().map(|(field, name)| ((*field).to_owned(), (*name).to_owned())).collect();
    let body = r#"{"bucket":"b","filename":"a.png","bytes":7,"imageInfo":{"height":,"width":3}}"#;
    let callback = Callback { content_type: "application/json", ..Callback::new(body) };
    let event = callback.send(RouteOptions { fields, ..route() }).await.unwrap();
    assert_eq!((event.data.object.as_str(), event.data.size), ("a.png", Some(7)));
    assert_eq!(event.data.image.map(|image| (image.width, image.height)), Some((Some(3), None)));
}

#[tokio::test]
async fn what_the_bus_does_not_take_is_not_accepted() {
    for (kind, expected) in [
        (PublishErrorKind::Busy, "bus_busy"),
        (PublishErrorKind::Timeout, "bus_timeout"),
        (PublishErrorKind::Full, "bus_full"),
        (PublishErrorKind::Unavailable, "bus_unavailable"),
        (PublishErrorKind::Rejected, "bus_rejected"),
    ] {
        let bus = Arc::new(Bus { fails: Some(kind), ..Bus::default() });
        let result = Callback::new("bucket=b&object=a").send_to(&verifier(bus, None), route()).await;
        assert_eq!(code(result), expected);
    }
}

#[tokio::test]
async fn a_key_that_is_not_at_hand_is_fetched_over_https_unless_that_is_off() {
    let callback = Callback { key_url: Some(STANDARD.encode(FETCHED)), ..Callback::new("bucket=b&object=a") };
    assert_eq!(code(callback.send(route()).await), "key_unavailable");
    let fetcher = Arc::new(Fetcher::default());
    let verifier = verifier(Arc::new(Bus::default()), Some(Arc::clone(&fetcher) as Arc<dyn KeyFetcher>));
    for _ in 0..2 {
        assert!(callback.send_to(&verifier, route()).await.is_ok());
    }
    assert_eq!(*fetcher.0.lock().unwrap(), [FETCHED.replace("http:", "https:")]);
}

#[tokio::test]
async fn a_key_that_oss_does_not_have_is_refused_and_says_nothing_about_us() {
    let fetcher = Arc::new(Fetcher::default());
    let verifier = verifier(Arc::new(Bus::default()), Some(fetcher));
    let named = |name: &str| Callback {
        key_url: Some(STANDARD.encode(format!("https://gosspublic.alicdn.com/{name}.pem"))),
        ..Callback::new("bucket=b&object=a")
    };
    assert_eq!(code(named("none").send_to(&verifier, route()).await), "key_unknown");
    for number in 0..8 {
        let _ = named(&format!("junk_{number}")).send_to(&verifier, route()).await;
    }
    assert_eq!(code(named("one_too_many").send_to(&verifier, route()).await), "key_unknown");
}

#[tokio::test]
async fn keys_at_hand_are_never_fetched() {
    let fetcher = Arc::new(Fetcher::default());
    let verifier = verifier(Arc::new(Bus::default()), Some(Arc::clone(&fetcher) as Arc<dyn KeyFetcher>));
    for url in [TRUSTED, KeyUrl::V1, "http://gosspublic.alicdn.com/callback_pub_key_v1.pem"] {
        let callback = Callback { key_url: Some(STANDARD.encode(url)), ..Callback::new("bucket=b&object=a") };
        // Signed with the trusted key: what is named v1 does not match, and that is all.
        let accepted = callback.send_to(&verifier, route()).await.is_ok();
        assert_eq!(accepted, url == TRUSTED);
    }
    assert!(fetcher.0.lock().unwrap().is_empty());
}

#[test]
fn a_proof_that_can_not_be_given_is_a_mistake_of_the_route() {
    let options =
        RouteOptions { require: vec![Proof::Signature, Proof::Grant], buckets: vec![String::new()], ..route() };
    let mistakes = Route::new(options).unwrap_err();
    assert_eq!(mistakes, [InvalidRoute::EmptyBucket, InvalidRoute::ProofUnavailable(Proof::Grant)]);
}
