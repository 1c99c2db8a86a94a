//! From a request to the operation that it asks for, and back to an answer.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use crate::address::Address;
use crate::error::OssError;
use crate::exchange::{Answer, Exchange, empty, set, xml};
use crate::name::{BucketName, ObjectKey};
use crate::simulator::Shared;
use crate::{admin, bucket, listing, multipart, object, post, put, receive};

/// Operations on buckets and objects that OSS has and the simulator has not, by the query parameter that asks for them.
const SUBRESOURCES_MISSING: &[&str] = &[
    "append",
    "asyncFetch",
    "bucketArchiveDirectRead",
    "callbackPolicy",
    "cname",
    "comp",
    "cors",
    "encryption",
    "inventory",
    "lifecycle",
    "live",
    "logging",
    "objectVersions",
    "policy",
    "qos",
    "referer",
    "replication",
    "requestPayment",
    "resourceGroup",
    "restore",
    "select",
    "sequential",
    "style",
    "symlink",
    "tagging",
    "transferAcceleration",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "x-oss-async-process",
    "x-oss-process",
];

/// Answers a request. Every failure becomes an answer too.
pub(crate) async fn answer(shared: Arc<Shared>, client: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, mut body) = request.into_parts();
    let exchange = Exchange::new(shared.ids.request(), client, head);
    let address = Address::read(&exchange.head.uri, &exchange.head.headers, &shared.options.endpoints);
    if let Ok(Address::Own(name)) = &address {
        // No CORS headers here: a web page has no business with the simulator's own resources.
        return admin::answer(&shared, &exchange, name, body).await;
    }
    let outcome = match address {
        Ok(_) if exchange.head.method == Method::OPTIONS => Ok(empty(StatusCode::OK)),
        Ok(address) => Box::pin(operate(&shared, &exchange, address, &mut body)).await,
        Err(error) => Err(error),
    };
    let mut answer = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            // A client that is still sending would otherwise see a broken connection and not the answer.
            receive::drain(&mut body).await;
            refuse(&shared, &exchange, &error)
        }
    };
    set(&mut answer, "server", "AliyunOSS");
    set(&mut answer, "x-oss-request-id", exchange.id.as_str());
    allow_browsers(&exchange, &mut answer);
    answer
}

async fn operate(
    shared: &Arc<Shared>,
    exchange: &Exchange,
    address: Address,
    body: &mut Incoming,
) -> Result<Answer, OssError> {
    if exchange.asks_for(SUBRESOURCES_MISSING) {
        return Err(OssError::not_implemented());
    }
    match address {
        Address::Service if exchange.head.method == Method::GET => bucket::list(shared, exchange).await,
        Address::Service | Address::Own(_) => Err(OssError::method_not_allowed()),
        Address::Bucket(bucket) => on_bucket(shared, exchange, &bucket, body).await,
        Address::Object(bucket, key) => on_object(shared, exchange, &bucket, &key, body).await,
    }
}

async fn on_bucket(
    shared: &Arc<Shared>,
    exchange: &Exchange,
    bucket: &BucketName,
    body: &mut Incoming,
) -> Result<Answer, OssError> {
    match exchange.head.method {
        Method::GET if exchange.asks_for(&["acl"]) => bucket::acl(shared, bucket).await,
        _ if exchange.asks_for(&["acl"]) => Err(OssError::not_implemented()),
        Method::PUT => bucket::create(shared, bucket).await,
        Method::POST if exchange.asks_for(&["delete"]) => object::remove_many(shared, bucket, body).await,
        Method::POST => post::post_object(shared, exchange, bucket, body).await,
        Method::DELETE => bucket::remove(shared, bucket).await,
        Method::HEAD => bucket::head(shared, bucket).await,
        Method::GET if exchange.asks_for(&["bucketInfo"]) => bucket::info(shared, exchange, bucket).await,
        Method::GET if exchange.asks_for(&["location"]) => bucket::location(shared, bucket).await,
        Method::GET if exchange.asks_for(&["uploads", "stat"]) => Err(OssError::not_implemented()),
        Method::GET => listing::list_objects(shared, exchange, bucket).await,
        _ => Err(OssError::method_not_allowed()),
    }
}

async fn on_object(
    shared: &Arc<Shared>,
    exchange: &Exchange,
    bucket: &BucketName,
    key: &ObjectKey,
    body: &mut Incoming,
) -> Result<Answer, OssError> {
    let upload_id = exchange.query("uploadId");
    match (&exchange.head.method, upload_id) {
        _ if exchange.asks_for(&["acl"]) => Err(OssError::not_implemented()),
        (&Method::PUT, _) if exchange.head.headers.contains_key("x-oss-copy-source") => {
            Err(OssError::not_implemented())
        }
        (&Method::PUT, Some(id)) => multipart::upload_part(shared, exchange, bucket, key, id, body).await,
        (&Method::PUT, None) => put::put_object(shared, exchange, bucket, key, body).await,
        (&Method::POST, Some(id)) => multipart::complete(shared, exchange, bucket, key, id, body).await,
        (&Method::POST, None) if exchange.asks_for(&["uploads"]) => {
            multipart::initiate(shared, exchange, bucket, key).await
        }
        (&Method::GET, Some(id)) => multipart::list_parts(shared, exchange, bucket, key, id).await,
        (&Method::GET | &Method::HEAD, None) => object::read(shared, exchange, bucket, key).await,
        (&Method::DELETE, Some(id)) => multipart::abort(shared, bucket, key, id).await,
        (&Method::DELETE, None) => object::remove(shared, bucket, key).await,
        _ => Err(OssError::method_not_allowed()),
    }
}

/// Words a refusal.
fn refuse(shared: &Shared, exchange: &Exchange, error: &OssError) -> Answer {
    let document = shared.error_xml(exchange, error.code, &error.message, &error.ec);
    let mut answer = if exchange.head.method == Method::HEAD {
        let mut answer = empty(error.status);
        set(&mut answer, "x-oss-err", STANDARD.encode(document));
        answer
    } else {
        xml(error.status, document)
    };
    if !error.ec.is_empty() {
        set(&mut answer, "x-oss-ec", &error.ec);
    }
    answer
}

/// Lets every web page upload and read the answer: on a developer's machine there is nothing to protect from it.
fn allow_browsers(exchange: &Exchange, answer: &mut Answer) {
    if exchange.header("origin").is_none() {
        return;
    }
    set(answer, "access-control-allow-origin", "*");
    set(answer, "access-control-allow-methods", "GET, HEAD, PUT, POST, DELETE");
    set(answer, "access-control-allow-headers", exchange.header("access-control-request-headers").unwrap_or("*"));
    set(answer, "access-control-expose-headers", "*");
    set(answer, "access-control-max-age", "600");
}
