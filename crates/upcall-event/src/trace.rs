//! Where an event's trace is: the W3C Trace Context, as it travels in headers and in the event itself.

use std::collections::BTreeSet;
use std::fmt;

use crate::EventId;

/// The trace that an event belongs to, and the span that made the event: W3C Trace Context, level 2.
///
/// It says what is to be traced, too: whoever begins a trace decides, and everybody after it does as it has decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<TraceState>,
}

/// What tracing systems have to tell each other beside the ids: the header `tracestate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceState(Box<str>);

/// The text of a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent([u8; PARENT_BYTES]);

/// What is wrong with a `traceparent` or a `tracestate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrace {
    /// It does not have the form `00-TRACE-SPAN-FLAGS`, in lower-case hex digits.
    #[error("it is not 00-TRACE-SPAN-FLAGS in lower-case hex digits")]
    Form,
    /// Its version is the one that there will never be.
    #[error("it has the version ff")]
    Version,
    /// An id has zeros only.
    #[error("an id has zeros only")]
    Zero,
    /// A member of the state is none, or there are too many, or one twice.
    #[error("it is not a list of KEY=VALUE, each key once, 32 at most, in 512 characters")]
    State,
}

/// Bytes of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;
/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 0b01;
/// The flags of version 00: that the trace is recorded, and that its id is random.
const FLAGS: u8 = 0b11;
/// The most members of a state.
const MEMBERS_MAX: usize = 32;
/// The longest state. Everybody who propagates it has to keep so much.
const STATE_BYTES_MAX: usize = 512;
/// The longest key and the longest value of a member.
const WORD_BYTES_MAX: usize = 256;

impl TraceContext {
    /// The header that has the ids; CloudEvents' extension for tracing has an attribute of the same name.
    pub const PARENT: &'static str = "traceparent";
    /// The header that has the state, and the attribute.
    pub const STATE: &'static str = "tracestate";

    /// Puts a context together. None where an id has zeros only.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], is_sampled: bool) -> Option<Self> {
        let is_whole = trace_id != [0; 16] && span_id != [0; 8];
        is_whole.then_some(Self { trace_id, span_id, flags: u8::from(is_sampled) * SAMPLED, state: None })
    }

    /// What is said of an event whose trace is not recorded, and which carries none: ids that are its own, and so the same
    /// whoever says it.
    #[must_use]
    pub fn unrecorded(id: EventId) -> Option<Self> {
        let trace_id = *id.as_bytes();
        let [span_id @ .., _, _, _, _, _, _, _, _] = trace_id;
        Self::new(trace_id, span_id, false)
    }

    /// Reads `traceparent`, and `tracestate` where there is one. A state that is none is left out, as the standard says.
    ///
    /// # Errors
    /// If the `traceparent` is none.
    pub fn parse(parent: &str, state: Option<&str>) -> Result<Self, InvalidTrace> {
        let text = parent.as_bytes();
        let (Some(head), rest) = (text.first_chunk::<PARENT_BYTES>(), text.get(PARENT_BYTES..)) else {
            return Err(InvalidTrace::Form);
        };
        if [2, 35, 52].iter().any(|at| head[*at] != b'-') {
            return Err(InvalidTrace::Form);
        }
        let [version] = unhex(&head[..2])?;
        match (version, rest.unwrap_or_default()) {
            (0xff, _) => return Err(InvalidTrace::Version),
            // Later versions may have more, and what is known of them is read.
            (0, []) | (1.., [] | [b'-', ..]) => {}
            _ => return Err(InvalidTrace::Form),
        }
        let (trace_id, span_id, [flags]) = (unhex(&head[3..35])?, unhex(&head[36..52])?, unhex(&head[53..55])?);
        let context = Self::new(trace_id, span_id, false).ok_or(InvalidTrace::Zero)?;
        let state = state.and_then(|state| TraceState::parse(state).ok()).filter(|state| !state.as_str().is_empty());
        Ok(Self { flags: flags & FLAGS, state, ..context })
    }

    /// The trace's id.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What tracing systems have to tell each other.
    #[must_use]
    pub fn state(&self) -> Option<&TraceState> {
        self.state.as_ref()
    }

    /// The same with this state.
    #[must_use]
    pub fn with_state(self, state: Option<TraceState>) -> Self {
        Self { state: state.filter(|state| !state.as_str().is_empty()), ..self }
    }

    /// Writes the `traceparent`.
    #[must_use]
    pub fn parent(&self) -> TraceParent {
        let mut text = [b'-'; PARENT_BYTES];
        hex(&mut text[..2], &[0]);
        hex(&mut text[3..35], &self.trace_id);
        hex(&mut text[36..52], &self.span_id);
        hex(&mut text[53..], &[self.flags]);
        TraceParent(text)
    }

    /// Writes the headers: the ids, and the state where there is one.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.as_ref().map(|state| (Self::STATE, state.as_str().to_owned()));
        [(Self::PARENT, self.parent().to_string())].into_iter().chain(state)
    }
}

impl TraceState {
    /// Reads a `tracestate`.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidTrace> {
        let mut keys = BTreeSet::new();
        let members =
            || text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
        for member in members() {
            let (key, value) = member.split_once('=').ok_or(InvalidTrace::State)?;
            if !is_key(key) || !is_value(value) || !keys.insert(key) {
                return Err(InvalidTrace::State);
            }
        }
        let tidy = members().collect::<Vec<_>>().join(",");
        if keys.len() > MEMBERS_MAX || tidy.len() > STATE_BYTES_MAX {
            return Err(InvalidTrace::State);
        }
        Ok(Self(tidy.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TraceParent {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_key(key: &str) -> bool {
    let is_begun = key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    let stays = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    is_begun && key.len() <= WORD_BYTES_MAX && key.bytes().all(stays) && key.matches('@').count() <= 1
}

fn is_value(value: &str) -> bool {
    let stays = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b',' && byte != b'=';
    !value.is_empty() && value.len() <= WORD_BYTES_MAX && value.bytes().all(stays)
}

fn hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn unhex<const N: usize>(text: &[u8]) -> Result<[u8; N], InvalidTrace> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(InvalidTrace::Form),
    };
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    proptest! {
        #[test]
        fn every_context_survives_its_headers(
            trace_id in any::<[u8; 16]>(), span_id in any::<[u8; 8]>(), is_sampled in any::<bool>(),
            state in "([a-z][a-z0-9_*/-]{0,8}=[!-+--<>-~]{1,8})?",
        ) {
            let Some(context) = TraceContext::new(trace_id, span_id, is_sampled) else { return Ok(()) };
            let context = context.with_state(Some(TraceState::parse(&state).unwrap()));
            let read = TraceContext::parse(context.parent().as_str(), context.state().map(TraceState::as_str));
            prop_assert_eq!(read.unwrap(), context);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(parent in any::<String>(), state in any::<String>()) {
            let _ = TraceContext::parse(&parent, Some(&state));
        }

        #[test]
        fn no_other_text_of_a_version_is_taken(at in 0_usize..PARENT_BYTES, byte in 0x20_u8..0x7f) {
            let mut text = PARENT.as_bytes().to_vec();
            text[at] = byte;
            let text = String::from_utf8(text).unwrap();
            if let Ok(context) = TraceContext::parse(&text, None) {
                // But for a version and flags that there may be one day.
                let written = context.parent();
                prop_assert_eq!(&written.as_str()[3..52], &text[3..52]);
            }
        }
    }

    #[test]
    fn an_event_that_carries_no_trace_has_the_same_context_everywhere() {
        let context = |key| TraceContext::unrecorded(EventId::from_request("examplebucket", key, "5CF3E782")).unwrap();
        let parent = context("a.png").parent().to_string();
        assert!(parent.ends_with("-00"), "{parent}");
        assert_eq!(TraceContext::parse(&parent, None).unwrap(), context("a.png"));
        assert_ne!(context("a.png"), context("b.png"));
    }

    #[test]
    fn the_example_of_the_standard_is_read() {
        let context = TraceContext::parse(PARENT, Some("rojo=00f067aa0ba902b7, ,congo=t61rcWkgMzE")).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.parent().to_string(), PARENT);
        assert_eq!(context.state().unwrap().as_str(), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let invalid = |text: &str| TraceContext::parse(text, None).unwrap_err();
        assert_eq!(invalid(""), InvalidTrace::Form);
        assert_eq!(invalid(&PARENT.to_uppercase()), InvalidTrace::Form);
        assert_eq!(invalid(&format!("{PARENT}-what")), InvalidTrace::Form, "version 00 has no more");
        assert_eq!(invalid(&PARENT.replacen("00", "ff", 1)), InvalidTrace::Version);
        assert_eq!(invalid("00-00000000000000000000000000000000-b7ad6b7169203331-01"), InvalidTrace::Zero);
        assert_eq!(invalid("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"), InvalidTrace::Zero);
        let later = PARENT.replacen("00", "cc", 1) + "-what";
        assert_eq!(TraceContext::parse(&later, None).unwrap().parent().as_str(), PARENT);
    }

    #[test]
    fn a_state_that_is_none_does_not_cost_the_context() {
        for state in ["a", "a=", "A=1", "a=1,a=2", "a=b=c", "a@b@c=1", &"a=1".repeat(200), "é=1"] {
            assert_eq!(TraceState::parse(state), Err(InvalidTrace::State), "{state}");
            assert_eq!(TraceContext::parse(PARENT, Some(state)).unwrap().state(), None);
        }
        let members = |count: usize| (0..count).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        assert!(TraceState::parse(&members(MEMBERS_MAX)).is_ok());
        assert!(TraceState::parse(&members(MEMBERS_MAX + 1)).is_err());
    }
}
