//! A receiver with a name: what it wants to hear, in which words, and how it is told.

use std::fmt;

use assay_model::Micros;

use crate::email::Email;
use crate::error::{DeliveryError, Fate};
use crate::http::{Http, web_address};
use crate::matrix::Matrix;
use crate::message::Message;
use crate::news::{Notification, TEST_EVENT};
use crate::ntfy::Ntfy;
use crate::template::Template;
use crate::webhook::Webhook;

/// What kind of receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// JSON by POST.
    Webhook,
    /// A topic.
    Ntfy,
    /// Mailboxes.
    Email,
    /// A room.
    Matrix,
}

impl SinkKind {
    /// Its name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Ntfy => "ntfy",
            Self::Email => "email",
            Self::Matrix => "matrix",
        }
    }
}

impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A receiver.
#[derive(Clone, Debug)]
pub struct Sink {
    pub(crate) name: String,
    /// Everything without it.
    pub(crate) events: Option<Vec<String>>,
    pub(crate) title: Option<Template>,
    pub(crate) body: Option<Template>,
    pub(crate) target: Target,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Webhook(Webhook),
    Ntfy(Ntfy),
    Email(Box<Email>),
    Matrix(Matrix),
}

impl Sink {
    /// A webhook without secret and templates that wants everything: what `--webhook` makes. The
    /// error says what is wrong with the address.
    pub fn webhook(name: &str, url: &str, allow_internal: bool) -> Result<Self, String> {
        let url = web_address(url)?;
        let http = Http::new(&url, allow_internal, None)?;
        let target = Target::Webhook(Webhook { url, http, key: None, deduplicates: false });
        Ok(Self { name: name.to_owned(), events: None, title: None, body: None, target })
    }

    /// Its name; deliveries are remembered by it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of receiver it is.
    pub const fn kind(&self) -> SinkKind {
        match self.target {
            Target::Webhook(_) => SinkKind::Webhook,
            Target::Ntfy(_) => SinkKind::Ntfy,
            Target::Email(_) => SinkKind::Email,
            Target::Matrix(_) => SinkKind::Matrix,
        }
    }

    /// Where it is, for people; without anything that could be a secret.
    pub fn place(&self) -> String {
        match &self.target {
            // A webhook's path often is its password.
            Target::Webhook(hook) => hook.url.host_str().unwrap_or_default().to_owned(),
            // And so is a topic's name.
            Target::Ntfy(ntfy) => ntfy.url.host_str().unwrap_or_default().to_owned(),
            Target::Email(email) => {
                email.to.iter().map(|to| to.email.to_string()).collect::<Vec<_>>().join(", ")
            }
            Target::Matrix(matrix) => matrix.room.clone(),
        }
    }

    /// The events that it is told; `None` for all.
    pub fn events(&self) -> Option<&[String]> {
        self.events.as_deref()
    }

    /// Whether it is told this event.
    pub fn wants(&self, event: &str) -> bool {
        event == TEST_EVENT || self.events.as_ref().is_none_or(|wanted| wanted.iter().any(|w| w == event))
    }

    /// Whether it tells a repeat from something new, so that it may be told again when nobody knows
    /// whether it was told.
    pub const fn drops_repeats(&self) -> bool {
        match &self.target {
            Target::Webhook(hook) => hook.deduplicates,
            Target::Matrix(_) => true,
            Target::Ntfy(_) | Target::Email(_) => false,
        }
    }

    /// What follows from a failure, for this sink.
    pub fn fate(&self, problem: &DeliveryError) -> Fate {
        match problem.fate() {
            Fate::Unclear if self.drops_repeats() => Fate::Later { after: None },
            fate => fate,
        }
    }

    /// The words that this sink gets.
    pub fn words(&self, news: &Notification) -> Message {
        let mut message = Message::of(news);
        // A test also shows the settings' own templates only where they can cope with it.
        let title = self.title.as_ref().and_then(|t| t.render(news, &message));
        let body = self.body.as_ref().and_then(|t| t.render(news, &message));
        message.reworded(title.as_deref(), body.as_deref());
        message
    }

    /// Tells it. `now` is the time of this try. Returns what the receiver said.
    pub async fn deliver(&self, news: &Notification, now: Micros) -> Result<String, DeliveryError> {
        let message = self.words(news);
        match &self.target {
            Target::Webhook(hook) => hook.deliver(news, &message, now).await,
            Target::Ntfy(ntfy) => ntfy.deliver(news, &message).await,
            Target::Email(email) => email.deliver(news, &message, now).await,
            Target::Matrix(matrix) => matrix.deliver(news, &message).await,
        }
    }
}
