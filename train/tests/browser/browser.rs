//! Chromium behind chromedriver, and what a test asks of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{
    Actions, InputSource, KeyAction, KeyActions, MouseActions, PointerAction,
};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// How long a page may take for anything. Another test may have the processor.
const PATIENCE: Duration = Duration::from_secs(30);
/// Programs that are Chromium.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// A button of the pointer.
const LEFT: u64 = 0;

/// A browser with one tab.
pub struct Browser {
    client: Client,
    driver: Driver,
}

impl Browser {
    /// One with a window of 1440 by 900; none where there is no Chromium, which is said.
    pub async fn open() -> Option<Self> {
        let Some(chromium) = CHROMIUM.into_iter().find_map(program) else {
            println!("skipped: there is no Chromium here (Debian: chromium)");
            return None;
        };
        let Some(chromedriver) = program("chromedriver") else {
            println!("skipped: there is no chromedriver here (Debian: chromium-driver)");
            return None;
        };
        let mut driver = Driver::start(&chromedriver);
        let arguments = [
            "--headless=new",
            "--no-sandbox", // without it root cannot start it; nothing foreign is opened
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--window-size=1440,900",
        ];
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": chromium, "args": arguments },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&driver.url).await.unwrap();
        driver.session = client.session_id().await.unwrap();
        let browser = Self { client, driver };
        browser.size(1440, 900);
        Some(browser)
    }

    pub async fn go(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// What a script returns.
    pub async fn ask(&self, script: &str) -> Value {
        let answer = self.client.execute(script, Vec::new()).await;
        answer.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an expression is true, and gives its value.
    pub async fn until(&self, expression: &str) -> Value {
        let began = Instant::now();
        loop {
            let value = self.ask(&format!("return {expression}")).await;
            if ![Value::Null, json!(false), json!(0), json!("")].contains(&value) {
                return value;
            }
            if began.elapsed() > PATIENCE {
                let text = self.ask("return document.body.innerText").await;
                let console = self.driver.console();
                panic!("never became true: {expression}\n-- page\n{text}\n-- console\n{console:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The text of the first element of a selector, which is waited for.
    pub async fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let value = self.until(&format!("document.querySelector({selector})?.innerText")).await;
        value.as_str().unwrap().into()
    }

    /// How many elements a selector has.
    pub async fn count(&self, selector: &str) -> u64 {
        let selector = json!(selector);
        let count = self.ask(&format!("return document.querySelectorAll({selector}).length")).await;
        count.as_u64().unwrap()
    }

    /// Presses the first element of a selector with the pointer. An element that is drawn anew
    /// between finding and pressing it is looked for again.
    pub async fn click(&self, selector: &str) {
        let began = Instant::now();
        loop {
            self.until(&format!("!!document.querySelector({})", json!(selector))).await;
            let found = self.client.find(Locator::Css(selector)).await;
            let pressed = match found {
                Ok(element) => element.click().await,
                Err(error) => Err(error),
            };
            match pressed {
                Ok(()) => return,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{selector}: {error}"),
            }
        }
    }

    /// Presses keys, one after the other.
    pub async fn keys(&self, keys: impl IntoIterator<Item = char>) {
        let presses = keys.into_iter().fold(KeyActions::new("keys".into()), |presses, value| {
            presses.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.client.perform_actions(presses).await.unwrap();
    }

    /// Moves the pointer to a place in the drawing of the first plot, as shares of its sides.
    pub async fn point(&self, x: f64, y: f64) {
        let (x, y) = self.in_plot(x, y).await;
        self.client
            .perform_actions(MouseActions::new("mouse".into()).then(to(x, y)))
            .await
            .unwrap();
    }

    /// Draws the pointer across the first plot, half-way up.
    pub async fn drag(&self, from: f64, to_share: f64) {
        let (x, y) = self.in_plot(from, 0.5).await;
        let (end, _) = self.in_plot(to_share, 0.5).await;
        let mouse = MouseActions::new("mouse".into())
            .then(to(x, y))
            .then(PointerAction::Down { button: LEFT })
            .then(to((x + end) / 2.0, y))
            .then(to(end, y))
            .then(PointerAction::Up { button: LEFT });
        self.client.perform_actions(Actions::from(mouse)).await.unwrap();
    }

    async fn in_plot(&self, x: f64, y: f64) -> (f64, f64) {
        let place = self.until(
            "(() => { const area = document.querySelector('.plot .nsewdrag');
              const box = area?.getBoundingClientRect();
              return box?.width && [box.left, box.top, box.width, box.height]; })()",
        );
        let place: Vec<f64> = serde_json::from_value(place.await).unwrap();
        (place[0] + place[2] * x, place[1] + place[3] * y)
    }

    /// Takes the size of a window; below 500 it is a phone's.
    pub fn size(&self, width: u32, height: u32) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.driver.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Takes the system's colours: light, or dark.
    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.driver.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// Writes a picture of the window, and gives its bytes.
    pub async fn picture(&self, name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        std::fs::create_dir_all(&folder).unwrap();
        let picture = self.client.screenshot().await.unwrap();
        std::fs::write(folder.join(format!("{name}.png")), &picture).unwrap();
        picture
    }

    /// Errors that the console holds, but for those that contain one of some texts.
    pub fn errors(&self, but: &[&str]) -> Vec<String> {
        let errors = self.driver.console().into_iter().filter_map(|line| {
            let message = line["message"].as_str().unwrap_or_default().to_owned();
            (line["level"] == "SEVERE").then_some(message)
        });
        errors.filter(|message| !but.iter().any(|known| message.contains(known))).collect()
    }

    /// Closes it; the console must be free of errors.
    pub async fn close(self) {
        let errors = self.errors(&[]);
        assert!(errors.is_empty(), "the console has errors: {errors:#?}");
        self.client.clone().close().await.unwrap();
    }
}

fn to(x: f64, y: f64) -> PointerAction {
    PointerAction::MoveTo { duration: Some(Duration::from_millis(40)), x, y }
}

/// The path of a program that the shell would find.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// chromedriver, on a port that it chose.
struct Driver {
    process: Child,
    url: String,
    session: Option<String>,
}

impl Driver {
    fn start(program: &Path) -> Self {
        let mut process = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.contains("started successfully").then(|| {
                line.trim_end_matches('.').rsplit(' ').next().unwrap().parse::<u16>().unwrap()
            })
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url: format!("http://127.0.0.1:{}", port.unwrap()), session: None }
    }

    /// What fantoccini has no words for.
    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/session/{}/{path}", self.url, self.session.as_deref().unwrap());
        let mut answer = ureq::post(url)
            .content_type("application/json")
            .send(body.to_string())
            .unwrap_or_else(|error| panic!("{path} {body}: {error}"));
        let text = answer.body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// What the console got since it was asked the last time.
    fn console(&self) -> Vec<Value> {
        match self.post("se/log", &json!({ "type": "browser" })) {
            Value::Array(lines) => lines,
            other => panic!("no console: {other}"),
        }
    }
}

/// A test that failed leaves no browser behind.
impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            ureq::delete(format!("{}/session/{session}", self.url)).call().ok();
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
