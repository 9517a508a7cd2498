//! A Proxmox VE cluster's API: real TLS with a certificate of its own, and one member that is up or is not.
//!
//! It answers the two questions that the server's guard asks, to whoever brings its token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use assay_model::Sha256;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Listens until it is dropped.
pub struct ProxmoxCluster {
    address: SocketAddr,
    fingerprint: String,
    member: Arc<Member>,
    _listening: JoinSet<()>,
}

struct Member {
    node: String,
    is_online: AtomicBool,
    asked: AtomicUsize,
}

impl ProxmoxCluster {
    /// The API token that is let in.
    pub const TOKEN: &str = "assay@pve!guard=11111111-2222-3333-4444-555555555555";

    /// A cluster of `pve1`, which answers, and this node, which is off.
    pub async fn start(node: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["pve1".to_owned()]).expect("a certificate");
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let fingerprint = Sha256::of(&certificate).to_string();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the certificate fits its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a local port");
        let address = listener.local_addr().expect("bound");
        let member = Arc::new(Member {
            node: node.to_owned(),
            is_online: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        });
        let told = Arc::clone(&member);
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, member) = (acceptor.clone(), Arc::clone(&told));
                connections.spawn(async move {
                    // A client that does not like the certificate goes away.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(async |request| answer(&member, &request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, fingerprint, member, _listening: listening }
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// SHA-256 of its certificate, in hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Says from now on whether the node is up.
    pub fn set_online(&self, is_online: bool) {
        self.member.is_online.store(is_online, Ordering::SeqCst);
    }

    /// How often somebody with the token has asked for its members.
    pub fn asked(&self) -> usize {
        self.member.asked.load(Ordering::SeqCst)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a service")]
fn answer(member: &Member, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if token != Some(&format!("PVEAPIToken={}", ProxmoxCluster::TOKEN)) {
        return Ok(said(StatusCode::UNAUTHORIZED, &Value::Null));
    }
    let is_online = member.is_online.load(Ordering::SeqCst);
    Ok(match request.uri().path() {
        "/api2/json/cluster/status" => {
            member.asked.fetch_add(1, Ordering::SeqCst);
            said(
                StatusCode::OK,
                &json!({ "data": [
                    { "type": "cluster", "name": "c", "quorate": 1, "nodes": 2 },
                    { "type": "node", "name": "pve1", "online": 1, "local": 1 },
                    { "type": "node", "name": member.node, "online": u8::from(is_online), "local": 0 },
                ]}),
            )
        }
        "/api2/json/nodes" => said(
            StatusCode::OK,
            &json!({ "data": [
                { "node": "pve1", "status": "online" },
                { "node": member.node, "status": if is_online { "online" } else { "offline" } },
            ]}),
        ),
        _ => said(StatusCode::NOT_FOUND, &Value::Null),
    })
}

fn said(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(status).body(body).expect("a status and a body")
}
