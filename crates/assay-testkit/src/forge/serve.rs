//! Connections: who asks, what goes wrong, and the record of it.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::answer::Answer;
use super::fault::{Asked, Fault};
use super::routes::Ask;
use super::world::{Scope, World};
use super::{Dialect, Shared, git};

/// Ends a connection without an answer.
#[derive(Debug)]
struct Severed;

impl std::fmt::Display for Severed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Severed {}

pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            // Clients go away, and some answers are withheld on purpose.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Severed> {
    let answered = answer(&shared, request).await;
    shared.served.send_modify(|count| *count += 1);
    answered
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Severed> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Severed)?.to_bytes();
    let full = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let dialect = shared.world().dialect;
    if full.contains(".git/") {
        let answer = git::serve(shared, &head, &body).await;
        let mut world = shared.world();
        let login =
            git::token(&head).and_then(|token| world.tokens.get(&token)).map(|token| token.login.clone());
        let (method, status) = (head.method.to_string(), Some(answer.status));
        world.asked.push(Asked { method, path: full, status, login, at });
        drop(world);
        return Ok(respond(answer, &mut shared.world()));
    }
    let path = match dialect {
        Dialect::Forgejo => full.strip_prefix("/api/v1"),
        Dialect::GitHub => Some(full.strip_prefix("/api/v3").unwrap_or(&full)),
    };
    let path = path.unwrap_or(&full).to_owned();
    let token = head.headers.get("authorization").and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        matches!(scheme.to_ascii_lowercase().as_str(), "token" | "bearer").then(|| token.to_owned())
    });
    let method = head.method.as_str().to_owned();
    let mut let_go = shared.let_go.subscribe();
    let mut asked = Asked { method: method.clone(), path: path.clone(), status: None, login: None, at };
    let (fault, answer) = {
        let mut world = shared.world();
        asked.login =
            token.as_ref().and_then(|token| world.tokens.get(token)).map(|token| token.login.clone());
        let fault = world.strike(&method, &path);
        let answer = match &fault {
            Some(Fault::Answer { status, headers, body }) => {
                Answer { status: *status, headers: headers.clone(), body: body.clone().into_bytes() }
            }
            Some(Fault::Hang | Fault::Cut) => Answer::empty(500),
            Some(Fault::HangAfter | Fault::CutAfter | Fault::Slow) | None => {
                let etag = head.headers.get("if-none-match").and_then(|value| value.to_str().ok());
                let ask = Ask { method: &method, path: &path, token: token.as_deref(), body: &body };
                world.limited(&ask).unwrap_or_else(|| {
                    let answer = world.answer(&ask);
                    world.tagged(answer, &method, etag)
                })
            }
        };
        if !matches!(fault, Some(Fault::Hang | Fault::HangAfter | Fault::Cut | Fault::CutAfter)) {
            asked.status = Some(answer.status);
        }
        world.asked.push(asked);
        (fault, answer)
    };
    match fault {
        Some(Fault::Hang | Fault::HangAfter) => std::future::pending().await,
        Some(Fault::Slow) => {
            shared.served.send_modify(|count| *count += 1);
            let_go.changed().await.map_err(|_| Severed)?;
            Ok(respond(answer, &mut shared.world()))
        }
        Some(Fault::Cut | Fault::CutAfter) => Err(Severed),
        _ => Ok(respond(answer, &mut shared.world())),
    }
}

impl World {
    /// Says no where too much was asked; GitHub has its own way.
    fn limited(&mut self, ask: &Ask<'_>) -> Option<Answer> {
        let now = self.now;
        let dialect = self.dialect;
        ask.token?;
        let window = self.rate.as_mut()?;
        if now >= window.resets_at {
            window.remaining = window.limit;
            window.resets_at = now.plus(assay_model::Micros::seconds(3600));
        }
        if window.remaining > 0 {
            window.remaining -= 1;
            return None;
        }
        let wait = window.resets_at.since(now).0 / 1_000_000;
        Some(match dialect {
            Dialect::GitHub => Answer::refused(403, "API rate limit exceeded for user ID 1."),
            Dialect::Forgejo => Answer::refused(429, "Too Many Requests").header("retry-after", &wait),
        })
    }

    /// GitHub's tags: what is unchanged costs nothing.
    fn tagged(&mut self, answer: Answer, method: &str, known: Option<&str>) -> Answer {
        if self.dialect != Dialect::GitHub || method != "GET" || answer.status != 200 {
            return answer;
        }
        let tag = format!("W/\"{}\"", assay_model::Sha256::of(&answer.body));
        if known != Some(tag.as_str()) {
            return answer.header("etag", &tag);
        }
        if let Some(window) = &mut self.rate {
            window.remaining += 1;
        }
        Answer::empty(304).header("etag", &tag)
    }

    /// What a token lets its owner do, or why not.
    pub(super) fn allow(&self, token: Option<&str>, scope: Scope) -> Result<String, Answer> {
        let Some(token) = token else {
            return Err(Answer::refused(401, "token is required"));
        };
        let Some(known) = self.tokens.get(token) else {
            return Err(Answer::refused(401, "Bad credentials"));
        };
        let has = known.scopes.iter().any(|has| {
            *has == scope
                || (scope == Scope::ReadIssue && *has == Scope::WriteIssue)
                || (scope == Scope::ReadRepository && *has == Scope::WriteRepository)
        });
        if has {
            Ok(known.login.clone())
        } else {
            Err(Answer::refused(
                403,
                &format!("token does not have at least one of required scope(s): {scope:?}"),
            ))
        }
    }
}

fn respond(answer: Answer, world: &mut World) -> Response<Full<Bytes>> {
    let seconds = world.now.0.div_euclid(1_000_000);
    let date = DateTime::<Utc>::from_timestamp(seconds, 0).expect("a time");
    let mut response = Response::builder()
        .status(answer.status)
        .header("date", date.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if let (Dialect::GitHub, Some(window)) = (world.dialect, &world.rate) {
        response = response
            .header("x-ratelimit-limit", window.limit)
            .header("x-ratelimit-remaining", window.remaining)
            .header("x-ratelimit-reset", window.resets_at.0.div_euclid(1_000_000));
    }
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(answer.body))).expect("a status and headers")
}
