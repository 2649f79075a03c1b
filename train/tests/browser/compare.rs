//! The table of runs by keyboard, labels edited in place, and two runs laid over each other.

use serde_json::json;

use crate::browser::Browser;
use crate::served::serve;
use crate::workplace::Workplace;

const ENTER: char = '\u{e007}';
const ESCAPE: char = '\u{e00c}';

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_chosen_compared_and_labelled() {
    let Some(browser) = Browser::open().await else { return };
    let place = Workplace::new();
    place.train("--steps 12").ok();
    place.train("--steps 12 --set train.seed=1").ok();
    place.run("runs note runs/tiny-002 <b>bold</b>").ok();
    let served = serve(&place, "127.0.0.1:0");

    browser.go(&served.url).await;
    browser.until("document.querySelectorAll('tr[data-id]').length === 2").await;
    assert_eq!(browser.text("[data-id] .state-finished").await, "finished");
    // What people write is text, whatever it looks like.
    assert!(browser.text("tbody").await.contains("<b>bold</b>"));
    assert_eq!(browser.count("td b").await, 0);

    // Found by a word, which is taken back.
    browser.keys("/seed".chars()).await;
    browser.until("document.querySelectorAll('tr[data-id]').length === 1").await;
    assert_eq!(browser.text("tr[data-id] .name").await, "tiny-002");
    browser.keys([ESCAPE]).await;
    browser.until("document.activeElement === document.body").await;
    browser
        .ask(
            "const field = document.querySelector('[type=search]'); field.value = '';
        field.dispatchEvent(new Event('input'))",
        )
        .await;

    // A tag is written where it stands, and is in the run's folder then.
    let second = "[...document.querySelectorAll('tr[data-id]')]
        .find(row => row.querySelector('.name').textContent === 'tiny-002')";
    browser.until("document.querySelectorAll('tr[data-id]').length === 2").await;
    browser.ask(&format!("{second}.querySelector('.of-labels .edit').click()")).await;
    browser.keys("seed-1 short".chars()).await;
    browser.keys([ENTER]).await;
    browser.until(&format!("{second}.querySelectorAll('.tag').length === 2")).await;
    let labels = std::fs::read_to_string(place.path("runs/tiny-002/labels.json")).unwrap();
    let labels: serde_json::Value = serde_json::from_str(&labels).unwrap();
    assert_eq!(labels["tags"], json!(["seed-1", "short"]));

    // Help opens and closes; colours are kept.
    browser.keys(['?']).await;
    browser.until("document.querySelector('dialog[open]')").await;
    browser.keys([ESCAPE]).await;
    browser.until("!document.querySelector('dialog')").await;
    browser.keys(['t']).await;
    assert_eq!(browser.ask("return document.documentElement.dataset.theme").await, "light");
    browser.go(&served.url).await;
    browser.until("document.querySelectorAll('tr[data-id]').length === 2").await;
    assert_eq!(browser.ask("return document.documentElement.dataset.theme").await, "light");

    // Both are chosen with the keyboard alone, and compared.
    browser.keys("jxjxc".chars()).await;
    browser.until("location.pathname === '/compare'").await;
    let names = "(document.querySelector('.plot')?.data ?? []).map(line => line.name)";
    browser.until(&format!("{names}.length === 2")).await;
    let drawn = browser.ask(&format!("return {names}.sort()")).await;
    assert_eq!(drawn, json!(["tiny-001", "tiny-002"]));
    let lengths =
        browser.ask("return document.querySelector('.plot').data.map(line => line.y.length)");
    assert_eq!(lengths.await, json!([12, 12]));
    let tables = browser.text(".columns").await;
    assert!(tables.contains("train.seed") && tables.contains("valid_loss"), "{tables}");
    assert!(browser.count(".parallel g.way").await == 2);
    browser.keys("gr".chars()).await;
    browser.until("location.pathname === '/'").await;
    browser.close().await;
}

/// Compared runs are followed to their ends; the last evaluation comes after the last step.
#[tokio::test(flavor = "multi_thread")]
async fn compared_runs_are_followed_to_their_ends() {
    let Some(browser) = Browser::open().await else { return };
    let place = Workplace::new();
    place.train("").ok();
    place.train("--set train.seed=1").ok();
    let served = serve(&place, "127.0.0.1:0");

    browser.go(&served.url).await;
    browser.until("document.querySelectorAll('tr[data-id]').length === 2").await;
    browser.keys("jxjxc".chars()).await;
    browser.until("location.pathname === '/compare'").await;
    let last = |plot: usize, run: &str| {
        format!(
            "(document.querySelectorAll('.plot')[{plot}]?.data ?? [])
                .find(line => line.name === '{run}')?.x.at(-1)"
        )
    };
    // The training loss and the validation loss.
    for plot in [0, 1] {
        for run in ["tiny-001", "tiny-002"] {
            browser.until(&format!("{} === 6", last(plot, run))).await;
        }
    }
    place.run("train --resume runs/tiny-001 --steps 12").ok();
    for plot in [0, 1] {
        browser.until(&format!("{} === 12", last(plot, "tiny-001"))).await;
        browser.until(&format!("{} === 6", last(plot, "tiny-002"))).await;
    }
    let all = browser.ask("return document.querySelector('.plot').data.map(line => line.y.length)");
    let mut all: Vec<usize> = serde_json::from_value(all.await).unwrap();
    all.sort_unstable();
    assert_eq!(all, [6, 12], "no step is there twice");
    browser.until("document.querySelectorAll('.compared .state-finished').length === 2").await;
    browser.close().await;
}
