//! The simulator's own resources: its public key and its faults.

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::body::Incoming;

use crate::exchange::{Answer, Exchange, empty, json, with_body};
use crate::faults::Faults;
use crate::receive;
use crate::simulator::{KEY_RESOURCE, Shared};

/// The most bytes in a description of faults: far more than there are faults.
const FAULTS_BYTES_MAX: usize = 64 * 1024;

/// Answers a request for a resource of the simulator's own.
pub(crate) async fn answer(shared: &Shared, exchange: &Exchange, name: &str, mut body: Incoming) -> Answer {
    match (&exchange.head.method, name) {
        (&Method::GET | &Method::HEAD, KEY_RESOURCE) => {
            let pem = Bytes::from(shared.key.public_key_pem().to_owned());
            with_body(StatusCode::OK, Some("application/x-pem-file"), pem)
        }
        (&Method::GET, "faults") => faults(shared),
        (&Method::PUT, "faults") => change_faults(shared, &mut body).await,
        (&Method::DELETE, "faults") => {
            shared.faults.replace(Faults::default());
            faults(shared)
        }
        (_, KEY_RESOURCE | "faults") => empty(StatusCode::METHOD_NOT_ALLOWED),
        _ => empty(StatusCode::NOT_FOUND),
    }
}

async fn change_faults(shared: &Shared, body: &mut Incoming) -> Answer {
    let Ok(document) = receive::document(body, FAULTS_BYTES_MAX).await else {
        return empty(StatusCode::PAYLOAD_TOO_LARGE);
    };
    match serde_json::from_slice(&document) {
        Ok(changed) => {
            shared.faults.replace(changed);
            faults(shared)
        }
        Err(error) => {
            let message = serde_json::json!({ "error": error.to_string() });
            json(StatusCode::BAD_REQUEST, message.to_string().into())
        }
    }
}

fn faults(shared: &Shared) -> Answer {
    match serde_json::to_vec(&shared.faults.read()) {
        Ok(document) => json(StatusCode::OK, document.into()),
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
