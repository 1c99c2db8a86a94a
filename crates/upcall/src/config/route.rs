//! `[[route]]`: a callback path with its policy.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;
use upcall_callback::Target;
use upcall_event::{Proof, SubjectTemplate};
use upcall_gateway::RouteOptions as BoundRoute;
use upcall_responder::Responder;
use upcall_verifier::{InvalidRoute, Route as Policy, RouteOptions};

use super::consumer::parse;
use super::reader::Section;
use super::response::{self, AnswerBy};
use super::setting::Setting;

impl Setting for SubjectTemplate {
    const KIND: &'static str = "a subject, such as \"upcall.uploads.${bucket}.${operation}\"";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

impl Setting for Vec<Proof> {
    const KIND: &'static str = "an array of proofs: \"signature\"";

    fn read(value: &Value) -> Result<Self, String> {
        let proof = |name: &Value| {
            let known = [Proof::Signature, Proof::Grant, Proof::Confirmed];
            let found = known.into_iter().find(|proof| name.as_str() == Some(proof.as_str()));
            found.ok_or_else(|| format!("takes {}; {name} is no proof", Self::KIND))
        };
        value.as_array().ok_or_else(|| format!("takes {}", Self::KIND))?.iter().map(proof).collect()
    }
}

/// A callback path with its policy, and where its answers come from.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) public_path: Option<String>,
    pub(crate) policy: Policy,
    pub(crate) answer: AnswerBy,
}

impl Route {
    /// The route, once it is known who answers.
    pub(crate) fn bound(self, responder: Responder) -> BoundRoute {
        let Self { path, public_path, policy, .. } = self;
        BoundRoute { path, public_path, policy, responder }
    }
}

/// Reads one `[[route]]`. `None` where mistakes leave no route; they are on record.
pub(super) fn read(mut section: Section<'_>, budget: Duration) -> Option<Route> {
    let name: Option<String> = section.required("name", "Its name, as events, metrics and logs have it.");
    let path: Option<String> = section.required("path", "The path that callbacks arrive on, such as `/oss/avatars`.");
    let public_path: Option<String> = section.optional(
        "public_path",
        "The path that OSS calls and signs, where a proxy in front rewrites it. By default `path`.",
    );
    let buckets: Vec<String> = section.or("buckets", Value::Array(Vec::new()), "The buckets whose callbacks it takes; empty for any. Where the body names no bucket and this names exactly one, it is that.");
    let bucket_from_header = section.or(
        "bucket_from_header",
        false,
        "Whether the `x-oss-bucket` header may name the bucket where the body does not. Nobody signs it.",
    );
    let require: Vec<Proof> =
        section.or("require", Value::Array(vec!["signature".into()]), "What must be proved about a callback.");
    let fields: BTreeMap<String, String> = section
        .optional(
            "fields",
            "From the event's field to the name that the callbackBody uses, such as `{ object = \"filename\" }`.",
        )
        .unwrap_or_default();
    let subject = section.or(
        "subject",
        SubjectTemplate::DEFAULT,
        "Where on the bus its events go: a literal prefix, then tokens that are literal or one `${NAME}`.",
    );
    let notifications = section.or(
        "notifications",
        false,
        "Whether OSS's event notifications about `buckets` become events, too, on Function Compute. Nobody signs them.",
    );
    let answer = response::read(&mut section, budget);
    for (key, path) in [("path", &path), ("public_path", &public_path)] {
        match path.as_deref().map(Target::parse) {
            Some(Err(error)) => section.mistake(key, format!("is no path: {error}")),
            Some(Ok(target)) if target.query().is_some() => {
                section.mistake(key, "has a query; a route is found by its path alone");
            }
            _ => {}
        }
    }
    let options = RouteOptions { name: name?, buckets, bucket_from_header, require, fields, subject, notifications };
    let policy = Policy::new(options).map_err(|mistakes| {
        for mistake in mistakes {
            section.mistake(key_of(&mistake), mistake.to_string());
        }
    });
    Some(Route { policy: policy.ok()?, answer: answer?, path: path?, public_path })
}

fn key_of(mistake: &InvalidRoute) -> &'static str {
    match mistake {
        InvalidRoute::NoName => "name",
        InvalidRoute::EmptyBucket | InvalidRoute::NotificationsOfAnyBucket => "buckets",
        InvalidRoute::ProofUnavailable(_) => "require",
        InvalidRoute::Field(_) => "fields",
    }
}
