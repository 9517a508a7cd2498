//! A receiver of notifications: real HTTP on a local port, and a memory.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A notification as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The header `Idempotency-Key`.
    pub key: String,
    /// The kind of news.
    pub event: String,
    /// The whole body.
    pub body: Value,
}

/// Listens until it is dropped.
pub struct WebhookSink {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _listening: JoinSet<()>,
}

impl WebhookSink {
    /// A receiver on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a local port");
        let address = listener.local_addr().expect("bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let mut listening = JoinSet::new();
        let memory = Arc::clone(&received);
        listening.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let memory = Arc::clone(&memory);
                connections.spawn(async move {
                    let service = service_fn(move |request| take(Arc::clone(&memory), request));
                    // A server that was killed breaks its connection; what it sent before counts.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, received, _listening: listening }
    }

    /// Where notifications are to be sent.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Everything that arrived, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn take(
    memory: Arc<Mutex<Vec<Received>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let key =
        request.headers().get("idempotency-key").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let bytes = request.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let event = body["event"].as_str().unwrap_or_default().to_owned();
    memory.lock().unwrap_or_else(PoisonError::into_inner).push(Received { key, event, body });
    Ok(Response::new(Full::default()))
}
