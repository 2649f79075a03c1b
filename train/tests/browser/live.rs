//! A page that follows a run: curves grow, a zoom stays, a server that went away comes back.

use serde_json::Value;

use crate::browser::Browser;
use crate::served::{serve, training};
use crate::workplace::Workplace;

/// The last step that the first plot has.
const LAST: &str = "(document.querySelector('.plot')?.data?.[0]?.x?.at(-1) ?? 0)";
const RANGE: &str = "document.querySelector('.plot').layout.xaxis.range.map(Number)";

#[tokio::test(flavor = "multi_thread")]
async fn curves_grow_without_a_reload_and_a_zoom_stays() {
    let Some(browser) = Browser::open().await else { return };
    let place = Workplace::new();
    let mut run = training(
        &place,
        "--steps 1M --set train.eval_every=20 --set metrics.every=5 --set schedule.global_batch=16",
    );
    let mut served = serve(&place, "127.0.0.1:0");

    browser.go(&served.url).await;
    browser.until("document.querySelector('.state-training')").await;
    browser.ask("window.same = true").await;
    browser.click("tr[data-id] .name").await;
    let last = browser.until(&format!("{LAST} > 5 && {LAST}")).await.as_u64().unwrap();
    browser.until(&format!("{LAST} > {last} + 20")).await;
    let valid = "document.querySelector('.plot').data.find(line => line.name === 'validation')";
    browser.until(&format!("({valid}?.x?.length ?? 0) > 1")).await;

    // Seen from near, more steps come in and the window stays where it is.
    browser.drag(0.3, 0.6).await;
    let shows_all = "[...document.querySelectorAll('button')].some(button =>
        button.textContent === 'Show all' && !button.hidden)";
    browser.until(shows_all).await;
    let range: Vec<f64> = serde_json::from_value(browser.until(RANGE).await).unwrap();
    let last = browser.until(LAST).await.as_u64().unwrap();
    browser.until(&format!("{LAST} > {last} + 20")).await;
    let after: Vec<f64> = serde_json::from_value(browser.until(RANGE).await).unwrap();
    assert!(range[1] - range[0] > 1.0 && range == after, "{range:?} {after:?}");
    browser.keys(['0']).await;
    browser.until(&format!("{RANGE}[1] > {}", range[1])).await;

    // The server goes and comes back: the page says so, and goes on.
    assert_eq!(browser.errors(&[]), Vec::<String>::new());
    served.process.kill();
    browser.until("document.documentElement.dataset.connection === 'stale'").await;
    assert!(browser.text("#connection").await.starts_with("not connected, as of "));
    let last = browser.until(LAST).await.as_u64().unwrap();
    let address = served.url.trim_start_matches("http://").to_owned();
    let _again = serve(&place, &address);
    browser.until("document.documentElement.dataset.connection === 'live'").await;
    browser.until(&format!("{LAST} > {last} + 20")).await;
    let unexpected = browser.errors(&["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING"]);
    assert_eq!(unexpected, Vec::<String>::new());

    // The end of the run is seen, too.
    run.kill();
    browser.until("document.querySelector('.run-head .state-stopped')").await;
    assert_eq!(browser.ask("return window.same").await, Value::Bool(true), "the page was reloaded");
    browser.close().await;
}
