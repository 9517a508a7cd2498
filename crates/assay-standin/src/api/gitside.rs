//! Git over HTTP: hands requests to the backend and records what they did.

use std::sync::atomic::Ordering;

use hyper::header;

use super::{Asked, Body};
use crate::{
    Outcome, StandInError, Who,
    git::{About, Call},
    reply::{Content, Reply},
    route::Service,
    state::State,
};

/// The answer to "which refs are there".
pub(super) async fn refs(state: &State, asked: &Asked, service: Service) -> Result<Reply, StandInError> {
    let call = Call { service, body: None, ..call_of(state, asked) };
    Ok(reply_of(state.repository.serve(&call).await?))
}

/// The answer to a fetch or a push.
pub(super) async fn call(state: &State, asked: Asked, service: Service) -> Result<Reply, StandInError> {
    let call = call_of(state, &asked);
    let wanted = format!("application/x-{}-request", service.name());
    if call.content_type != wanted {
        return Ok(asked.problem(state, 415, &format!("the content type has to be {wanted}")));
    }
    let encoding = asked.header(header::CONTENT_ENCODING).to_ascii_lowercase();
    let plain = matches!(encoding.as_str(), "" | "identity");
    let gzip = service == Service::UploadPack && matches!(encoding.as_str(), "gzip" | "x-gzip");
    if !plain && !gzip {
        return Ok(asked.problem(state, 415, "this content encoding is not taken here"));
    }
    let Asked { id, at, who, body, .. } = asked;
    let Body::File(body, len) = body else {
        return Err(StandInError::GitSaid { doing: "taking a body", said: "it is not in a file".into() });
    };
    let call = Call { service, body: Some(body), gzip, ..call };
    if service == Service::UploadPack {
        return Ok(reply_of(state.repository.serve(&call).await?));
    }

    let total = state.pushed_bytes.fetch_add(len, Ordering::Relaxed).saturating_add(len);
    if total > state.config.limits.all_push_bytes {
        let most = state.config.limits.all_push_bytes;
        return Ok(Reply::text(507, format!("All pushes together may have {most} bytes.\n"))
            .note("refused: limits.all_push_bytes"));
    }
    let _change = state.repository.change().await;
    let about = About { at, request: id, by: &who, scrub: state.tokens.scrub() };
    let Some(pushed) = state.repository.push(&call, &about).await? else {
        return Ok(Reply::text(400, "This is not a push, or it changes too many refs at once.\n"));
    };
    let changed = pushed.pushes.iter().any(|push| push.outcome == Outcome::Applied);
    state.pushed(pushed.pushes);
    let mut reply = reply_of(pushed.served?);
    reply.changed = changed;
    Ok(reply)
}

fn call_of(state: &State, asked: &Asked) -> Call {
    let user = match &asked.who {
        Who::Token(label) => label.clone(),
        _ => state.config.login.clone(),
    };
    Call {
        content_type: asked.header(header::CONTENT_TYPE).to_owned(),
        protocol: Call::protocol_of(asked.header("git-protocol")),
        user,
        ..Call::probe()
    }
}

fn reply_of(served: crate::git::Served) -> Reply {
    Reply {
        status: served.status,
        // Its length is known better here.
        headers: served.headers.into_iter().filter(|(name, _)| name != "content-length").collect(),
        body: Content::File(served.body, served.len),
        note: None,
        changed: false,
    }
}
