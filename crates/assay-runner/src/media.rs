//! Where BMCs fetch media from: the images that are inserted at this moment, and nothing else.
//!
//! A BMC reads an image piece by piece while the machine reads its CD, so requests for parts are answered as such. The
//! address is made of the image's digest, and is the same after a restart: that is how what was inserted by an earlier
//! runner is known to be ours.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::SeekFrom;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_api::runner::Medium;
use assay_model::Sha256;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::{Either, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::Url;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::io::ReaderStream;
use tracing::debug;

/// The port on the provisioning network under which BMCs find media.
const PORT: u16 = 8081;
/// Bytes that are read from an image at once.
const PIECE: usize = 256 << 10;

/// Connections at once: a BMC has a few for each machine.
const MOST: usize = 64;
/// After a connection could not be accepted.
const AGAIN: Duration = Duration::from_secs(1);

/// Nothing, or a part of an image.
type Answer = Response<Either<Empty<Bytes>, StreamBody<BoxStream<'static, std::io::Result<Frame<Bytes>>>>>>;

/// What is inserted, by its digest.
type Shown = Arc<Mutex<BTreeMap<String, PathBuf>>>;

/// Serves the images that are inserted. It listens from the first one on.
pub(crate) struct MediaServer {
    at: SocketAddr,
    shown: Shown,
    listening: AsyncMutex<Option<JoinHandle<()>>>,
}

impl MediaServer {
    /// A server at this address of ours, which BMCs reach.
    pub(crate) fn new(address: Ipv4Addr) -> Self {
        Self::at(SocketAddr::from((address, PORT)))
    }

    fn at(at: SocketAddr) -> Self {
        Self { at, shown: Shown::default(), listening: AsyncMutex::default() }
    }

    /// Where this image is found once it is shown.
    pub(crate) fn address(&self, medium: &Medium) -> Result<Url, String> {
        let address = format!("http://{}/media/{}/medium.iso", self.at, medium.sha256);
        Url::parse(&address).map_err(|problem| format!("{address}: {problem}"))
    }

    /// Shows an image, and says where.
    pub(crate) async fn show(&self, medium: &Medium) -> Result<Url, String> {
        let mut listening = self.listening.lock().await;
        if listening.as_ref().is_none_or(JoinHandle::is_finished) {
            let listener = TcpListener::bind(self.at).await.map_err(|problem| {
                format!("media cannot be served at {}: {problem}; BMCs fetch them from there", self.at)
            })?;
            *listening = Some(tokio::spawn(listen(listener, Arc::clone(&self.shown))));
        }
        lock(&self.shown).insert(medium.sha256.to_string(), medium.image.clone());
        self.address(medium)
    }

    /// Shows it no more.
    pub(crate) fn hide(&self, medium: &Medium) {
        lock(&self.shown).remove(&medium.sha256.to_string());
    }
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.get_mut() {
            listening.abort();
        }
    }
}

/// Serves until it is aborted, and its connections with it.
async fn listen(listener: TcpListener, shown: Shown) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if open.len() < MOST => {
                open.spawn(connection(stream, Arc::clone(&shown)));
            }
            Ok(_) => debug!("more than {MOST} connections ask for media; one is turned away"),
            Err(problem) => {
                debug!("a connection for media was not accepted: {problem}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shown: Shown) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shown = Arc::clone(&shown);
        async move { Ok::<_, Infallible>(serve(&shown, &request).await) }
    });
    let mut http = http1::Builder::new();
    if let Err(problem) = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await
    {
        debug!("a connection for media broke off: {problem}");
    }
}

async fn serve(shown: &Shown, request: &Request<Incoming>) -> Answer {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return nothing(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(path) = asked_for(shown, request.uri().path()) else { return nothing(StatusCode::NOT_FOUND) };
    let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap_or_default());
    answer(path, range).await.unwrap_or_else(|problem| {
        debug!("an image cannot be served: {problem}");
        nothing(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

/// The file behind `/media/DIGEST/NAME`.
fn asked_for(shown: &Shown, path: &str) -> Option<PathBuf> {
    let (digest, _) = path.strip_prefix("/media/")?.split_once('/')?;
    let digest: Sha256 = digest.parse().ok()?;
    lock(shown).get(&digest.to_string()).cloned()
}

async fn answer(path: PathBuf, range: Option<&str>) -> std::io::Result<Answer> {
    let mut file = File::open(path).await?;
    let whole = file.metadata().await?.len();
    let (status, first, length) = match range.map(|range| part(range, whole)) {
        None => (StatusCode::OK, 0, whole),
        Some(Some((first, last))) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Some(None) => {
            let mut response = nothing(StatusCode::RANGE_NOT_SATISFIABLE);
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{whole}"));
            return Ok(response);
        }
    };
    file.seek(SeekFrom::Start(first)).await?;
    let pieces = ReaderStream::with_capacity(file.take(length), PIECE).map_ok(Frame::data);
    let mut response = Response::new(Either::Right(StreamBody::new(pieces.boxed())));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {first}-{}/{whole}", first + length - 1);
        set(&mut response, header::CONTENT_RANGE, &part);
    }
    Ok(response)
}

fn nothing(status: StatusCode) -> Answer {
    let mut response = Response::new(Either::Left(Empty::new()));
    *response.status_mut() = status;
    response
}

/// Numbers and words of ours, which all stand in headers.
fn set(response: &mut Answer, name: header::HeaderName, value: &str) {
    if let Ok(value) = header::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The first and the last byte of `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`; none for what is not in the file,
/// or is several parts.
fn part(range: &str, whole: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = whole.checked_sub(1)?;
    match (first.trim(), last.trim()) {
        ("", count) => {
            let count: u64 = count.parse().ok()?;
            (count > 0).then(|| (whole.saturating_sub(count), end))
        }
        (first, last) => {
            let first: u64 = first.parse().ok()?;
            let last = if last.is_empty() { end } else { last.parse::<u64>().ok()?.min(end) };
            (first <= last).then_some((first, last))
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_within_the_file() {
        for (range, expected) in [
            ("bytes=0-0", Some((0, 0))),
            ("bytes=2-4", Some((2, 4))),
            ("bytes=2-", Some((2, 9))),
            ("bytes=2-99", Some((2, 9))),
            ("bytes=-3", Some((7, 9))),
            ("bytes=-99", Some((0, 9))),
            ("bytes=9-9", Some((9, 9))),
            ("bytes=10-", None),
            ("bytes=4-2", None),
            ("bytes=-0", None),
            ("bytes=-", None),
            ("bytes=0-1,4-5", None),
            ("lines=0-1", None),
            ("bytes=a-b", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), None);
    }

    #[tokio::test]
    async fn an_image_is_served_while_it_is_shown_whole_and_in_parts() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("small.iso");
        std::fs::write(&image, "0123456789").expect("written");
        let medium = Medium { image, sha256: Sha256::of(b"0123456789"), bytes: 10 };
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A port that was free a moment ago: the address must be known before anybody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let server = MediaServer::at(free.expect("a port"));
        let address = server.show(&medium).await.expect("it listens");
        assert_eq!(address, server.address(&medium).expect("an address"));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let whole = http.get(address.clone()).send().await.expect("an answer");
        assert_eq!(whole.headers()["accept-ranges"], "bytes");
        assert_eq!(whole.text().await.expect("text"), "0123456789");
        let asked = |range| http.get(address.clone()).header("Range", range).send();
        let part = asked("bytes=2-4").await.expect("an answer");
        assert_eq!(
            (part.status().as_u16(), &part.headers()["content-range"]),
            (206, &header::HeaderValue::from_static("bytes 2-4/10"))
        );
        assert_eq!(part.text().await.expect("text"), "234");
        assert_eq!(asked("bytes=10-").await.expect("an answer").status().as_u16(), 416);
        let head = http.head(address.clone()).send().await.expect("an answer");
        assert_eq!(head.headers()["content-length"], "10");
        let other = address.join("../0/medium.iso").expect("an address");
        assert_eq!(http.get(other).send().await.expect("an answer").status().as_u16(), 404);
        server.hide(&medium);
        assert_eq!(http.get(address).send().await.expect("an answer").status().as_u16(), 404);
    }
}
