use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::advance;
use upcall_bus::Source;
use upcall_callback::V1_PEM;

use super::*;

/// Answers once it is allowed to, and counts.
struct Fetcher {
    fetches: AtomicUsize,
    allowed: Semaphore,
    answer: fn() -> Result<Option<String>, Source>,
}

fn cache(allowed: usize, answer: fn() -> Result<Option<String>, Source>) -> (Cache, Arc<Fetcher>) {
    let fetcher = Arc::new(Fetcher { fetches: AtomicUsize::new(0), allowed: Semaphore::new(allowed), answer });
    (Cache::new(Arc::clone(&fetcher) as Arc<dyn KeyFetcher>, Metrics::new()), fetcher)
}

#[async_trait]
impl KeyFetcher for Fetcher {
    async fn fetch(&self, _url: &str) -> Result<Option<String>, Source> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.allowed.acquire().await?.forget();
        (self.answer)()
    }
}

fn key() -> Result<Option<String>, Source> {
    Ok(Some(V1_PEM.to_owned()))
}

fn url(number: usize) -> String {
    format!("https://gosspublic.alicdn.com/{number}.pem")
}

/// Far off, since a deadline is of the real clock, which these tests run ahead of.
fn in_time() -> Deadline {
    Deadline::after(Duration::from_secs(24 * 3600))
}

#[tokio::test]
async fn many_callbacks_with_one_new_key_fetch_it_once_and_later_ones_not_at_all() {
    let (cache, fetcher) = cache(0, key);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.key(url(1), in_time()).await.is_ok() })
        })
        .collect();
    while fetcher.fetches.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    fetcher.allowed.add_permits(50);
    for callback in waiting {
        assert!(callback.await.unwrap());
    }
    assert!(cache.key(url(1), in_time()).await.is_ok());
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_not_tried_again_for_a_while() {
    let (cache, fetcher) = cache(10, || Err("no route to host".into()));
    for _ in 0..20 {
        assert!(matches!(cache.key(url(1), in_time()).await, Err(KeyUnavailable::Failed { .. })));
    }
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), 1);
    advance(FAILURE_KEPT).await;
    assert!(cache.key(url(1), in_time()).await.is_err());
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_host_does_not_have_is_unknown_and_not_asked_for_again_for_a_while() {
    let (cache, fetcher) = cache(10, || Ok(None));
    for _ in 0..20 {
        assert!(matches!(cache.key(url(1), in_time()).await, Err(KeyUnavailable::Unknown { .. })));
    }
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), 1);
    advance(FAILURE_KEPT).await;
    assert!(matches!(cache.key(url(1), in_time()).await, Err(KeyUnavailable::Unknown { .. })));
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_no_key_is_a_failure() {
    let (cache, _) = cache(1, || Ok(Some("<html>".to_owned())));
    let Err(KeyUnavailable::Failed { source, .. }) = cache.key(url(1), in_time()).await else { panic!("it is no key") };
    assert!(matches!(*source, FetchFailure::Key(_)));
}

#[tokio::test(start_paused = true)]
async fn strangers_can_make_us_fetch_a_few_urls_and_then_few_a_minute() {
    let (cache, fetcher) = cache(1000, || Err("404".into()));
    for number in 0..200 {
        assert!(cache.key(url(number), in_time()).await.is_err());
    }
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), FETCHES_BURST as usize);
    assert!(matches!(cache.key(url(999), in_time()).await, Err(KeyUnavailable::TooManyFetches { .. })));
    advance(FETCH_EVERY * 3).await;
    for number in 200..400 {
        assert!(cache.key(url(number), in_time()).await.is_err());
    }
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), FETCHES_BURST as usize + 3);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_junk_keeps_no_next_key_of_oss_out() {
    let (cache, fetcher) = cache(1000, key);
    for number in 0..200 {
        // Keys, of all things, so that they stay.
        let _ = cache.key(url(number), in_time()).await;
        advance(FETCH_EVERY / 4).await;
    }
    assert!(matches!(cache.key(url(999), in_time()).await, Err(KeyUnavailable::TooManyFetches { .. })));
    let fetches = fetcher.fetches.load(Ordering::SeqCst);
    for version in 2..=9 {
        for _ in 0..20 {
            let next = format!("https://gosspublic.alicdn.com/callback_pub_key_v{version}.pem");
            assert!(cache.key(next, in_time()).await.is_ok(), "{version}");
        }
    }
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), fetches + 8);
    for junk in ["callback_pub_key_v10.pem", "callback_pub_key_vx.pem", "a/callback_pub_key_v2.pem"] {
        let url = format!("https://gosspublic.alicdn.com/{junk}");
        assert!(matches!(cache.key(url, in_time()).await, Err(KeyUnavailable::TooManyFetches { .. })), "{junk}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_keys_are_kept_than_there_is_room_for_and_those_stay() {
    let (cache, fetcher) = cache(1000, key);
    for number in 0..100 {
        // Whether there was room is seen below.
        let _ = cache.key(url(number), in_time()).await;
        advance(FETCH_EVERY).await;
    }
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), URLS_MAX);
    assert!(cache.key(url(0), in_time()).await.is_ok());
    assert!(matches!(cache.key(url(99), in_time()).await, Err(KeyUnavailable::TooManyFetches { .. })));
}

#[tokio::test]
async fn a_callback_waits_for_a_key_until_its_deadline_and_the_next_one_finds_the_key() {
    let (cache, fetcher) = cache(0, key);
    let soon = Deadline::after(Duration::from_millis(20));
    assert!(matches!(cache.key(url(1), soon).await, Err(KeyUnavailable::StillFetching { .. })));
    fetcher.allowed.add_permits(1);
    assert!(cache.key(url(1), in_time()).await.is_ok());
    assert_eq!(fetcher.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_ends_within_its_budget() {
    let (cache, _) = cache(0, key);
    let started = Instant::now();
    let Err(KeyUnavailable::Failed { source, .. }) = cache.key(url(1), in_time()).await else { panic!("it hangs") };
    assert!(matches!(*source, FetchFailure::TooSlow));
    assert_eq!(started.elapsed(), FETCH_TIME_MAX);
}

#[tokio::test]
async fn a_fetcher_that_panics_leaves_no_key_in_limbo() {
    let (cache, _) = cache(10, || panic!("a faulty fetcher"));
    assert!(matches!(cache.key(url(1), in_time()).await, Err(KeyUnavailable::StillFetching { .. })));
    let begun = Instant::now();
    assert!(cache.key(url(1), in_time()).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(1), "it is fetched anew, not waited for");
}
