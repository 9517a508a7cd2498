//! An answer before it is sent, and the body that can be made to break off.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::{
    fs::File,
    io::{AsyncRead, ReadBuf},
};

const CHUNK: usize = 64 * 1024;

/// An answer: status, headers and body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Content,
    /// For the ledger, where there is something to say.
    pub(crate) note: Option<String>,
    /// Whether something was changed: what [`Effect::DropAfterPush`](crate::Effect) asks.
    pub(crate) changed: bool,
}

/// What an answer holds.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Bytes),
    /// The rest of a file from where it stands, which is this long.
    File(File, u64),
}

impl Reply {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Content::Bytes(Bytes::new()), note: None, changed: false }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        let mut reply = Self::empty(status).header("content-type", "application/json; charset=utf-8");
        reply.body = Content::Bytes(Bytes::from(value.to_string()));
        reply
    }

    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        let mut reply = Self::empty(status).header("content-type", "text/plain; charset=utf-8");
        reply.body = Content::Bytes(Bytes::from(text.into()));
        reply
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn changed(mut self) -> Self {
        self.changed = true;
        self
    }

    pub(crate) fn len(&self) -> u64 {
        match &self.body {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, len) => *len,
        }
    }

    /// The answer as the HTTP library wants it; broken off after `cut` bytes of the body, if set.
    pub(crate) fn into_response(self, cut: Option<u64>) -> hyper::Response<Answer> {
        let left = self.len();
        let breaks_at = cut.map(|sent| left.saturating_sub(sent));
        let answer = Answer { source: self.body, left, breaks_at, paused: false };
        let mut response = hyper::Response::new(answer);
        *response.status_mut() =
            hyper::StatusCode::from_u16(self.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
            let value = hyper::header::HeaderValue::from_str(&value);
            if let (Ok(name), Ok(value)) = (name, value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

/// The connection is to be closed without (the rest of) an answer.
#[derive(Debug)]
pub(crate) struct Severed;

impl fmt::Display for Severed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection is closed on purpose")
    }
}

impl std::error::Error for Severed {}

/// A body of known length.
#[derive(Debug)]
pub(crate) struct Answer {
    source: Content,
    left: u64,
    /// With how much left it breaks off.
    breaks_at: Option<u64>,
    paused: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if this.breaks_at == Some(this.left) {
            if this.paused {
                return Poll::Ready(Some(Err(Severed)));
            }
            // Once around without data, so that what was given before is on its way.
            this.paused = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = (this.left - this.breaks_at.unwrap_or(0)).min(CHUNK as u64) as usize;
        let chunk = match &mut this.source {
            Content::Bytes(bytes) => bytes.split_to(most.min(bytes.len())),
            Content::File(file, _) => {
                let mut room = vec![0; most];
                let mut buffer = ReadBuf::new(&mut room);
                match ready!(Pin::new(file).poll_read(context, &mut buffer)) {
                    Ok(()) => {
                        let count = buffer.filled().len();
                        room.truncate(count);
                        Bytes::from(room)
                    }
                    Err(_) => return Poll::Ready(Some(Err(Severed))),
                }
            }
        };
        if chunk.is_empty() {
            // The file is shorter than it was: nothing that a client could be told any more.
            return Poll::Ready(Some(Err(Severed)));
        }
        this.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
