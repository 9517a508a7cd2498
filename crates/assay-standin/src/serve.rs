//! Connections and requests: accepting, limits, faults, and the record of each request.
//!
//! What a request does runs in a task of its own. A client that goes away in the middle of a push must not take the record
//! of that push with it, because that is the orphan that this crate is there to find.

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use assay_model::Micros;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Response,
    body::{Body as _, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Effect, Event, Request, RouteClass, Trouble, TroubleKind, Who,
    api::{self, Asked, Body},
    reply::{Answer, Reply, Severed},
    route::{Ask, Route, Service},
    socket::{Reset, Socket},
    state::State,
};

/// After a failed accept (out of file descriptors, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MOST_HEADERS: usize = 100;
const MOST_PATH: usize = 1024;
const MOST_AGENT: usize = 256;
/// Of a body that is too large, this many times its limit is read and thrown away, so that the client reads the answer.
const PATIENCE: u64 = 4;

/// A place that connections come from.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Socket::tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Socket::unix(stream)),
        }
    }
}

/// Accepts connections until the stand-in is stopped.
pub(crate) async fn listen(state: Arc<State>, listener: Listener, tls: bool) {
    loop {
        let accepted = tokio::select! {
            () = state.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                let shared = Arc::clone(&state);
                state.tasks.spawn(async move {
                    let stop = shared.stop.clone();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(shared, socket, tls) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the stand-in could not accept a connection and tries again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(state: Arc<State>, socket: Socket, tls: bool) {
    let Ok(_place) = state.connections.try_acquire() else {
        let detail = format!("{} connections are open", state.config.limits.connections);
        state.trouble(TroubleKind::TooManyConnections, None, detail, tls);
        return;
    };
    let reset = socket.reset();
    if !tls {
        return serve(&state, socket, reset, false).await;
    }
    let Some(own) = &state.tls else {
        return; // A listener with TLS is only made with certificates.
    };
    let struck = state.faults.at_handshake();
    let wrong = match struck {
        Some((_, Effect::WrongCertificate { certificate })) => Some(certificate),
        _ => None,
    };
    if let Some(struck) = struck {
        state.struck(struck, RouteClass::Any, 0);
    }
    let acceptor = TlsAcceptor::from(own.config(wrong));
    match timeout(state.config.limits.header_time(), acceptor.accept(socket)).await {
        Ok(Ok(stream)) => serve(&state, stream, reset, true).await,
        Ok(Err(error)) => state.trouble(TroubleKind::TlsRefused, None, error.to_string(), true),
        Err(_) => state.trouble(TroubleKind::TooSlow, None, "no handshake in time".into(), true),
    }
}

async fn serve(state: &Arc<State>, stream: impl AsyncRead + AsyncWrite + Unpin, reset: Reset, tls: bool) {
    let limits = &state.config.limits;
    let requests = AtomicU64::new(0);
    let service = service_fn(|request| {
        requests.fetch_add(1, Ordering::Relaxed);
        handle(Arc::clone(state), request, reset.clone(), tls)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time())
        .max_headers(MOST_HEADERS)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    let silent = requests.load(Ordering::Relaxed) == 0;
    let (kind, answered) = match &served {
        Err(error) if error.is_parse_too_large() => (TroubleKind::HeadersTooLarge, Some(431)),
        Err(error) if error.is_parse() => (TroubleKind::NotHttp, Some(400)),
        // A connection that was used and then idle for too long is no trouble.
        Err(error) if error.is_timeout() && silent => (TroubleKind::TooSlow, None),
        _ if silent => (TroubleKind::NoRequest, None),
        // An answer that was withheld, and a client that went away, are in the ledger as requests.
        _ => return,
    };
    let detail = match served {
        Err(error) => error.to_string(),
        Ok(()) => "the connection was closed".to_owned(),
    };
    state.trouble(kind, answered, detail, tls);
}

/// A request that is under way. It is recorded when this is dropped, however that comes about.
struct Ticket {
    state: Arc<State>,
    began: Instant,
    record: Option<Request>,
}

impl Ticket {
    fn new(
        state: &Arc<State>,
        request: &hyper::Request<Incoming>,
        route: &Route,
        who: Who,
        tls: bool,
    ) -> Self {
        let mut scrub = state.tokens.scrub();
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.map(|agent| scrub.short(&String::from_utf8_lossy(agent.as_bytes()), MOST_AGENT));
        let record = Request {
            id: state.request_id(),
            at: state.now(),
            method: request.method().as_str().to_owned(),
            path: scrub.short(target, MOST_PATH),
            route: route.class,
            status: None,
            who,
            bytes_in: 0,
            bytes_out: 0,
            duration: Micros(0),
            user_agent: agent,
            tls,
            note: Some("the client went away, or the stand-in was stopped".into()),
        };
        Self { state: Arc::clone(state), began: Instant::now(), record: Some(record) }
    }

    fn id(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.id)
    }

    fn received(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.bytes_in = bytes;
        }
    }

    /// Ends it with an answer.
    fn answered(mut self, reply: Reply, cut: Option<u64>) -> Response<Answer> {
        if let Some(record) = &mut self.record {
            record.status = Some(reply.status);
            record.bytes_out = cut.unwrap_or(reply.len());
            record.note = match cut {
                Some(_) => Some("the answer was broken off".into()),
                None => reply.note.clone(),
            };
        }
        reply.into_response(cut)
    }

    /// Ends it without an answer.
    fn severed(mut self, why: &str) -> Severed {
        if let Some(record) = &mut self.record {
            record.note = Some(why.to_owned());
        }
        Severed
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.duration = Micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX));
            self.state.book.record(Event::Request(record));
        }
    }
}

async fn handle(
    state: Arc<State>,
    request: hyper::Request<Incoming>,
    reset: Reset,
    tls: bool,
) -> Result<Response<Answer>, Severed> {
    let config = &state.config;
    let uri = request.uri();
    let route =
        Route::of(request.method().as_str(), uri.path(), uri.query(), &config.owner, &config.repository);
    let who =
        state.tokens.judge(request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes));
    let mut ticket = Ticket::new(&state, &request, &route, who.clone(), tls);
    let public = config.public && route.class == RouteClass::GitRead && who == Who::Nobody;
    if !(who.is_accepted() || route.is_open() || public) {
        return Ok(ticket.answered(api::not_let_in(&state, route.dialect, &who), None));
    }

    let (head, incoming) = request.into_parts();
    let body = match receive(&state, &route, incoming).await {
        Ok(body) => body,
        Err(NoBody::Gone(bytes)) => {
            ticket.received(bytes);
            return Err(ticket.severed("the client went away before its request was complete"));
        }
        Err(NoBody::Refused(bytes, reply)) => {
            ticket.received(bytes);
            return Ok(ticket.answered(reply.header("connection", "close"), None));
        }
    };
    ticket.received(body.len());
    let asked = Asked {
        id: ticket.id(),
        at: state.now(),
        route,
        query: head.uri.query().map(str::to_owned),
        who,
        headers: head.headers,
        body,
        tls,
    };
    let shared = Arc::clone(&state);
    let job = state.tasks.spawn(async move {
        let stop = shared.stop.clone();
        tokio::select! {
            () = stop.cancelled() => Err(Severed),
            done = carry_out(shared, asked, ticket, reset) => done,
        }
    });
    // It does not panic; if it did, this connection would end and no other.
    job.await.unwrap_or(Err(Severed))
}

/// Lets faults strike, does the work in between, and ends the request.
async fn carry_out(
    state: Arc<State>,
    asked: Asked,
    ticket: Ticket,
    reset: Reset,
) -> Result<Response<Answer>, Severed> {
    let (class, dialect, id) = (asked.route.class, asked.route.dialect, asked.id);
    let crate::fault::Strikes { slow, other } = state.faults.before(class);
    for (fault, time) in slow {
        let seconds = time.as_secs_f64();
        state.struck((fault, Effect::Slow { seconds }), class, id);
        sleep(time).await;
    }
    if let Some(struck) = other {
        state.struck(struck, class, id);
    }
    match other.map(|(_, effect)| effect) {
        Some(Effect::Status { code }) => {
            let reply = api::told_to(&state, dialect, code).note("a fault answered");
            return Ok(ticket.answered(reply, None));
        }
        Some(Effect::DropAfterRequest) => return Err(ticket.severed("closed by a fault, not carried out")),
        Some(Effect::Reset) => {
            reset.ask();
            return Err(ticket.severed("reset by a fault, not carried out"));
        }
        _ => {}
    }
    let work = timeout(state.config.limits.request_time(), api::answer(&state, asked));
    let reply = work.await.unwrap_or_else(|_| {
        api::problem(&state, dialect, 503, "This took too long").note("limits.request_s was reached")
    });
    if reply.changed
        && let Some(struck) = state.faults.after(class)
    {
        state.struck(struck, class, id);
        return Err(ticket.severed("carried out, then closed by a fault"));
    }
    if let Some((_, Effect::TruncateBody)) = other {
        if reply.len() == 0 {
            return Err(ticket.severed("carried out; a fault withheld an answer without a body"));
        }
        let cut = reply.len() / 2;
        return Ok(ticket.answered(reply, Some(cut)));
    }
    Ok(ticket.answered(reply, None))
}

/// Why there is no body to work on, and how many bytes of it came.
enum NoBody {
    Gone(u64),
    Refused(u64, Reply),
}

/// Reads a body: what goes to Git into a file, anything else into memory.
async fn receive(state: &State, route: &Route, body: Incoming) -> Result<Body, NoBody> {
    let limits = &state.config.limits;
    let limit = match route.ask {
        Ask::GitCall(Service::ReceivePack) => limits.push_bytes,
        _ => limits.body_bytes,
    };
    let mut count = 0;
    let too_large = |count| {
        let message = format!("a body may have {limit} bytes here");
        NoBody::Refused(count, api::problem(state, route.dialect, 413, &message))
    };
    // Announced honestly, it need not be read.
    if body.size_hint().lower() > limit.saturating_mul(PATIENCE) {
        return Err(too_large(0));
    }
    let reading = read(state, route, body, limit, &mut count);
    match timeout(limits.request_time(), reading).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large(count)),
        Ok(Err(ReadError::Client)) => Err(NoBody::Gone(count)),
        Ok(Err(ReadError::Own(error))) => {
            let reply = api::problem(state, route.dialect, 500, "The stand-in could not take the body");
            Err(NoBody::Refused(count, reply.note(error.to_string())))
        }
        Err(_) => {
            let reply = api::problem(state, route.dialect, 408, "The body did not come in time");
            Err(NoBody::Refused(count, reply))
        }
    }
}

enum ReadError {
    Client,
    Own(io::Error),
}

async fn read(
    state: &State,
    route: &Route,
    mut body: Incoming,
    limit: u64,
    count: &mut u64,
) -> Result<Option<Body>, ReadError> {
    let mut file = match route.ask {
        Ask::GitCall(_) => {
            Some(state.repository.spool().map_err(|error| ReadError::Own(io::Error::other(error)))?)
        }
        _ => None,
    };
    let mut memory = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::Client)?.into_data() else {
            continue; // Trailers say nothing here.
        };
        *count += data.len() as u64;
        if *count > limit.saturating_mul(PATIENCE) {
            return Ok(None);
        }
        if *count > limit {
            memory = Vec::new();
            continue;
        }
        match &mut file {
            // Small writes to a temporary file; not worth a thread each.
            Some(file) => file.write_all(&data).map_err(ReadError::Own)?,
            None => memory.extend_from_slice(&data),
        }
    }
    if *count > limit {
        return Ok(None);
    }
    Ok(Some(match file {
        Some(file) => Body::File(file, *count),
        None => Body::Memory(Bytes::from(memory)),
    }))
}

impl State {
    fn trouble(&self, kind: TroubleKind, answered: Option<u16>, detail: String, tls: bool) {
        self.book.record(Event::Trouble(Trouble { at: self.now(), kind, answered, detail, tls }));
    }
}
