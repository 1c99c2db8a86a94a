//! The form of PostObject: fields first, the file last.

use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use multer::{Constraints, Error, Field, Multipart, SizeLimit};
use tokio::time::timeout;

use crate::error::OssError;
use crate::exchange::Exchange;
use crate::receive::{IDLE, UPLOAD_BYTES_MAX};
use crate::simulator::Shared;
use crate::store::Written;

/// The longest field besides the file. Source: Alibaba Cloud OSS, PostObject.
const FIELD_BYTES_MAX: u64 = 8 * 1024;

/// The most fields: far more than OSS knows of, with custom variables and metadata of one's own.
const FIELDS_MAX: usize = 200;

/// The name of the field that holds the file.
const FILE: &str = "file";

/// The fields before the file. Their names are matched whatever their case.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// A field's value.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

/// The file of a form, not yet read.
pub(crate) struct FormFile<'r> {
    field: Field<'r>,
}

/// Starts reading a form.
pub(crate) fn start<'r>(exchange: &Exchange, body: &'r mut Incoming) -> Result<Multipart<'r>, OssError> {
    let content_type = exchange.header(http::header::CONTENT_TYPE).unwrap_or_default();
    let boundary = multer::parse_boundary(content_type).map_err(|error| refused(&error))?;
    let limits = SizeLimit::new().per_field(FIELD_BYTES_MAX).for_field(FILE, UPLOAD_BYTES_MAX);
    Ok(Multipart::with_constraints(BodyDataStream::new(body), boundary, Constraints::new().size_limit(limits)))
}

/// Reads the fields up to the file. What comes behind the file is ignored, as at OSS.
pub(crate) async fn fields<'r>(form: &mut Multipart<'r>) -> Result<(Fields, FormFile<'r>), OssError> {
    let mut fields = Fields::default();
    loop {
        let field = within_time(form.next_field()).await?;
        let field = field.ok_or_else(|| OssError::malformed_form("The form has no file."))?;
        let name = field.name().unwrap_or_default().to_owned();
        if name.eq_ignore_ascii_case(FILE) {
            return Ok((fields, FormFile { field }));
        }
        if fields.0.len() == FIELDS_MAX {
            return Err(OssError::malformed_form("The form has too many fields."));
        }
        let value = within_time(field.text()).await?;
        fields.0.push((name, value));
    }
}

impl FormFile<'_> {
    /// The file's name on the uploader's machine, without folders.
    pub(crate) fn name(&self) -> &str {
        let name = self.field.file_name().unwrap_or_default();
        name.rsplit(['/', '\\']).next().unwrap_or_default()
    }

    /// The type that the uploader's browser gives the file.
    pub(crate) fn content_type(&self) -> Option<String> {
        self.field.content_type().map(ToString::to_string)
    }

    /// Writes the file to a draft, at most so many bytes.
    pub(crate) async fn receive(mut self, shared: &Shared, bytes_max: u64) -> Result<Written, OssError> {
        let mut draft = shared.store.draft()?;
        while let Some(bytes) = within_time(self.field.chunk()).await? {
            draft.write(&bytes).await?;
            if draft.size() > bytes_max {
                return Err(OssError::entity_too_large());
            }
        }
        Ok(draft.finish().await?)
    }
}

async fn within_time<T>(reading: impl Future<Output = multer::Result<T>>) -> Result<T, OssError> {
    match timeout(IDLE, reading).await {
        Err(_) => Err(OssError::request_timeout()),
        Ok(read) => read.map_err(|error| refused(&error)),
    }
}

fn refused(error: &Error) -> OssError {
    match error {
        Error::FieldSizeExceeded { field_name: Some(name), .. } if name == FILE => OssError::entity_too_large(),
        Error::FieldSizeExceeded { .. } => OssError::field_too_long(),
        Error::StreamReadFailed(_) => OssError::broken_body(),
        _ => OssError::malformed_form("The body of your POST request is not well-formed multipart/form-data."),
    }
}
