//! ntfy: publishes to a topic (<https://docs.ntfy.sh/publish/>). It cannot tell a repeat from a
//! second message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::AUTHORIZATION;
use url::Url;

use crate::error::DeliveryError;
use crate::event::Level;
use crate::http::Http;
use crate::message::Message;
use crate::news::Notification;
use crate::secret::Secret;

/// Longest message that ntfy shows as text, in bytes; a longer one becomes a file.
const MAX_BYTES: usize = 4000;

/// Where to, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Ntfy {
    /// With the topic as its last segment.
    pub(crate) url: Url,
    pub(crate) http: Http,
    pub(crate) token: Option<Secret>,
}

impl Ntfy {
    pub(crate) async fn deliver(
        &self,
        news: &Notification,
        message: &Message,
    ) -> Result<String, DeliveryError> {
        let (priority, tag) = match message.level {
            Level::Quiet => ("2", "information_source"),
            Level::Normal => ("3", "bell"),
            Level::Urgent => ("4", "rotating_light"),
        };
        let tags = format!("{tag},{}", news.event);
        let mut request = self
            .http
            .client
            .post(self.url.clone())
            .header("Title", header_text(&message.title))
            .header("Priority", priority)
            .header("Tags", header_text(&tags));
        if let Some(link) = &message.link {
            request = request.header("Click", header_text(link));
        }
        if let Some(Secret(token)) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = clip(&message.body, MAX_BYTES).to_owned();
        self.http.send(request.body(body)).await.map(|_| "published".to_owned())
    }
}

/// A header holds ASCII; ntfy reads other text in the encoding of mail headers (RFC 2047).
fn header_text(text: &str) -> String {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return text.to_owned();
    }
    format!("=?UTF-8?B?{}?=", STANDARD.encode(text))
}

/// The beginning that fits into so many bytes, whole characters only.
pub(crate) fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stay_headers() {
        assert_eq!(header_text("web-3: failed"), "web-3: failed");
        assert_eq!(header_text("Größe"), "=?UTF-8?B?R3LDtsOfZQ==?=");
        assert_eq!(header_text("a\r\nX-Evil: 1"), "=?UTF-8?B?YQ0KWC1FdmlsOiAx?=");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(clip("aé", 2), "a");
        assert_eq!(clip("aé", 3), "aé");
        assert_eq!(clip("", 3), "");
    }
}
