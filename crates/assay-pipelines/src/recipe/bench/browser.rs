//! A browser for tests that drive one: WebDriver (Debian's `chromium-driver`), in a sandbox in the network of the run's daemon, for as
//! long as the tests of `browser/` run.
//!
//! Tests come to it through an address of ours that has a word in it which only they are told: containers are in the same network and
//! must not drive a browser. We see sessions begin and end there, so that of a test that fails a picture and the page are kept,
//! also where it has ended its session by then.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use assay_process::{Child, find_program};
use assay_recipe::customise::context;
use assay_swarm::Reach;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::Test;
use super::sandbox::Sandboxed;

/// The driver's port, on the loopback of the daemon's network; any free one where that is not the run's alone.
const DRIVER: u16 = 9515;
/// Ours, where tests come to.
const PORT: u16 = 9514;
/// How long the driver may take to start.
const START: Duration = Duration::from_secs(30);
/// How long a picture may take.
const PICTURE: Duration = Duration::from_secs(20);
/// How long the driver may take to end with its browsers.
const END: Duration = Duration::from_secs(3);
/// The longest answer that is passed on, in bytes: pictures come as text.
const LONGEST: usize = 64 << 20;
/// The most that is kept of a page, in bytes.
const PAGE: usize = 4 << 20;

/// A driver that runs.
pub(super) struct Browser {
    child: Child,
    driver: Arc<Driver>,
    url: String,
    program: PathBuf,
    /// Browsers keep their profiles in its `/tmp`.
    _sandboxed: Sandboxed,
    listening: AbortHandle,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// The way to the driver, and what is known of its sessions.
struct Driver {
    reach: Reach,
    port: u16,
    word: String,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    open: Vec<String>,
    /// Of the session that was ended last.
    last: Option<Picture>,
}

/// What a browser showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Picture {
    /// PNG.
    image: Option<Vec<u8>>,
    source: Option<String>,
}

impl Test {
    /// Starts one.
    pub(super) async fn start_browser(&mut self) -> Result<(), String> {
        let words = |error: assay_process::ProcessError| error.to_string();
        let Some(stand) = &self.stand else {
            return Err("there is no daemon to run a browser beside".to_owned());
        };
        let chromedriver = find_program("chromedriver").map_err(words)?;
        let program = find_program("chromium").map_err(words)?;
        let port =
            stand.port_on_loopback(DRIVER).map_err(|error| format!("a port for the driver: {error}"))?;
        let sandboxed = self.sandboxed(stand)?;
        let command = sandboxed.command(&chromedriver).arg(format!("--port={port}"));
        let mut child = command.spawn().await.map_err(words)?;
        until_started(&mut child).await?;
        let reach = stand.reach()?;
        let listener =
            reach.listen(PORT).await.map_err(|error| format!("listening for WebDriver: {error}"))?;
        let word = Uuid::new_v4().simple().to_string();
        let url = format!("http://{}:{PORT}/{word}", stand.address());
        let driver = Arc::new(Driver { reach, port, word, sessions: Mutex::default() });
        let listening = tokio::spawn(serve(Arc::downgrade(&driver), listener)).abort_handle();
        self.browser = Some(Browser { child, driver, url, program, _sandboxed: sandboxed, listening });
        Ok(())
    }

    /// Ends it.
    pub(super) async fn stop_browser(&mut self) {
        let Some(mut browser) = self.browser.take() else { return };
        browser.driver.end_sessions().await;
        // Whatever it left in its group goes with it.
        let _ = browser.child.stop(END).await;
    }

    /// After a test: its sessions are ended, and what it saw is kept where it failed.
    pub(super) async fn after_browser_test(&mut self, name: &str, failed: bool) {
        let Some(browser) = &self.browser else { return };
        let picture = if failed { browser.driver.last_picture().await } else { None };
        browser.driver.end_sessions().await;
        let Some(picture) = picture else { return };
        let name = name.replace('/', "-");
        if let Some(image) = picture.image {
            self.artifacts.push((format!("{name}.png"), image));
        }
        if let Some(source) = picture.source {
            self.artifacts.push((format!("{name}.html"), source.into_bytes()));
        }
    }
}

impl Browser {
    /// What a test is told.
    pub(super) fn context(&self) -> context::Browser {
        context::Browser {
            webdriver_url: self.url.clone(),
            capabilities: json!({
                "browserName": "chrome",
                // The run's authority is in no store of the browser's.
                "acceptInsecureCerts": true,
                "goog:chromeOptions": {
                    "binary": self.program,
                    "args": [
                        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
                        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                        "--ignore-certificate-errors", "--window-size=1280,900",
                    ],
                },
            }),
        }
    }
}

impl Driver {
    /// What the session shows that was used last.
    async fn last_picture(&self) -> Option<Picture> {
        let (open, last) = {
            let sessions = self.sessions();
            (sessions.open.last().cloned(), sessions.last.clone())
        };
        match open {
            Some(session) => Some(self.picture(&session).await),
            None => last,
        }
    }

    async fn picture(&self, session: &str) -> Picture {
        let value = async |what: &str| -> Option<String> {
            let answer =
                self.ask(Method::GET, &format!("/session/{session}/{what}"), Bytes::new()).await.ok()?;
            let value: Value = serde_json::from_slice(&answer.1).ok()?;
            value["value"].as_str().map(str::to_owned)
        };
        let taken = async {
            let image = value("screenshot").await;
            let image = image.and_then(|image| base64::engine::general_purpose::STANDARD.decode(image).ok());
            let source = value("source").await.filter(|source| source.len() <= PAGE);
            Picture { image, source }
        };
        tokio::time::timeout(PICTURE, taken).await.unwrap_or_default()
    }

    async fn end_sessions(&self) {
        let open = {
            let mut sessions = self.sessions();
            sessions.last = None;
            std::mem::take(&mut sessions.open)
        };
        for session in open {
            let path = format!("/session/{session}");
            let ended = self.ask(Method::DELETE, &path, Bytes::new());
            // What does not end by itself is ended with the driver.
            let _ = tokio::time::timeout(END, ended).await;
        }
    }

    /// Passes a test's request on.
    async fn pass(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let Some(path) = path.strip_prefix(&format!("/{}", self.word)).filter(|path| path.starts_with('/'))
        else {
            return said(StatusCode::NOT_FOUND, "there is no WebDriver here; its address is in the context");
        };
        let Ok(body) = Limited::new(body, LONGEST).collect().await else {
            return said(StatusCode::PAYLOAD_TOO_LARGE, "that is too long");
        };
        let ending = (head.method == Method::DELETE).then(|| session_of(path)).flatten();
        if let Some(session) = ending {
            let picture = self.picture(session).await;
            let mut sessions = self.sessions();
            sessions.open.retain(|open| open != session);
            sessions.last = Some(picture);
        }
        match self.ask(head.method.clone(), path, body.to_bytes()).await {
            Err(why) => said(StatusCode::BAD_GATEWAY, &why),
            Ok((status, answer)) => {
                if head.method == Method::POST && path == "/session" {
                    let begun: Value = serde_json::from_slice(&answer).unwrap_or_default();
                    // It becomes part of a path.
                    let id = begun["value"]["sessionId"].as_str().filter(|id| is_plain(id));
                    self.sessions().open.extend(id.map(str::to_owned));
                }
                let mut response = Response::new(Full::new(answer));
                *response.status_mut() = status;
                let json = header::HeaderValue::from_static("application/json; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        let failed = |error: &dyn std::fmt::Display| format!("Assay's browser: {error}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream =
            self.reach.connect(address, Duration::from_secs(5)).await.map_err(|error| failed(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("127.0.0.1:{}", self.port))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| failed(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| failed(&error))?;
        Ok((status, body.to_bytes()))
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn until_started(child: &mut Child) -> Result<(), String> {
    let mut last = String::new();
    let waited = tokio::time::timeout(START, async {
        while let Some(line) = child.next_line().await {
            if line.text.contains("started successfully") {
                return true;
            }
            last = line.text;
        }
        false
    });
    match waited.await {
        Ok(true) => {
            if let Some(mut lines) = child.take_lines() {
                tokio::spawn(async move { while lines.recv().await.is_some() {} });
            }
            Ok(())
        }
        Ok(false) => {
            Err(format!("chromedriver ended before it served: {}", assay_model::text::clean_to(&last, 300)))
        }
        Err(_) => Err(format!(
            "chromedriver did not serve within {START:?}: {}",
            assay_model::text::clean_to(&last, 300)
        )),
    }
}

async fn serve(driver: Weak<Driver>, listener: TcpListener) {
    loop {
        // A connection that could not be taken is its client's trouble.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Some(driver) = driver.upgrade() else { return };
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let driver = Arc::clone(&driver);
                async move { Ok::<_, Infallible>(driver.pass(request).await) }
            });
            // A client may leave when it likes.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The session that a path is about, where it is about nothing more.
fn session_of(path: &str) -> Option<&str> {
    path.strip_prefix("/session/").filter(|id| is_plain(id))
}

fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// In WebDriver's form, so that clients tell it.
fn said(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    let body =
        json!({ "value": { "error": "unknown error", "message": words, "stacktrace": "" } }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_session_is_told_from_what_happens_in_it() {
        assert_eq!(session_of("/session/ab12-9"), Some("ab12-9"));
        for other in ["/session", "/session/", "/session/ab/window", "/sessions/ab", "/session/../x"] {
            assert_eq!(session_of(other), None, "{other}");
        }
    }
}
