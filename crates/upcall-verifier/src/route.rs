//! A route's policy: what it takes, and what it makes of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use upcall_bus::Message;
use upcall_callback::{Notification, Verified};
use upcall_event::{BucketSource, Event, EventId, Origin, Proof, SubjectTemplate, SubjectTooLong, UploadCompleted};

use crate::field_map::{FieldMap, InvalidField};
use crate::normalize::Normalized;
use crate::refusal::Refusal;

/// How a route treats its callbacks.
#[derive(Debug, Clone, Default)]
pub struct RouteOptions {
    /// The route's name, as events, metrics and logs have it.
    pub name: String,
    /// The buckets whose callbacks it takes; empty for any.
    pub buckets: Vec<String>,
    /// Whether the `x-oss-bucket` header, which nobody signed, may name the bucket where the body does not.
    pub bucket_from_header: bool,
    /// The proofs that it demands. [`Proof::Signature`] is always demanded.
    pub require: Vec<Proof>,
    /// From the event's field to the name that the callbackBody uses, over the usual names.
    pub fields: BTreeMap<String, String>,
    /// Where on the bus its events go.
    pub subject: SubjectTemplate,
    /// Whether OSS's event notifications about its buckets become events, too. Nobody signs them.
    pub notifications: bool,
}

/// A checked route.
#[derive(Debug, Clone)]
pub struct Route {
    name: String,
    buckets: Vec<String>,
    bucket_from_header: bool,
    require: Vec<Proof>,
    fields: FieldMap,
    subject: SubjectTemplate,
    notifications: bool,
}

/// A mistake in a route's options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoute {
    /// The name is empty.
    #[error("a route needs a name")]
    NoName,
    /// A bucket's name is empty.
    #[error("a bucket's name is empty")]
    EmptyBucket,
    /// The proof can't be given yet, so the route would refuse everything.
    #[error("{:?} can't be proved by this version, so the route would refuse every callback", .0.as_str())]
    ProofUnavailable(Proof),
    /// It takes notifications, which say nothing of a route but their bucket, of any bucket.
    #[error("a route that takes notifications names the buckets that it takes them of")]
    NotificationsOfAnyBucket,
    /// The field map has a mistake.
    #[error("fields: {0}")]
    Field(InvalidField),
}

/// A callback that its route takes: authentic, readable, and allowed by the route's policy.
#[derive(Debug)]
pub struct Admitted<'r> {
    route: &'r Route,
    id: EventId,
    data: UploadCompleted,
    unread: Vec<&'static str>,
    /// When it happened, where somebody says so.
    happened: Option<Timestamp>,
}

impl Route {
    /// Checks a route's options.
    ///
    /// # Errors
    /// With every mistake.
    pub fn new(options: RouteOptions) -> Result<Self, Vec<InvalidRoute>> {
        let mut mistakes = Vec::new();
        if options.name.is_empty() {
            mistakes.push(InvalidRoute::NoName);
        }
        if options.buckets.iter().any(String::is_empty) {
            mistakes.push(InvalidRoute::EmptyBucket);
        }
        if options.notifications && options.buckets.is_empty() {
            mistakes.push(InvalidRoute::NotificationsOfAnyBucket);
        }
        let unavailable = options.require.iter().filter(|proof| **proof != Proof::Signature);
        mistakes.extend(unavailable.map(|proof| InvalidRoute::ProofUnavailable(*proof)));
        let fields = FieldMap::new(&options.fields).unwrap_or_else(|invalid| {
            mistakes.extend(invalid.into_iter().map(InvalidRoute::Field));
            FieldMap::default()
        });
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            name: options.name,
            buckets: options.buckets,
            bucket_from_header: options.bucket_from_header,
            require: options.require,
            fields,
            subject: options.subject,
            notifications: options.notifications,
        })
    }

    /// The route's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The buckets whose callbacks it takes; empty for any.
    #[must_use]
    pub fn buckets(&self) -> &[String] {
        &self.buckets
    }

    /// Whether a header that nobody signed may name the bucket.
    #[must_use]
    pub fn bucket_from_header(&self) -> bool {
        self.bucket_from_header
    }

    /// The proofs that it demands beside the signature, which is always demanded.
    pub fn demands(&self) -> impl Iterator<Item = Proof> {
        self.require.iter().copied().filter(|proof| *proof != Proof::Signature)
    }

    /// Where on the bus its events go.
    #[must_use]
    pub fn subject(&self) -> &SubjectTemplate {
        &self.subject
    }

    /// Whether OSS's event notifications about its buckets become events, too.
    #[must_use]
    pub fn takes_notifications(&self) -> bool {
        self.notifications
    }

    /// Applies the route's policy to a notification. Its event has the id that the upload's callback has, where the
    /// callback's body names the request id; it proves nothing, and knows less than the callback.
    ///
    /// # Errors
    /// If the route takes no notifications, none of this bucket, or demands what a notification can't prove.
    pub fn admit_notification(&self, notification: Notification) -> Result<Admitted<'_>, Refusal> {
        let Notification { operation, time, bucket, object, etag, size, request_id, client_ip } = notification;
        if !self.notifications || !self.buckets.contains(&bucket) {
            return Err(Refusal::BucketNotAllowed { bucket });
        }
        // That it takes notifications says that their missing signature is known.
        if let Some(missing) = self.demands().next() {
            return Err(Refusal::ProofMissing(missing));
        }
        let data = UploadCompleted {
            etag,
            size,
            mime_type: None,
            crc64: None,
            content_md5: None,
            image: None,
            operation: Some(operation),
            client_ip,
            vpc_id: None,
            vars: BTreeMap::new(),
            extra: BTreeMap::new(),
            route: self.name.clone(),
            bucket_from: BucketSource::Notification,
            proof: Vec::new(),
            origin: Origin::Notification,
            request_id: Some(request_id),
            bucket,
            object,
        };
        let id = EventId::from_request(&data.bucket, &data.object, data.request_id.as_deref().unwrap_or_default());
        Ok(Admitted { route: self, id, data, unread: Vec::new(), happened: time.parse().ok() })
    }

    /// Reads an authentic callback's body and applies the route's policy.
    ///
    /// # Errors
    /// If the body is unusable, or the policy does not allow what it says.
    pub fn admit(&self, verified: &Verified<'_>) -> Result<Admitted<'_>, Refusal> {
        let body = verified.body().map_err(Refusal::Body)?;
        let normalized = Normalized::new(body, &self.fields)?;
        let object = normalized.object.ok_or(Refusal::ObjectMissing)?;
        let (bucket, bucket_from) = self.bucket(normalized.bucket, verified.unsigned_bucket())?;
        if !self.buckets.is_empty() && !self.buckets.contains(&bucket) {
            return Err(Refusal::BucketNotAllowed { bucket });
        }
        let id = match &normalized.request_id {
            Some(request_id) => EventId::from_request(&bucket, &object, request_id),
            None => EventId::from_signed(&verified.string_to_sign(), verified.unsigned_request_id()),
        };
        // A grant is looked for here once there are grants; a confirmation needs IO and follows the admission.
        let proof = vec![Proof::Signature];
        if let Some(missing) = self.require.iter().find(|demanded| !proof.contains(demanded)) {
            return Err(Refusal::ProofMissing(*missing));
        }
        let data = UploadCompleted {
            bucket,
            object,
            etag: normalized.etag,
            size: normalized.size,
            mime_type: normalized.mime_type,
            crc64: normalized.crc64,
            content_md5: normalized.content_md5,
            image: normalized.image,
            operation: normalized.operation,
            request_id: normalized.request_id,
            client_ip: normalized.client_ip,
            vpc_id: normalized.vpc_id,
            vars: normalized.vars,
            extra: normalized.extra,
            route: self.name.clone(),
            bucket_from,
            proof,
            origin: Origin::Callback,
        };
        Ok(Admitted { route: self, id, data, unread: normalized.unread, happened: None })
    }

    /// Who names the bucket: the signed body, else the route, else (where allowed) the header.
    fn bucket(&self, signed: Option<String>, header: Option<&str>) -> Result<(String, BucketSource), Refusal> {
        if let Some(bucket) = signed {
            return Ok((bucket, BucketSource::Body));
        }
        if let [only] = self.buckets.as_slice() {
            return Ok((only.clone(), BucketSource::Route));
        }
        match header.map(str::trim).filter(|bucket| self.bucket_from_header && !bucket.is_empty()) {
            Some(bucket) => Ok((bucket.to_owned(), BucketSource::Header)),
            None => Err(Refusal::BucketMissing),
        }
    }
}

impl Admitted<'_> {
    /// Fields of the event whose value was not of their type. The raw value is under `extra`.
    #[must_use]
    pub fn unread(&self) -> &[&'static str] {
        &self.unread
    }

    /// Makes the message that is published. A callback's event is of the time at which it was received. A notification's
    /// is of the time that OSS gives, since it may come long after, but never of a later one than that.
    ///
    /// # Errors
    /// If its subject is longer than a bus takes.
    pub fn into_message(self, received: Timestamp) -> Result<Message, SubjectTooLong> {
        let time = self.happened.map_or(received, |happened| happened.min(received));
        let event = Event { id: self.id, time, data: self.data, trace: None };
        Ok(Message { subject: self.route.subject.fill(&event)?, event })
    }
}
