//! Pictures of every page in light and dark, wide and narrow, and what of them can be asserted.

use std::path::Path;

use crate::browser::Browser;
use crate::served::serve;
use crate::workplace::Workplace;

/// Bytes of a picture that has something on it.
const SOMETHING: usize = 10_000;

/// Each page: its name, what follows the run's address, and what is there when it is drawn.
const PAGES: [(&str, &str, &str); 9] = [
    ("curves", "", ".plot .scatterlayer .trace"),
    ("experts", "#experts", ".plot .hm image"),
    ("fp8", "#fp8", ".plot .scatterlayer .trace"),
    ("machine", "#machine", ".plot .barlayer .bars"),
    ("samples", "#samples", ".sample"),
    ("configuration", "#configuration", ".toml tr"),
    ("files", "#files", ".grid-table tr"),
    ("pipeline", "/pipeline", ".timeline .slice"),
    ("microscope", "/microscope", "[data-token]"),
];

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_drawn_in_light_and_dark_wide_and_narrow() {
    let Some(browser) = Browser::open().await else { return };
    let place = Workplace::new();
    let shared = "--steps 20 --set metrics.every=1 --set train.micro_batch=1";
    place.train(&format!("{shared} --set parallel.pipeline=2 --set precision.format=fp8")).ok();
    place.train("--set train.seed=1").ok();
    let served = serve(&place, "127.0.0.1:0");

    browser.go(&served.url).await;
    browser.until("document.querySelectorAll('tr[data-id]').length === 2").await;
    let ids = browser
        .ask(
            "return [...document.querySelectorAll('tr[data-id]')].map(row =>
        [row.querySelector('.name').textContent, row.dataset.id]).sort().map(pair => pair[1])",
        )
        .await;
    let ids: Vec<String> = serde_json::from_value(ids).unwrap();
    let (url, first) = (&served.url, &ids[0]);

    look(&browser, "runs").await;
    browser.go(&format!("{url}/compare?ids={}", ids.join(","))).await;
    browser.until("document.querySelectorAll('.plot .scatterlayer .trace').length > 2").await;
    look(&browser, "compare").await;
    for (name, address, drawn) in PAGES {
        // From one tab to the next by its link, as people go.
        if name == "curves" {
            browser.go(&format!("{url}/run/{first}{address}")).await;
        } else {
            browser.click(&format!(".tabs a[href='/run/{first}{address}']")).await;
        }
        browser.until(&format!("document.querySelector(\"{drawn}\")")).await;
        look(&browser, name).await;
    }
    browser.close().await;
}

/// Pictures of a page in both colours and both widths.
async fn look(browser: &Browser, name: &str) {
    for (width, height) in [(1440, 900), (390, 844)] {
        browser.size(width, height);
        // Charts take their new size a moment later.
        let fits = "[...document.querySelectorAll('.plot')].every(plot =>
            !plot._fullLayout || plot._fullLayout.width <= plot.clientWidth)";
        browser.until(fits).await;
        for (dark, colours) in [(false, "light"), (true, "dark")] {
            browser.dark(dark);
            browser.until("document.getAnimations().every(each => !each.pending)").await;
            let ground = browser.ask(
                "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)",
            );
            let ground: Vec<f64> = serde_json::from_value(ground.await).unwrap();
            assert_eq!(ground[0] < 60.0, dark, "{name}: {colours} has the ground {ground:?}");
            let picture = browser.picture(&format!("{name}-{width}-{colours}")).await;
            assert!(picture.len() > SOMETHING, "{name}: {} bytes", picture.len());
        }
        // What is too wide scrolls in itself, never the page.
        let wide = browser.ask("return document.documentElement.scrollWidth").await;
        assert!(wide.as_u64() <= Some(width.into()), "{name} at {width} is {wide} pixels wide");
    }
    browser.size(1440, 900);
    browser.dark(false);
}

/// The pictures of the book: a run's curves in light, the microscope in dark. They go into the book
/// where `BOOK_IMAGES` names its folder, from the root of the checkout.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a training of some minutes; ./attack runs it"]
async fn pictures_of_the_book() {
    let Some(browser) = Browser::open().await else { return };
    let place = Workplace::new();
    place.run("train --steps 400 --set train.eval_every=40 --set output.sample_tokens=40").ok();
    let served = serve(&place, "127.0.0.1:0");
    let images = std::env::var_os("BOOK_IMAGES")
        .map(|images| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(images));
    let keep = |name: &str, picture: Vec<u8>| {
        assert!(picture.len() > SOMETHING, "{name} has {} bytes", picture.len());
        if let Some(images) = &images {
            std::fs::write(images.join(name), picture).unwrap();
        }
    };

    browser.size(1280, 860);
    browser.go(&served.url).await;
    browser.click("tr[data-id] .name").await;
    browser.until("document.querySelectorAll('.plot .scatterlayer').length > 3").await;
    keep("dashboard-light.png", browser.picture("book-light").await);

    browser.dark(true);
    browser.click(".tabs a[href$='/microscope']").await;
    browser.click("[data-token='9']").await;
    browser.until("document.querySelectorAll('.side .layer').length").await;
    browser.click(".side .gates li button.plain").await;
    browser.until("document.querySelectorAll('.side .gates .gone').length").await;
    keep("dashboard-dark.png", browser.picture("book-dark").await);
    browser.close().await;
}
