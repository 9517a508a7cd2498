//! A small control plane for tests: real TLS, real HTTP, answers from memory, and faults on demand.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use assay_api::Problem;
use assay_api::agent::{
    Ack, Checkpoint, Command, Heartbeat, HeartbeatAck, Hello, LogChunk, PostMortem, ResultAck, Sensors,
    StageResult, Welcome,
};
use assay_model::{Micros, Sha256};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// The server's time, always.
pub(crate) const SERVER_TIME: Micros = Micros::seconds(1_900_000_000);

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What happens to a request instead of the right thing.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status and code; nothing is taken.
    Refuse(u16, &'static str),
    /// The connection breaks before anything is read.
    Break,
    /// It is taken, and then the connection breaks without an answer.
    TakeAndBreak,
}

/// What the control plane saw and says.
#[derive(Default, Debug)]
pub(crate) struct State {
    pub(crate) command: Option<Command>,
    /// By path's last part: the next requests meet these, one each.
    pub(crate) faults: BTreeMap<&'static str, Vec<Fault>>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) polls: usize,
    pub(crate) beats: Vec<Heartbeat>,
    pub(crate) post_mortems: Vec<PostMortem>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) sensors: Vec<Sensors>,
    pub(crate) logs: Vec<LogChunk>,
    /// Query and body.
    pub(crate) artifacts: Vec<(String, Vec<u8>)>,
    pub(crate) results: Vec<StageResult>,
    pub(crate) offs: usize,
    /// Artifacts, results and `off` in the order in which they were taken.
    pub(crate) order: Vec<String>,
    pub(crate) unauthorised: usize,
    pub(crate) failed_handshakes: usize,
}

impl State {
    pub(crate) fn fault(&mut self, path: &'static str, faults: &[Fault]) {
        self.faults.entry(path).or_default().extend_from_slice(faults);
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.logs.iter().flat_map(|chunk| &chunk.lines).map(|line| line.text.as_str()).collect()
    }
}

/// The certificate and key that a control plane shows.
pub(crate) struct Shown {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Shown {
    /// Valid in these years only.
    pub(crate) fn valid(from: i32, until: i32) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["not-the-address.example".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).expect("signed").der().clone();
        Self { certificate, key }
    }

    pub(crate) fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.certificate)
    }

    /// This certificate, shown by someone who has another key.
    pub(crate) fn stolen(&self) -> Self {
        Self { certificate: self.certificate.clone(), key: KeyPair::generate().expect("a key") }
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A running control plane; stops when dropped.
pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: Sha256,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::showing(Shown::valid(1970, 1971)).await
    }

    pub(crate) async fn showing(shown: Shown) -> Self {
        let key = PrivateKeyDer::try_from(shown.key.serialize_der()).expect("a key");
        let key = ring::sign::any_supported_type(&key).expect("a signing key");
        let fingerprint = shown.fingerprint();
        // Not through the builder: it would refuse a key that does not belong to the certificate.
        let certified = Always(Arc::new(CertifiedKey::new(vec![shown.certificate], key)));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certified));
        let shared = Arc::new(Shared { state: Mutex::default(), changed: watch::Sender::new(0) });
        let mut plane = Self {
            address: ([127, 0, 0, 1], 0).into(),
            fingerprint,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shared,
            tasks: JoinSet::new(),
        };
        plane.resume().await;
        plane
    }

    /// Refuses connections, and breaks those that are open.
    pub(crate) async fn pause(&mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is free");
        self.address = listener.local_addr().expect("bound");
        let (acceptor, shared) = (self.acceptor.clone(), Arc::clone(&self.shared));
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
            }
        });
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no test panicked with it")
    }

    pub(crate) fn command(&self, command: Command) {
        self.state().command = Some(command);
        self.shared.tell();
    }

    /// Waits until what was seen is as wanted.
    pub(crate) async fn until(&self, what: &str, mut wanted: impl FnMut(&State) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let seen = timeout(PATIENCE, async {
            while !wanted(&self.state()) {
                changed.changed().await.expect("the plane runs");
            }
        });
        if seen.await.is_err() {
            let state = self.state();
            let (order, beat, lines) = (&state.order, state.beats.last(), state.lines());
            panic!("never came: {what}\n{order:#?}\n{beat:#?}\n{lines:#?}");
        }
    }
}

impl Shared {
    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn serve(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        shared.state.lock().expect("fine").failed_handshakes += 1;
        shared.tell();
        return;
    };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { answer(&shared, request).await.ok_or("broken on purpose") }
    });
    // Breaking a connection is among the tests.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let what = path.strip_prefix("/agent/v1/").expect("the protocol's place").to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let bearer =
        request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let fault = {
        let mut state = shared.state.lock().expect("fine");
        state.faults.get_mut(what.as_str()).filter(|left| !left.is_empty()).map(|left| left.remove(0))
    };
    match fault {
        Some(Fault::Break) => {
            shared.tell();
            return None;
        }
        Some(Fault::Refuse(status, code)) => {
            let _ = request.into_body().collect().await;
            shared.tell();
            return Some(refuse(status, code));
        }
        Some(Fault::TakeAndBreak) | None => {}
    }
    let body = request.into_body().collect().await.ok()?.to_bytes();
    let response = take(shared, &what, query, bearer, &body).await;
    shared.tell();
    fault.is_none().then_some(response)
}

async fn take(
    shared: &Shared,
    what: &str,
    query: String,
    bearer: Option<String>,
    body: &Bytes,
) -> Response<Full<Bytes>> {
    if what != "hello" {
        let mut state = shared.state.lock().expect("fine");
        let good = state.hellos.last().map(|hello| format!("Bearer {}", hello.credential));
        if good.is_none() || good != bearer {
            state.unauthorised += 1;
            return refuse(401, "unauthorized");
        }
    }
    if what == "next" {
        let wait_s = query.strip_prefix("wait_s=").and_then(|text| text.parse().ok()).expect("how long");
        return json(&next(shared, Duration::from_secs(wait_s)).await);
    }
    let mut state = shared.state.lock().expect("fine");
    match what {
        "hello" => {
            let hello: Hello = parse(body);
            if state.hellos.first().is_some_and(|first| first.credential != hello.credential) {
                return refuse(409, "token_reused");
            }
            state.hellos.push(hello);
            json(&welcome())
        }
        "heartbeat" => {
            state.beats.push(parse(body));
            json(&HeartbeatAck { server_time: SERVER_TIME })
        }
        "sensor" => {
            let sensors: Sensors = parse(body);
            let seq = sensors.seq;
            // As the real one: the same number again is the same batch again.
            if !state.sensors.iter().any(|known| known.seq == seq) {
                state.sensors.push(sensors);
            }
            json(&Ack { seq })
        }
        "log" => {
            let chunk: LogChunk = parse(body);
            let seq = chunk.seq;
            if !state.logs.iter().any(|known| known.seq == seq) {
                state.logs.push(chunk);
            }
            json(&Ack { seq })
        }
        "artifact" => {
            let name = query.split("name=").nth(1).and_then(|rest| rest.split('&').next()).expect("a name");
            state.order.push(format!("artifact {name}"));
            state.artifacts.push((query, body.to_vec()));
            json(&Ack { seq: 0 })
        }
        "result" => {
            let result: StageResult = parse(body);
            state.order.push(format!("result {} {}", result.stage, result.attempt));
            state.results.push(result);
            json(&ResultAck { late: false })
        }
        "post-mortem" => {
            state.post_mortems.push(parse(body));
            Response::builder().status(204).body(Full::default()).expect("a response")
        }
        "checkpoint" => {
            state.checkpoints.push(parse(body));
            Response::builder().status(204).body(Full::default()).expect("a response")
        }
        "off" => {
            state.offs += 1;
            state.order.push("off".to_owned());
            Response::builder().status(204).body(Full::default()).expect("a response")
        }
        other => panic!("the protocol has no {other}"),
    }
}

/// A long poll that ends at the first news.
async fn next(shared: &Shared, wait: Duration) -> Command {
    let mut changed = shared.changed.subscribe();
    shared.state.lock().expect("fine").polls += 1;
    let command = || {
        let state = shared.state.lock().expect("fine");
        state.command.clone().filter(|command| *command != Command::Wait)
    };
    let waiting = async {
        loop {
            if let Some(command) = command() {
                return command;
            }
            changed.changed().await.expect("the plane runs");
        }
    };
    timeout(wait, waiting).await.unwrap_or(Command::Wait)
}

fn welcome() -> Welcome {
    Welcome {
        run: "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id"),
        number: 12,
        host: "web-3".to_owned(),
        boot: 1,
        generation: 7,
        server_time: SERVER_TIME,
        heartbeat_s: 2,
        sensor_s: 1,
        spec: serde_json::json!({"format": 1}),
        verify_key: String::new(),
    }
}

fn parse<T: DeserializeOwned + Debug>(body: &Bytes) -> T {
    serde_json::from_slice(body).expect("what the protocol says")
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    Response::new(Full::from(serde_json::to_vec(value).expect("plain data")))
}

fn refuse(status: u16, code: &str) -> Response<Full<Bytes>> {
    let problem =
        Problem { code: code.to_owned(), message: "because the test says so".to_owned(), hint: None };
    let mut response = json(&problem);
    *response.status_mut() = status.try_into().expect("a status");
    response
}
