//! What OSS refuses a callback parameter for, and how it says so.

use std::fmt;

/// Why OSS refuses an upload for its callback parameter. The object is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterError {
    /// The callback has more than 5 KB of Base64.
    TooLong,
    /// It is not Base64.
    Base64,
    /// It is not a JSON object.
    Json,
    /// `callbackUrl` is absent, or one of its URLs is none.
    Url,
    /// There are more than 5 URLs.
    TooManyUrls,
    /// A URL leads to a private address.
    PrivateAddress,
    /// `callbackHost` is no host.
    Host,
    /// `callbackBody` is no template.
    Body,
    /// `callbackBody` is absent or empty.
    BodyEmpty,
    /// `callbackBodyType` is not a string.
    BodyType,
    /// `callbackBodyType` is neither of the two that there are.
    BodyTypeUnsupported,
    /// The parameter came twice, by header and by query.
    Twice,
    /// callback-var has more than 5 KB of Base64.
    VarsTooLong,
    /// It is not Base64. OSS documents the code; the message is worded after that of the callback.
    VarsBase64,
    /// It is not a JSON object of strings. OSS documents the code; the message is worded after that of the callback.
    VarsJson,
    /// A `$` in `callbackBody` is not followed by `{`.
    LeftBrace,
}

impl ParameterError {
    /// Every fault that there is.
    pub const ALL: [Self; 16] = [
        Self::TooLong,
        Self::Base64,
        Self::Json,
        Self::Url,
        Self::TooManyUrls,
        Self::PrivateAddress,
        Self::Host,
        Self::Body,
        Self::BodyEmpty,
        Self::BodyType,
        Self::BodyTypeUnsupported,
        Self::Twice,
        Self::VarsTooLong,
        Self::VarsBase64,
        Self::VarsJson,
        Self::LeftBrace,
    ];

    /// The status that the uploader gets.
    pub const STATUS: u16 = 400;
    /// The `Code` of the XML.
    pub const CODE: &str = "InvalidArgument";

    /// The `Message` of the XML, as OSS words it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::TooLong => "The length of callback exceed max value.",
            Self::Base64 => "The callback configuration is not base64 encoded.",
            Self::Json => "The callback configuration is not json format.",
            Self::Url => "The callback url configuration is invalid.",
            Self::TooManyUrls => "The number of callback url exceed max value.",
            Self::PrivateAddress => "Private address is forbidden to callback.",
            Self::Host => "The callback host configuration is invalid.",
            Self::Body => "The callback body is invalid.",
            Self::BodyEmpty => "The callback body is empty.",
            Self::BodyType => "The callback body type configuration is invalid.",
            Self::BodyTypeUnsupported => "The body type of callback is not supported.",
            Self::Twice => {
                "Either the callback query string parameter or the x-oss-callback header should be specified, not both."
            }
            Self::VarsTooLong => "The length of callback var exceed max value.",
            Self::VarsBase64 => "The callback var configuration is not base64 encoded.",
            Self::VarsJson => "The callback var configuration is not json format.",
            Self::LeftBrace => "Left brace must be adjacent to dollar sign.",
        }
    }

    /// The `EC` of the XML.
    #[must_use]
    pub fn ec(self) -> &'static str {
        match self {
            Self::TooLong => "0007-00000001",
            Self::Base64 => "0007-00000002",
            Self::Json => "0007-00000003",
            Self::Url => "0007-00000004",
            Self::TooManyUrls => "0007-00000005",
            Self::PrivateAddress => "0007-00000008",
            Self::Host => "0007-00000009",
            Self::Body => "0007-00000010",
            Self::BodyEmpty => "0007-00000011",
            Self::BodyType => "0007-00000012",
            Self::BodyTypeUnsupported => "0007-00000013",
            Self::Twice => "0007-00000027",
            Self::VarsTooLong => "0007-00000101",
            Self::VarsBase64 => "0007-00000102",
            Self::VarsJson => "0007-00000103",
            Self::LeftBrace => "0007-00000105",
        }
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ParameterError {}
