//! Rejected callbacks in quarantine.

use jiff::Timestamp;

use super::{Harness, answer, eventually, publish_all, stored};
use crate::{Archive, Quarantine, Quarantined, RejectedBody, RejectedCallback};

/// A number that nothing in quarantine has.
const UNKNOWN: u64 = 1 << 40;

/// What was quarantined is listed as it was, in its order and in pages, and beside no event.
pub async fn a_rejected_callback_is_kept_as_it_was<H: Harness>(harness: H) {
    let archive = harness.archive();
    assert_eq!(answer(archive.quarantined(0, 10)).await, []);
    let body = |bytes: &[u8]| Some(RejectedBody { bytes: bytes.to_vec(), length: 1 << 20 });
    let callbacks = [
        RejectedCallback { body: body(b"bucket=examplebucket"), ..rejected_callback(1) },
        RejectedCallback { body: body(&[0, 0xff, 0xfe]), ..rejected_callback(2) },
        RejectedCallback { body: body(&[b'x'; 64 << 10]), ..rejected_callback(3) },
        RejectedCallback { route: None, headers: [].into(), ..rejected_callback(4) },
        RejectedCallback { route: Some("all of it: * > .ü".to_owned()), ..rejected_callback(5) },
    ];
    keep(&*harness.quarantine(), &callbacks).await;
    let kept = quarantined(&*archive, callbacks.len()).await;
    let listed: Vec<&RejectedCallback> = kept.iter().map(|kept| &kept.callback).collect();
    assert_eq!(listed, callbacks.iter().collect::<Vec<_>>());
    assert!(kept.is_sorted_by(|one, other| one.number < other.number), "{kept:?}");
    assert_eq!(answer(archive.quarantined(0, 2)).await, kept[..2]);
    assert_eq!(answer(archive.quarantined(kept[1].number, 2)).await, kept[2..4]);
    assert_eq!(answer(archive.quarantined(kept[4].number, 2)).await, []);
    publish_all(&*harness.bus(), [1]).await;
    stored(&*archive, 1).await;
    assert_eq!(answer(archive.dead_letters(0, 1)).await, []);
}

/// What is dropped is gone for good, alone; a number that is none is told.
pub async fn a_dropped_rejected_callback_is_gone<H: Harness>(harness: H) {
    let archive = harness.archive();
    keep(&*harness.quarantine(), &[rejected_callback(1), rejected_callback(2), rejected_callback(3)]).await;
    let kept = quarantined(&*archive, 3).await;
    assert!(answer(archive.drop_quarantined(kept[1].number)).await);
    for number in [kept[1].number, UNKNOWN, 0] {
        assert!(!answer(archive.drop_quarantined(number)).await, "{number} is unknown");
    }
    assert_eq!(quarantined(&*archive, 2).await, [kept[0].clone(), kept[2].clone()]);
}

/// The quarantine survives a crash, and its numbers are not used twice.
pub async fn the_quarantine_survives_a_crash<H: Harness>(mut harness: H) {
    keep(&*harness.quarantine(), &[rejected_callback(1), rejected_callback(2)]).await;
    let kept = quarantined(&*harness.archive(), 2).await;
    harness.crash().await;
    assert_eq!(quarantined(&*harness.archive(), 2).await, kept);
    assert!(answer(harness.archive().drop_quarantined(kept[1].number)).await);
    let third = rejected_callback(3);
    keep(&*harness.quarantine(), std::slice::from_ref(&third)).await;
    let now = quarantined(&*harness.archive(), 2).await;
    assert!(now[1].number > kept[1].number && now[1].callback == third, "{now:?} after {kept:?}");
}

/// A rejected callback of the suite's, for tests beside it.
#[must_use]
pub fn rejected_callback(number: u64) -> RejectedCallback {
    RejectedCallback {
        time: Timestamp::now(),
        code: "signature_mismatch".to_owned(),
        reason: "the signature is not that of the request\nnor of any other".to_owned(),
        route: Some("avatars".to_owned()),
        request_id: number.to_string(),
        peer: "203.0.113.7:443".to_owned(),
        method: "POST".to_owned(),
        target: "/oss/avatars?a=%00".to_owned(),
        headers: [("x-oss-bucket".to_owned(), "välue 🦀".to_owned())].into(),
        body: None,
    }
}

async fn keep(quarantine: &dyn Quarantine, callbacks: &[RejectedCallback]) {
    answer(quarantine.quarantine(callbacks)).await;
}

/// What is in quarantine, once it is exactly so much.
async fn quarantined(archive: &dyn Archive, count: usize) -> Vec<Quarantined> {
    eventually("that number of rejected callbacks", async || {
        let kept = answer(archive.quarantined(0, count + 1)).await;
        (kept.len() == count).then_some(kept)
    })
    .await
}
