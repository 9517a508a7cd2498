//! Debian's Chromium, driven by its driver: started for one test, and ended with it in any case.

use std::time::{Duration, Instant};

use assay_process::{Child, Cmd, find_program};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thirtyfour::common::capabilities::chromium::ChromiumLikeCapabilities as _;
use thirtyfour::{By, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver};

use crate::common::PASSWORD;
use crate::site::Site;

/// The longest that a page may take to show what has happened. Two loaded cores are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox", // The tests run as root, too; what is browsed is our own.
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Before the scripts of any page: the chart that is drawn can be asked for what it shows.
const KEEP_THE_CHART: &str = "
    let made;
    Object.defineProperty(window, 'uPlot', {
        get: () => made,
        set: (real) => {
            made = new Proxy(real, {
                construct: (chart, given) => (window.chartForTest = new chart(...given)),
            });
        },
    });";

/// A browser with a profile of its own.
pub(crate) struct Browser {
    // Fields end in this order: the browser is told to go before its driver is killed.
    driver: WebDriver,
    service: Child,
    _home: tempfile::TempDir,
}

impl Browser {
    /// Starts one. The server has been opened before, so the TLS provider that every client wants is there.
    pub(crate) async fn start() -> Self {
        let binary = need("chromium", "chromium");
        let home = tempfile::tempdir().expect("a folder");
        let mut service = Cmd::new(need("chromedriver", "chromium-driver"))
            .arg("--port=0")
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .spawn()
            .await
            .expect("chromedriver starts");
        let url = format!("http://127.0.0.1:{}", port(&mut service).await);
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(&binary).expect("fits");
        for argument in ARGUMENTS {
            wanted.add_arg(argument).expect("fits");
        }
        let profile = home.path().join("profile");
        wanted.add_arg(&format!("--user-data-dir={}", profile.display())).expect("fits");
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All).expect("fits");
        let driver = WebDriver::new(url, wanted).await.expect("chromium starts");
        driver.set_script_timeout(PATIENCE).await.expect("sets");
        driver.set_page_load_timeout(PATIENCE).await.expect("sets");
        let browser = Self { driver, service, _home: home };
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": KEEP_THE_CHART })).await;
        browser
    }

    /// Opens a page.
    pub(crate) async fn open(&self, site: &Site, path: &str) {
        self.driver.goto(site.url(path)).await.unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Fills in the sign-in page.
    pub(crate) async fn sign_in(&self, site: &Site) {
        self.open(site, "/login").await;
        self.write("#password", PASSWORD).await;
        self.click("main button").await;
        self.until("location.pathname === '/' && document.querySelector('.who')").await;
    }

    /// Loads the page again.
    pub(crate) async fn reload(&self) {
        self.driver.refresh().await.expect("loads");
    }

    /// The tab is in front, or behind another one. A page learns of it only by this property and this event.
    pub(crate) async fn in_front(&self, is: bool) {
        let tell = format!(
            "(() => {{
                Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {} }});
                return document.dispatchEvent(new Event('visibilitychange'));
            }})()",
            !is
        );
        self.get::<bool>(&tell).await;
    }

    /// Clicks what a CSS selector names.
    pub(crate) async fn click(&self, css: &str) {
        let element = self.driver.find(By::Css(css)).await.unwrap_or_else(|e| panic!("{css}: {e}"));
        element.click().await.unwrap_or_else(|e| panic!("{css}: {e}"));
    }

    /// Types into an empty or emptied field.
    pub(crate) async fn write(&self, css: &str, text: &str) {
        let field = self.driver.find(By::Css(css)).await.unwrap_or_else(|e| panic!("{css}: {e}"));
        field.clear().await.unwrap_or_else(|e| panic!("{css}: {e}"));
        field.send_keys(text).await.unwrap_or_else(|e| panic!("{css}: {e}"));
    }

    /// What an expression is in the page.
    pub(crate) async fn get<T: DeserializeOwned>(&self, expression: &str) -> T {
        let answer = self.driver.execute(format!("return {expression};"), Vec::new()).await;
        answer.and_then(|a| a.convert()).unwrap_or_else(|e| panic!("{expression}: {e}"))
    }

    /// The text that a reader sees at a CSS selector.
    pub(crate) async fn text(&self, css: &str) -> String {
        let css = json!(css);
        self.get(&format!("(document.querySelector({css}) ?? {{}}).innerText ?? 'nothing at ' + {css}")).await
    }

    /// Returns when an expression is true in the page: looked at whenever the document changes.
    pub(crate) async fn until(&self, expression: &str) {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const is = () => Boolean({expression});
             if (is()) {{ done(); return; }}
             const observer = new MutationObserver(() => {{
                 if (is()) {{ observer.disconnect(); done(); }}
             }});
             observer.observe(document, {{
                 subtree: true, childList: true, attributes: true, characterData: true,
             }});"
        );
        let since = Instant::now();
        while let Err(problem) = self.driver.execute_async(script.clone(), Vec::new()).await {
            let told = problem.to_string();
            // One page gave way to the next in the meantime, which the driver calls a timeout at once: ask that one.
            let between = ["script timeout", "unloaded"].iter().any(|words| told.contains(words));
            if between && since.elapsed() < PATIENCE {
                continue;
            }
            let page: String = self.get("document.body.innerText").await;
            panic!("never came true: {expression}\n{told}\nthe page:\n{page}");
        }
    }

    /// Every line in the log's box, in its order: source and text.
    pub(crate) async fn log(&self) -> Vec<String> {
        self.get(
            "[...document.querySelectorAll('#log > div')]
                .map((d) => `${d.querySelector('b').textContent}: ${d.lastChild.textContent}`)",
        )
        .await
    }

    /// Returns when the log has that many lines or more.
    pub(crate) async fn log_lines(&self, count: usize) {
        self.until(&format!("document.querySelectorAll('#log > div').length >= {count}")).await;
    }

    /// Every reading in the chart: microseconds and the values to three places. Gaps are left out.
    pub(crate) async fn readings(&self) -> Vec<String> {
        self.get(
            "chartForTest.data[0]
                .map((at, i) => [at, chartForTest.data.slice(1).map((values) => values[i])])
                .filter(([, values]) => values.some((v) => v !== null))
                .map(([at, values]) => [
                    String(Math.round(at * 1e6)), ...values.map((v) => v === null ? '-' : v.toFixed(3)),
                ].join(' '))",
        )
        .await
    }

    /// Returns when the chart has that many readings or more; a gap counts as none.
    pub(crate) async fn reading_count(&self, count: usize) {
        let known = "chartForTest.data[0].filter((_, i) => chartForTest.data[4][i] !== null).length";
        self.until(&format!("window.chartForTest?.data.length === 5 && {known} >= {count}")).await;
    }

    /// A window of that size, in CSS pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", size).await;
        assert_eq!(self.get::<u32>("innerWidth").await, width);
    }

    /// How far the page reaches beyond the window to the right, in CSS pixels, and what does.
    pub(crate) async fn overhang(&self) -> (i64, Vec<String>) {
        self.get(
            "[
                document.documentElement.scrollWidth - innerWidth,
                [...document.querySelectorAll('body *')]
                    .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5)
                    .map((e) => `${e.localName}.${e.className}#${e.id}`).slice(0, 12),
            ]",
        )
        .await
    }

    /// What the browser complained about since the last time: errors, warnings, refused content.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.driver.browser_log().await.expect("a log");
        let bad = entries.into_iter().filter(|e| ["SEVERE", "WARNING"].contains(&e.level.as_str()));
        bad.map(|e| e.message).collect()
    }

    /// Nothing was complained about but what has one of these words in it.
    pub(crate) async fn is_quiet_but_for(&self, expected: &[&str]) {
        let all = self.complaints().await;
        let other: Vec<_> = all.iter().filter(|c| !expected.iter().any(|e| c.contains(e))).collect();
        assert!(other.is_empty(), "the browser complains: {other:#?}");
    }

    /// Ends it.
    pub(crate) async fn quit(mut self) {
        self.driver.quit().await.expect("ends");
        self.service.stop(Duration::from_secs(5)).await.expect("stops");
    }

    async fn cdp(&self, method: &str, params: Value) {
        self.driver.cdp().send_raw(method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"));
    }
}

/// Where a program is; a machine without it cannot run these tests, and that is told.
fn need(program: &str, package: &str) -> String {
    match find_program(program) {
        Ok(path) => path.to_str().expect("a plain path").to_owned(),
        Err(problem) => panic!("the browser tests need `{program}`: apt-get install {package} ({problem})"),
    }
}

/// The port that the driver took.
async fn port(service: &mut Child) -> u16 {
    let mut said = Vec::new();
    let heard = async {
        while let Some(line) = service.next_line().await {
            let port = line.text.rsplit_once("started successfully on port ").map(|(_, rest)| rest);
            if let Some(port) = port.and_then(|p| p.trim_end_matches('.').parse().ok()) {
                return Some(port);
            }
            said.push(line.text);
        }
        None
    };
    let port = tokio::time::timeout(PATIENCE, heard).await.ok().flatten();
    // What it says from here on is nobody's.
    drop(service.take_lines());
    port.unwrap_or_else(|| panic!("chromedriver names no port; it said {said:#?}"))
}
