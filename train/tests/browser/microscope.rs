//! Experts under the pointer: a heat map, the way of a token, and an expert that is switched off.

use crate::browser::Browser;
use crate::served::serve;
use crate::workplace::Workplace;

#[tokio::test(flavor = "multi_thread")]
async fn a_heat_map_is_read_and_a_token_is_followed() {
    let Some(browser) = Browser::open().await else { return };
    let place = Workplace::new();
    place.train("--set metrics.every=1").ok();
    let served = serve(&place, "127.0.0.1:0");

    browser.go(&served.url).await;
    browser.click("tr[data-id] .name").await;
    browser.click(".tabs a[href$='#experts']").await;
    browser.until("document.querySelector('.plot .hm image')").await;
    browser.point(0.4, 0.4).await;
    let label =
        browser.until("document.querySelector('.hoverlayer .hovertext')?.textContent").await;
    let label = label.as_str().unwrap();
    assert!(label.starts_with("step ") && label.contains("expert "), "{label}");

    browser.click(".tabs a[href$='/microscope']").await;
    let tokens = browser.until("document.querySelectorAll('[data-token]').length").await;
    assert!(tokens.as_u64().unwrap() > 20);
    let before = browser.text(".microscope .figures").await;
    browser.click("[data-token='9']").await;
    browser.until("document.querySelectorAll('.side .layer').length").await;
    let layers = browser.count(".side .layer").await;
    assert!(layers >= 1);
    // Two of four experts are chosen in each layer (`num_experts_per_tok`).
    assert_eq!(browser.count(".side .layer:first-of-type .gates li").await, 2);
    let expert = browser.text(".side .gates [data-expert]").await;

    // Which tokens it takes, and back.
    browser.click(".side .gates [data-expert]").await;
    let heading = "document.querySelector('.side h2')?.textContent ?? ''";
    browser.until(&format!("({heading}).startsWith('Expert {expert} of layer')")).await;
    browser.until("document.querySelectorAll('.takes tbody tr').length").await;
    browser.click(".side .controls button").await;
    browser.until("document.querySelectorAll('.side .layer').length").await;

    // Without it the token goes elsewhere, and the loss is another.
    browser.click(".side .gates li button.plain").await;
    let figures = "document.querySelector('.microscope .figures')?.innerText ?? ''";
    browser.until(&format!("({figures}).includes('Loss, changed')")).await;
    let after = browser.text(".microscope .figures").await;
    let first = |text: &str| text.lines().nth(1).map(str::to_owned);
    assert_eq!(first(&before), first(&after), "the base changed: {before} {after}");
    browser.until("document.querySelectorAll('.side .gates .gone').length").await;
    assert_eq!(browser.count(".side .layer:first-of-type .gates .gone").await, 1);
    assert_eq!(browser.text(".side .gates .gone [data-expert]").await, expert);
    browser.picture("microscope-what-if").await;

    // Taken back, nothing is left of it.
    browser.click(".changes .change button").await;
    browser.until(&format!("!({figures}).includes('Loss, changed')")).await;
    browser.close().await;
}
