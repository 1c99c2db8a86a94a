//! What a request to a custom runtime means.

/// The environment variable with the port to listen on.
pub const PORT_VARIABLE: &str = "FC_SERVER_PORT";
/// The port where the variable says nothing.
pub const DEFAULT_PORT: u16 = 9000;
/// The header that says what a request means. Function Compute takes no header of this kind from clients.
pub const CONTROL_PATH: &str = "x-fc-control-path";
/// The header with the id of the invocation.
pub const REQUEST_ID: &str = "x-fc-request-id";
/// The header of an answer that says whether the function has failed.
pub const STATUS: &str = "x-fc-status";
/// Its value where it has.
pub const FAILED: &str = "404";

/// What a request to a custom runtime means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// A client's own request, as the client sent it.
    Http,
    /// An event: `POST /invoke`.
    Invoke,
    /// The instance is new: `POST /initialize`.
    Initialize,
    /// The instance is about to be frozen.
    PreFreeze,
    /// The instance is about to end.
    PreStop,
}

/// The header says nothing, something unknown, or several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header {CONTROL_PATH} does not say what the request means")]
pub struct AmbiguousControl;

impl Control {
    /// Reads the header's values. Only one is believed: where there are two, one may be a client's.
    ///
    /// # Errors
    /// If there is not exactly one, or it is unknown.
    pub fn parse<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Result<Self, AmbiguousControl> {
        let (Some(value), None) = (values.next(), values.next()) else { return Err(AmbiguousControl) };
        match value {
            b"/http-invoke" => Ok(Self::Http),
            b"/invoke" => Ok(Self::Invoke),
            b"/initialize" => Ok(Self::Initialize),
            b"/pre-freeze" => Ok(Self::PreFreeze),
            b"/pre-stop" => Ok(Self::PreStop),
            _ => Err(AmbiguousControl),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Result<Control, AmbiguousControl> {
        Control::parse(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn a_request_means_one_thing_or_nothing() {
        assert_eq!(parse(&["/http-invoke"]), Ok(Control::Http));
        assert_eq!(parse(&["/invoke"]), Ok(Control::Invoke));
        assert_eq!(parse(&["/pre-stop"]), Ok(Control::PreStop));
        for wrong in [&[][..], &["/invoke", "/http-invoke"], &["/invoke", "/invoke"], &["invoke"], &["/INVOKE"], &[""]]
        {
            assert_eq!(parse(wrong), Err(AmbiguousControl), "{wrong:?}");
        }
    }
}
