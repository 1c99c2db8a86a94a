//! One mail.

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailboxes, MultiPart, header};

use super::{Mail, html};
use crate::notice::{Line, Notice};

/// The longest subject; what is beyond is in the mail all the same.
const SUBJECT_CHARS_MAX: usize = 200;

/// Makes the mail. Its Message-ID comes from the notice's id: a repetition has the same, and many mail programs show it
/// once.
///
/// # Errors
/// If the notice can't be a mail's.
pub(crate) fn message(mail: &Mail, notice: &Notice) -> Result<Message, lettre::error::Error> {
    let to: Mailboxes = mail.to.iter().map(|address| address.0.clone()).collect();
    // Where encoded words meet, several spaces get lost.
    let subject = notice.title.line().split_whitespace().collect::<Vec<_>>().join(" ");
    let subject: String = subject.chars().take(SUBJECT_CHARS_MAX).collect();
    // Nobody's holiday answers a machine (RFC 3834).
    let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
    Message::builder()
        .from(mail.from.0.clone())
        .mailbox(header::To::from(to))
        .subject(subject)
        .message_id(Some(format!("<{}@{}>", notice.id, mail.from.0.email.domain())))
        .raw_header(automatic)
        .multipart(MultiPart::alternative_plain_html(plain(notice), html::page(notice)))
}

fn plain(notice: &Notice) -> String {
    let mut text = notice.lines.iter().map(Line::plain).collect::<Vec<_>>().join("\n");
    if let Some(link) = &notice.link {
        text.push_str(&format!("\n\n{link}"));
    }
    text.push('\n');
    text
}
