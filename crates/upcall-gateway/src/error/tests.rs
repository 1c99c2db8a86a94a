use std::fmt::Write;
use std::path::Path;

use super::*;

const REFERENCE: &str = "../../docs/reference/errors.md";

#[test]
fn the_reference_lists_every_code() {
    let expected = reference();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(REFERENCE);
    if std::fs::read_to_string(&path).unwrap_or_default() != expected {
        std::fs::write(&path, expected).unwrap();
        panic!("docs/reference/errors.md was out of date; it is repaired now, please commit it");
    }
}

#[test]
fn a_code_is_one_of_a_kind_and_has_its_place() {
    let mut codes: Vec<_> = ErrorKind::all().map(ErrorKind::code).collect();
    assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), ErrorKind::all().count());
    for (at, kind) in ErrorKind::all().enumerate() {
        assert_eq!(kind.index(), at, "{kind:?}");
    }
}

#[test]
fn no_error_passes_for_a_success() {
    for kind in ErrorKind::all() {
        assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
    }
}

fn reference() -> String {
    let mut page = String::from(
        "# Errors\n\n\
        <!-- Generated from the code by a test of upcall-gateway, which repairs this page. Don't edit it. -->\n\n\
        Whatever goes wrong, the gateway answers with JSON:\n\n\
        ```json\n{\"error\":{\"code\":\"signature_mismatch\",\"message\":\"…\",\"request_id\":\"5CF3E7821AB22D0FDB86704D\"}}\n```\n\n\
        `code` is stable; it is also the label `outcome` of the metric `upcall_callbacks_total`, and the field `code` of\n\
        the log line and of the admin page `/rejections`. `request_id` is that of OSS where the request had one.\n\n\
        The uploader sees the status only: OSS answers the upload with 203 and `Error status : N.`, keeps the object,\n\
        and does not call again.\n\n\
        | code | status |\n|---|---|\n",
    );
    let write = "writing to a string does not fail";
    let kinds = || {
        let mut kinds: Vec<_> = ErrorKind::all().collect();
        kinds.sort_by_key(|kind| (kind.status().as_u16(), kind.code()));
        kinds
    };
    for kind in kinds() {
        let (code, status) = (kind.code(), kind.status());
        writeln!(page, "| [`{code}`](#{code}) | {status} |").expect(write);
    }
    for kind in kinds() {
        let (code, message, cause, remedy) = (kind.code(), kind.message(), kind.cause(), kind.remedy());
        writeln!(
            page,
            "\n## {code}\n\nStatus {}: {message}.\n\n**Cause.** {cause}\n\n**Remedy.** {remedy}",
            kind.status()
        )
        .expect(write);
    }
    page
}
