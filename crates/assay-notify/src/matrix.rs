//! Matrix: a message in a room, through the client-server API. The delivery's id is the transaction
//! id, so a homeserver that is told twice shows it once.

use reqwest::header::AUTHORIZATION;
use serde_json::json;
use url::Url;

use crate::error::DeliveryError;
use crate::event::Level;
use crate::http::Http;
use crate::message::{Message, escape};
use crate::news::Notification;
use crate::secret::Secret;

/// Where to, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) homeserver: Url,
    /// The room's id: `!opaque:server`.
    pub(crate) room: String,
    pub(crate) token: Secret,
    pub(crate) http: Http,
}

impl Matrix {
    pub(crate) async fn deliver(
        &self,
        news: &Notification,
        message: &Message,
    ) -> Result<String, DeliveryError> {
        // A notice is what bots send; it makes no noise, so what is urgent is a text.
        let kind = if message.level == Level::Urgent { "m.text" } else { "m.notice" };
        let content = json!({
            "msgtype": kind,
            "body": format!("{}\n{}", message.title, message.body),
            "format": "org.matrix.custom.html",
            "formatted_body": format!("<strong>{}</strong><br>\n{}", escape(&message.title), message.html()),
        });
        let Secret(token) = &self.token;
        let request = self
            .http
            .client
            .put(self.url(&news.id)?)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .json(&content);
        self.http.send(request).await.map(|_| "accepted by the homeserver".to_owned())
    }

    fn url(&self, id: &str) -> Result<Url, DeliveryError> {
        let mut url = self.homeserver.clone();
        url.path_segments_mut()
            .map_err(|()| DeliveryError::Unmade("the homeserver's address takes no path".to_owned()))?
            .pop_if_empty()
            .extend(["_matrix", "client", "v3", "rooms", &self.room, "send", "m.room.message", id]);
        Ok(url)
    }
}
