//! `[[consumer]] webhook`: an endpoint that each event is posted to.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use toml::Value;
use upcall_egress::{BreakerOptions, ClientOptions, Endpoint, Guard, Network, Rate, header};
use upcall_sink_webhook::{Format, Options, Secret, Status};

use crate::config::certificates::authorities;
use crate::config::consumer::{Given, parse};
use crate::config::reader::Section;
use crate::config::secret;
use crate::config::setting::{Count, Setting, word};

/// More secrets than any rotation needs: each signs every request.
const SECRETS_MAX: usize = 10;
/// How many batches are under way at once, unless configured: while one waits for a slow answer, the others go on.
const BATCHES: usize = 4;
/// What a batch may take beside its requests and its waits.
const MARGIN: Duration = Duration::from_secs(5);

impl Setting for Format {
    const KIND: &'static str = "\"structured\", \"binary\" or \"s3\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("structured", Self::Structured), ("binary", Self::Binary), ("s3", Self::S3)])
    }
}

impl Setting for Rate {
    const KIND: &'static str = "a number in a time, such as \"50/s\", \"20/min\" or \"1000/h\"";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

impl Setting for Vec<Status> {
    const KIND: &'static str = "an array of statuses from 400 to 499";

    fn read(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| format!("takes {}", Self::KIND))?;
        let status = |item: &Value| {
            let number = item.as_integer().ok_or_else(|| format!("takes {}", Self::KIND))?;
            Status::new(number).map_err(|error| error.to_string())
        };
        items.iter().map(status).collect()
    }
}

/// Reads `webhook`. `None` where mistakes leave no sink; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Options> {
    let endpoint = read_endpoint(&mut section);
    let secrets = read_secrets(&mut section);
    let defaults = Options::new("http://localhost".parse().ok()?, Vec::new());
    let format = section.or(
        "format",
        "structured",
        "What the body is: a CloudEvent as one JSON document (`structured`), the upload's JSON with the CloudEvent's \
         attributes in `ce-` headers (`binary`), or a notification as S3 sends it (`s3`).",
    );
    let headers = read_headers(&mut section);
    let client = read_client(&mut section, endpoint.as_ref());
    let concurrency: Count = section.or(
        "concurrency",
        i64::try_from(defaults.concurrency.get()).unwrap_or(i64::MAX),
        "How many requests may be under way at once.",
    );
    let rate = section.optional("rate", "How many requests may be made in a time. The next ones wait.");
    let retry = section.or(
        "retry",
        defaults.retry.iter().map(|wait| humantime::format_duration(*wait).to_string()).collect::<Vec<_>>(),
        "How long an event waits after each failure, each wait shortened by up to a tenth. After one more failure it is \
         a dead letter. The default is that of Standard Webhooks, some 75 hours in all.",
    );
    let refusals = section.or(
        "refusals",
        defaults.refusals.iter().map(|status| i64::from(status.as_u16())).collect::<Vec<_>>(),
        "The statuses that make an event a dead letter at once: it will never be taken.",
    );
    let breaker = read_breaker(
        section.section("breaker", "When an endpoint that fails is left alone, so that events keep their attempts."),
        defaults.breaker,
    );
    Some(Options {
        format,
        headers,
        client,
        concurrency: NonZeroUsize::new(concurrency.as_usize())?,
        rate,
        retry,
        refusals,
        breaker,
        ..Options::new(endpoint?, secrets?)
    })
}

/// Makes the consumer go with the webhook where nothing else was given, and reports what does not.
pub(super) fn fit(
    options: &mut Options,
    section: &Section<'_>,
    given: Given,
    events_kept: Option<Duration>,
    consumer: &mut upcall_consumer::Options,
) {
    for (key, is_given) in [("attempts_max", given.attempts_max), ("backoff", given.backoff)] {
        if is_given {
            section.mistake(key, "has no meaning for a webhook: its `retry` has a wait for each attempt");
        }
    }
    let retries = u32::try_from(options.retry.len()).unwrap_or(u32::MAX);
    consumer.attempts_max = Some(std::num::NonZeroU32::MIN.saturating_add(retries));
    let at_once = options.concurrency.get();
    // No more than may begin in one go.
    let room = options.rate.map_or(at_once, |rate| at_once.min(rate.count.get() as usize));
    if !given.concurrency {
        consumer.concurrency = NonZeroUsize::new(room.min(BATCHES)).unwrap_or(NonZeroUsize::MIN);
    }
    if !given.batch_max {
        // Each batch has its costs. Where a rate bounds them, all that are under way have to share it.
        let batch = if options.rate.is_some() { room / consumer.concurrency } else { at_once };
        consumer.batch_max = NonZeroUsize::new(batch).unwrap_or(NonZeroUsize::MIN);
    }
    let needed = time_for_a_batch(options, consumer);
    if !given.deliver_timeout {
        consumer.deliver_timeout = consumer.deliver_timeout.max(needed);
    } else if consumer.deliver_timeout < needed {
        section.mistake(
            "deliver_timeout",
            format!(
                "is below the {} that batches of this size may take: raise it, leave it out, or lower `webhook.timeout` \
                 or `batch_max`",
                humantime::format_duration(needed)
            ),
        );
    }
    options.batch_time = consumer.deliver_timeout;
    if events_kept.is_some_and(|events_kept| options.retry.iter().sum::<Duration>() >= events_kept) {
        section.mistake("webhook.retry", "takes longer in all than the bus keeps events");
    }
}

/// What a batch takes at most, with all others that are under way: the first request alone, then as many as go at once,
/// and the waits that the rate asks for.
fn time_for_a_batch(options: &Options, consumer: &upcall_consumer::Options) -> Duration {
    let under_way = consumer.batch_max.get().saturating_mul(consumer.concurrency.get());
    let times = |events: usize| u32::try_from(under_way.div_ceil(events)).unwrap_or(u32::MAX);
    let requests = options.client.timeout.saturating_mul(times(options.concurrency.get()).saturating_add(1));
    let waits = options.rate.map(|rate| rate.period.saturating_mul(times(rate.count.get() as usize)));
    requests.saturating_add(waits.unwrap_or_default()).saturating_add(MARGIN)
}

pub(super) fn read_endpoint(section: &mut Section<'_>) -> Option<Endpoint> {
    let url = secret::required(
        section,
        "url",
        "The endpoint, `https://…` or `http://…`. May be `{ env = \"NAME\" }` or `{ file = \"PATH\" }`.",
    )?;
    // The URL itself is not repeated: it may be a secret.
    url.trim().parse().map_err(|error: upcall_egress::InvalidEndpoint| section.mistake("url", error.to_string())).ok()
}

fn read_secrets(section: &mut Section<'_>) -> Option<Vec<Secret>> {
    const KEY: &str = "secrets";
    let is_given = section.has(KEY);
    let texts = secret::list(
        section,
        KEY,
        "What requests are signed with, as Standard Webhooks has it: `whsec_` and base64 of 24 to 64 bytes, or `whsk_` and \
         base64 of an Ed25519 key. Each signs every request, so that receivers may have the old or the new one during a \
         rotation. Each may be `{ env = \"NAME\" }` or `{ file = \"PATH\" }`. At least one.",
    );
    if !is_given || texts.len() > SECRETS_MAX {
        section.mistake(
            KEY,
            format!("takes 1 to {SECRETS_MAX} secrets; `echo whsec_$(openssl rand -base64 32)` makes one"),
        );
    }
    let read = |(place, text): (String, String)| {
        text.parse()
            .map_err(|error: upcall_sink_webhook::InvalidSecret| section.mistake(&place, error.to_string()))
            .ok()
    };
    let secrets: Vec<Option<Secret>> = texts.into_iter().map(read).collect();
    let secrets: Vec<Secret> = secrets.into_iter().collect::<Option<_>>()?;
    if secrets.is_empty() && is_given {
        section.mistake(KEY, "is empty: receivers could not tell who calls them");
    }
    (!secrets.is_empty()).then_some(secrets)
}

fn read_headers(section: &mut Section<'_>) -> HeaderMap {
    let texts = secret::table(
        section,
        "headers",
        "Headers of every request, such as `{ Authorization = { env = \"NAME\" } }`. Each may be such a table, or a string.",
    );
    let mut headers = HeaderMap::new();
    for (place, name, text) in texts {
        match header(&name, &text) {
            Ok((name, _)) if is_ours(name.as_str()) => {
                section.mistake(&place, "is a header that is made with the request");
            }
            Ok((name, value)) => drop(headers.insert(name, value)),
            Err(error) => section.mistake(&place, error.to_string()),
        }
    }
    headers
}

fn is_ours(header: &str) -> bool {
    header == "content-type" || header.starts_with("webhook-") || header.starts_with("ce-")
}

/// Reads how an endpoint is called, and reports one that may not be.
pub(super) fn read_client(section: &mut Section<'_>, endpoint: Option<&Endpoint>) -> ClientOptions {
    let defaults = ClientOptions::default();
    let timeout: Duration =
        section.or("timeout", "15s", "How long a request may take, from connecting to the answer's end.");
    if timeout.is_zero() {
        section.mistake("timeout", "is no time");
    }
    let networks: Vec<String> = section.or(
        "allow_networks",
        Value::Array(Vec::new()),
        "Addresses that may be called though they are not public, such as `[\"10.0.0.0/8\", \"fd00::/8\"]`. A cloud's \
         metadata address has to be named by itself.",
    );
    let named = networks.len();
    let mut allowed: Vec<Network> = Vec::new();
    for network in networks {
        match network.parse() {
            Ok(network) => allowed.push(network),
            Err(error) => section.mistake("allow_networks", format!("{error}")),
        }
    }
    let is_complete = allowed.len() == named;
    let guard = Guard::new(allowed);
    if let Some(Err(refused)) = endpoint.map(|endpoint| guard.check_endpoint(endpoint))
        && is_complete
    {
        section.mistake("url", format!("leads where nothing is posted: {refused}"));
    }
    let ca: Option<PathBuf> = section.optional(
        "ca",
        "A PEM file of authorities that the endpoint's certificate may come from, beside the machine's.",
    );
    let authorities = ca.and_then(|file| authorities(section, "ca", &file));
    ClientOptions {
        guard,
        authorities: authorities.unwrap_or_default(),
        timeout,
        connect_timeout: defaults.connect_timeout.min(timeout / 2),
        ..defaults
    }
}

fn read_breaker(mut section: Section<'_>, defaults: BreakerOptions) -> BreakerOptions {
    let failures: Count = section.or(
        "failures",
        i64::from(defaults.failures_max.get()),
        "After how many failures in a row. A failure to connect is enough by itself.",
    );
    let open_max = section.or(
        "pause_max",
        humantime::format_duration(defaults.open_max).to_string(),
        "The longest pause. The first is one second, and each is twice as long as the one before; then one event tries.",
    );
    if open_max < defaults.open_min {
        section.mistake("pause_max", "is below the first pause of one second");
    }
    BreakerOptions { failures_max: std::num::NonZeroU32::MIN.saturating_add(failures.get() - 1), open_max, ..defaults }
}

#[cfg(test)]
mod tests;
