//! What to do about failures that say little by themselves.

/// A sign in an error's words, and what it means.
const REMEDIES: [(&str, &str); 6] = [
    (
        "UnknownIssuer",
        "its certificate is of an authority that is not trusted here: name that authority's certificate in `ca` of \
         [telemetry.otlp]",
    ),
    (
        "not valid for name",
        "its certificate is for another name: call it in `endpoint` by one that the certificate has",
    ),
    ("certificate expired", "its certificate has expired: it needs a new one"),
    ("certificate not valid yet", "its certificate is not valid yet, or the clock of this machine is wrong"),
    ("InvalidContentType", "it does not speak TLS there: `endpoint` begins with `http://` then"),
    ("HTTP/2 was not negotiated", "it does not take gRPC there: set `protocol` to \"http\", or name its port for gRPC"),
];

/// Puts what an operator may do in front of an error.
pub(crate) fn in_words(error: String) -> String {
    match REMEDIES.iter().find(|(sign, _)| error.contains(sign)) {
        Some((_, remedy)) => format!("{remedy} ({error})"),
        None => error,
    }
}
