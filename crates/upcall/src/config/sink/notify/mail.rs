//! `notify.mail`: by which server, from whom, to whom.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use upcall_sink_notify::{Address, Credentials, Mail, Security};

use crate::config::certificates::authorities;
use crate::config::consumer::parse;
use crate::config::reader::Section;
use crate::config::secret;
use crate::config::setting::{Setting, word};

/// The most who get one mail: servers take 100 at least (RFC 5321 §4.5.3.1.8).
const TO_MAX: usize = 100;

/// Not what stands there: it may be a URL with a password.
const NO_SERVER: &str = "takes a name and a port, such as \"smtp.example.com:587\", and no URL";

impl Setting for Security {
    const KIND: &'static str = "\"starttls\", \"tls\" or \"none\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("starttls", Self::StartTls), ("tls", Self::Tls), ("none", Self::None)])
    }
}

impl Setting for Address {
    const KIND: &'static str = "a mail address, such as \"Upcall <upcall@example.com>\"";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

impl Setting for Vec<Address> {
    const KIND: &'static str = "an array of mail addresses";

    fn read(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| format!("takes {}", Self::KIND))?;
        if items.is_empty() || items.len() > TO_MAX {
            return Err(format!("takes 1 to {TO_MAX} addresses"));
        }
        items.iter().map(Address::read).collect()
    }
}

/// Reads `mail`. `None` where mistakes leave none; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Mail> {
    let server: Option<String> =
        section.required("server", "The SMTP server: a name or an address, and `:PORT` if need be.");
    let security = section.or(
        "security",
        "starttls",
        "`starttls`: encrypted after the greeting, port 587. `tls`: encrypted from the start, port 465. `none`: port 25, \
         for a server on this machine only.",
    );
    let is_given = [section.has("user"), section.has("password")];
    let user: Option<String> = section.optional("user", "The user that the server knows us by.");
    let password = secret::optional(
        &mut section,
        "password",
        "The user's password. May be `{ env = \"NAME\" }` or `{ file = \"PATH\" }`.",
    );
    let credentials = match (user, password) {
        (None, None) => Some(None),
        (Some(user), Some(password)) => Some(Some(Credentials { user, password })),
        // One of them is a mistake already.
        _ if is_given == [true, true] => None,
        _ => {
            section.mistake_here("has one of `user` and `password`: give both, or none");
            None
        }
    };
    let from: Option<Address> = section.required("from", "Who sends.");
    let to: Option<Vec<Address>> = section.required("to", "Who gets it. One mail goes to all of them.");
    let ca: Option<PathBuf> = section
        .optional("ca", "A PEM file of authorities that the server's certificate may come from, beside the machine's.");
    let authorities = ca.map_or(Some(Vec::new()), |file| authorities(&section, "ca", &file));
    let timeout: Duration = section.or("timeout", "20s", "How long one mail may take from connecting on, until the server has got it. It may then take 10 minutes to say what \
         becomes of it.");
    if timeout.is_zero() {
        section.mistake("timeout", "is no time");
    }
    let (host, port) = read_server(&section, &server?, security)?;
    Some(Mail {
        host,
        port,
        security,
        credentials: credentials?,
        authorities: authorities?,
        from: from?,
        to: to?,
        timeout,
    })
}

fn read_server(section: &Section<'_>, server: &str, security: Security) -> Option<(String, Option<NonZeroU16>)> {
    // A bare IPv6 address has colons, too.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (server, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = match port.map(str::parse::<NonZeroU16>) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => {
            section.mistake("server", NO_SERVER);
            return None;
        }
    };
    let is_name = |char: char| char.is_ascii_alphanumeric() || "-._".contains(char);
    if host.parse::<IpAddr>().is_err() && (host.is_empty() || !host.chars().all(is_name)) {
        section.mistake("server", NO_SERVER);
        return None;
    }
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if security == Security::None && !is_here {
        section.mistake(
            "security",
            "is `none` for a server that is not on this machine: mail and password would go over the network in the clear",
        );
        return None;
    }
    Some((host.to_owned(), port))
}
