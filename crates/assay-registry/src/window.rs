//! What a run's daemon sees of the cache: the images that it was shown, to be read.
//!
//! The containers of a recipe under test reach whatever their daemon reaches. So it is not the store's socket that is put into
//! their network but this: two kinds of requests, and only for digests that the run needs. Nothing can be written, listed or
//! asked of a registry from in there.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::bring::Brought;
use crate::store::Store;

/// Connections at once; a daemon uses a handful.
const CONNECTIONS: usize = 64;

type Body = BoxBody<Bytes, hyper::Error>;

/// A window; dropping it closes it with every connection.
#[derive(Debug)]
pub struct Window {
    shown: Arc<Mutex<HashSet<String>>>,
    serving: JoinHandle<()>,
}

impl Drop for Window {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Window {
    pub(crate) fn open(listener: TcpListener, store: Arc<Store>) -> Self {
        let shown = Arc::default();
        let serving = tokio::spawn(serve(listener, store, Arc::clone(&shown)));
        Self { shown, serving }
    }

    /// Shows an image.
    pub fn show(&self, image: &Brought) {
        let repository = &image.repository;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.insert(format!("/v2/{repository}/manifests/{}", image.manifest));
        shown.extend(image.parts.iter().map(|part| format!("/v2/{repository}/blobs/{part}")));
    }
}

async fn serve(listener: TcpListener, store: Arc<Store>, shown: Arc<Mutex<HashSet<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let (stream, peer): (_, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // The daemon's network is gone, or there are no descriptors left; either way its pulls say so.
                tracing::warn!(%error, "the window into the cache of images closes");
                return;
            }
        };
        let (store, shown) = (Arc::clone(&store), Arc::clone(&shown));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (store, shown) = (Arc::clone(&store), Arc::clone(&shown));
                async move { Ok::<_, Infallible>(answer(request, &store, &shown).await) }
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%peer, %error, "a connection at the window into the cache ended");
            }
        });
    }
}

async fn answer(request: Request<Incoming>, store: &Store, shown: &Mutex<HashSet<String>>) -> Response<Body> {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            r#"{"errors":[{"code":"UNSUPPORTED","message":"this is to be read"}]}"#,
        );
    }
    if path == "/v2/" {
        return plain(StatusCode::OK, "{}");
    }
    let is_shown = shown.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
    if !is_shown {
        let body = r#"{"errors":[{"code":"DENIED","message":"this run was not shown this"}]}"#;
        return plain(StatusCode::NOT_FOUND, body);
    }
    pass_on(&request, store).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the store behind the window into the cache did not answer");
        plain(
            StatusCode::BAD_GATEWAY,
            r#"{"errors":[{"code":"UNKNOWN","message":"the store does not answer"}]}"#,
        )
    })
}

async fn pass_on(request: &Request<Incoming>, store: &Store) -> io::Result<Response<Body>> {
    let stream = UnixStream::connect(store.socket()).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // Its error is the request's as well.
        let _ = connection.await;
    });
    let mut passed =
        Request::builder().method(request.method()).uri(request.uri().path()).header(header::HOST, "store");
    for name in [header::ACCEPT, header::RANGE] {
        for value in request.headers().get_all(&name) {
            passed = passed.header(&name, value);
        }
    }
    let passed = passed.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let response = sender.send_request(passed).await.map_err(io::Error::other)?;
    Ok(response.map(BodyExt::boxed))
}

fn plain(status: StatusCode, body: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert("docker-distribution-api-version", header::HeaderValue::from_static("registry/2.0"));
    response
}
