//! The app's web face: what stands before an app in production, with the run's own certificate.
//!
//! Recipes expect a proxy (traefik) that ends TLS, knows them by their domain and says in headers what was asked. This is one, in
//! the network of the run's daemon, for tests, hooks, browsers and containers that run there. It serves one app at a time, under the
//! run's domain, and the app's dependencies under names below it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_swarm::Reach;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// The port of HTTPS.
const HTTPS: u16 = 443;
/// How long connecting to the app may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The most that is read of a page that is asked for here, in bytes.
const PAGE: usize = 1 << 20;
/// Said to one connection alone, so they are not passed on.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

type Body = BoxBody<Bytes, hyper::Error>;

/// The proxy of a run.
pub(super) struct Front {
    domain: String,
    reach: Reach,
    /// Who answers under which name, as far as that is known: the app under the domain, dependencies below it.
    hosts: Mutex<BTreeMap<String, Behind>>,
    /// The certificate of the authority that signed the app's.
    pub(super) ca_file: PathBuf,
    /// The port of HTTPS.
    port: u16,
    listening: Mutex<Vec<AbortHandle>>,
}

/// Which ports the proxy takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// Those of HTTP and HTTPS: the network is the run's, or containers know no others.
    Usual,
    /// The same where they can be had, or any: somebody else may have them.
    OrAny,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// A port in the daemon's network.
    Port(SocketAddr),
    /// A socket of this machine's: a provider of the runner's.
    Socket(PathBuf),
}

/// A connection to whoever answers.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A page, as the app gave it.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.close();
    }
}

impl Front {
    /// Listens in the daemon's network, on the ports of HTTP and HTTPS.
    pub(super) async fn start(
        reach: Reach,
        ports: Ports,
        domain: &str,
        folder: &Path,
    ) -> Result<Arc<Self>, String> {
        let (acceptor, authority) =
            certificate(domain).map_err(|error| format!("making a certificate: {error}"))?;
        let ca_file = folder.join("ca.pem");
        std::fs::write(&ca_file, authority).map_err(|error| format!("{}: {error}", ca_file.display()))?;
        let (plain, encrypted) = (listen(&reach, 80, ports).await?, listen(&reach, HTTPS, ports).await?);
        let port = encrypted.local_addr().map_err(|error| format!("listening: {error}"))?.port();
        let front = Arc::new(Self {
            domain: domain.to_owned(),
            reach,
            hosts: Mutex::default(),
            ca_file,
            port,
            listening: Mutex::default(),
        });
        for (listener, acceptor) in [(plain, None), (encrypted, Some(acceptor))] {
            let serving = tokio::spawn(serve(Arc::downgrade(&front), listener, acceptor));
            lock(&front.listening).push(serving.abort_handle());
        }
        Ok(front)
    }

    /// The domain, with the port where it is not that of HTTPS: what stands after `https://`.
    pub(super) fn authority(&self) -> String {
        match self.port {
            HTTPS => self.domain.clone(),
            port => format!("{}:{port}", self.domain),
        }
    }

    /// The port of HTTPS.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// From now on the app answers there.
    pub(super) fn set_app(&self, address: Option<SocketAddr>) {
        self.set_host(&self.domain, address.map(Behind::Port));
    }

    /// From now on somebody answers under a name.
    pub(super) fn set_host(&self, host: &str, behind: Option<Behind>) {
        let mut hosts = lock(&self.hosts);
        match behind {
            Some(behind) => hosts.insert(host.to_owned(), behind),
            None => hosts.remove(host),
        };
    }

    /// Nobody is served any more.
    pub(super) fn close(&self) {
        for serving in lock(&self.listening).drain(..) {
            serving.abort();
        }
    }

    /// Asks the app for a page, as if it had come over HTTPS.
    ///
    /// # Errors
    /// Why there is no answer, for people.
    pub(super) async fn ask(&self, path: &str, limit: Duration) -> Result<Page, String> {
        self.ask_at(&self.domain, path, limit).await
    }

    /// As [`Front::ask`], of whoever has this name.
    ///
    /// # Errors
    /// Why there is no answer, for people.
    pub(super) async fn ask_at(&self, host: &str, path: &str, limit: Duration) -> Result<Page, String> {
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, "assay")
            .body(Empty::<Bytes>::new().map_err(|never| match never {}).boxed())
            .map_err(|error| format!("`{path}` is no path: {error}"))?;
        let asked = async {
            let response = self.forward(request, "https").await?;
            let status = response.status().as_u16();
            let content_type = response.headers().get(header::CONTENT_TYPE);
            let content_type =
                content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let body = Limited::new(response.into_body(), PAGE).collect().await;
            let body = body.map_err(|error| format!("its answer broke off: {error}"))?.to_bytes().to_vec();
            Ok(Page { status, content_type, body })
        };
        let seconds = limit.as_secs_f64();
        tokio::time::timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {seconds:.0} s")))
    }

    /// Passes a request on to whom it names.
    async fn forward(
        &self,
        mut request: Request<Body>,
        scheme: &'static str,
    ) -> Result<Response<Body>, String> {
        let name = host_of(&request);
        let behind = lock(&self.hosts).get(&name).cloned();
        let behind = match behind {
            Some(behind) => behind,
            None if name == self.domain => return Err("nothing is deployed that would answer".to_owned()),
            None => return Ok(self.unknown(&name)),
        };
        let wants_upgrade = request.headers().contains_key(header::UPGRADE);
        let host = request.headers().get(header::HOST).cloned();
        let headers = request.headers_mut();
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        if wants_upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
        let own = HeaderValue::from_str(&self.reach.address().to_string());
        headers.insert("x-forwarded-for", own.map_err(|error| error.to_string())?);
        if let Some(host) = host {
            headers.insert("x-forwarded-host", host);
        }
        let upgraded = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let who = if name == self.domain { "the app" } else { name.as_str() };
        let place = match &behind {
            Behind::Port(address) => format!("port {} of {who}", address.port()),
            Behind::Socket(_) => who.to_owned(),
        };
        let told = |error: &dyn std::fmt::Display| format!("{place}: {error}");
        let stream: Box<dyn Stream> = match behind {
            Behind::Port(address) => {
                Box::new(self.reach.connect(address, CONNECT).await.map_err(|error| told(&error))?)
            }
            Behind::Socket(path) => Box::new(UnixStream::connect(path).await.map_err(|error| told(&error))?),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| told(&error))?;
        // It ends with the last of its bodies.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await;
        let mut response = response.map_err(|error| told(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(upgraded) = upgraded
        {
            let theirs = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                if let (Ok(ours), Ok(theirs)) = (upgraded.await, theirs.await) {
                    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                    // Either side may end it, in any way that it likes.
                    let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
                }
            });
            return Ok(response.map(BodyExt::boxed));
        }
        for name in HOP_BY_HOP {
            response.headers_mut().remove(name);
        }
        Ok(response.map(BodyExt::boxed))
    }

    /// What a client is told.
    async fn answer(&self, request: Request<Incoming>, scheme: &'static str) -> Response<Body> {
        match self.forward(request.map(BodyExt::boxed), scheme).await {
            Ok(response) => response,
            Err(why) => said(StatusCode::BAD_GATEWAY, &why),
        }
    }

    fn unknown(&self, name: &str) -> Response<Body> {
        let mut known: Vec<String> = lock(&self.hosts).keys().cloned().collect();
        if !known.contains(&self.domain) {
            known.push(self.domain.clone());
        }
        let name = assay_model::text::clean_to(name, 100);
        said(
            StatusCode::NOT_FOUND,
            &format!("nobody is called `{name}` here; there are {}", known.join(", ")),
        )
    }
}

async fn listen(reach: &Reach, port: u16, ports: Ports) -> Result<TcpListener, String> {
    use std::io::ErrorKind::{AddrInUse, PermissionDenied};
    let listened = match reach.listen(port).await {
        Err(error) if ports == Ports::OrAny && [AddrInUse, PermissionDenied].contains(&error.kind()) => {
            reach.listen(0).await
        }
        listened => listened,
    };
    listened.map_err(|error| format!("listening at {}:{port}: {error}", reach.address()))
}

/// An answer of the proxy's own.
fn said(status: StatusCode, words: &str) -> Response<Body> {
    let text = Full::new(Bytes::from(format!("Assay's proxy: {words}\n")));
    let mut response = Response::new(text.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// Whom a request is for: its host without the port, in small letters.
fn host_of<B>(request: &Request<B>) -> String {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = header.or_else(|| request.uri().host()).unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    host.to_ascii_lowercase()
}

async fn serve(front: std::sync::Weak<Front>, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    // A connection that could not be taken is its client's trouble.
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Some(front) = front.upgrade() else { return };
        match acceptor.clone() {
            None => {
                tokio::spawn(talk(front, stream, "http"));
            }
            Some(acceptor) => {
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        talk(front, stream, "https").await;
                    }
                });
            }
        }
    }
}

async fn talk<S>(front: Arc<Front>, stream: S, scheme: &'static str)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(front.answer(request, scheme).await) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client may leave when it likes.
    let _ = served.with_upgrades().await;
}

/// An authority of the run's own, and a certificate for the domain and all below it.
fn certificate(domain: &str) -> Result<(TlsAcceptor, String), String> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let told = |error: rcgen::Error| error.to_string();
    let authority_key = KeyPair::generate().map_err(told)?;
    let mut authority = CertificateParams::new(Vec::new()).map_err(told)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "Assay, for one run");
    let authority_certificate = authority.self_signed(&authority_key).map_err(told)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().map_err(told)?;
    let names = vec![domain.to_owned(), format!("*.{domain}")];
    let leaf = CertificateParams::new(names).map_err(told)?.signed_by(&key, &issuer).map_err(told)?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .map_err(|error| error.to_string())?;
    Ok((TlsAcceptor::from(Arc::new(config)), authority_certificate.pem()))
}

/// Where an app answers.
pub(super) fn address(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_its_host_without_the_port_and_in_small_letters() {
        for (host, name) in [
            ("app.test", "app.test"),
            ("SSO.App.Test:443", "sso.app.test"),
            ("10.77.0.1:80", "10.77.0.1"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            let request = Request::get("/").header(header::HOST, host).body(()).unwrap();
            assert_eq!(host_of(&request), name, "{host}");
        }
        let request = Request::get("http://sso.app.test:8080/x").body(()).unwrap();
        assert_eq!(host_of(&request), "sso.app.test");
    }
}
