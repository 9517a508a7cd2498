//! Webhooks: signed as the real ones are, sent when a test says so.

use assay_model::Micros;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::Dialect;
use super::world::World;

/// A delivery as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where to.
    pub url: String,
    /// All headers that count, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The bytes that were signed.
    pub body: Vec<u8>,
}

impl Delivery {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sends it; the receiver's status, 0 for nobody there.
    pub async fn send(&self) -> u16 {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut request = client.post(&self.url).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.send().await.map_or(0, |answer| answer.status().as_u16())
    }
}

impl World {
    pub(super) fn comment_changed(&mut self, repo: &str, id: u64, action: &str) {
        let comment = self.comment(repo, id).clone();
        let pull = self.repo(repo).pulls.get(&comment.number).cloned();
        let mut issue = json!({ "number": comment.number, "state": "open", "title": "a title" });
        if let Some(pull) = &pull {
            issue["pull_request"] = json!({ "merged": pull.merged_at.is_some(), "url": format!("{}/{repo}/pulls/{}", self.url, pull.number) });
        }
        let mut body = json!({
            "action": action,
            "issue": issue,
            "comment": self.comment_json(repo, &comment),
            "repository": { "full_name": repo, "id": 1 },
            "sender": { "login": comment.author },
        });
        if self.dialect == Dialect::Forgejo {
            body["is_pull"] = json!(pull.is_some());
        }
        let event = if self.dialect == Dialect::Forgejo && pull.is_some() {
            "pull_request_comment"
        } else {
            "issue_comment"
        };
        self.queue(repo, event, "issue_comment", &body);
    }

    pub(super) fn pull_changed(&mut self, repo: &str, number: u64, action: &str) {
        let pull = self.pull(repo, number).clone();
        let action = if self.dialect == Dialect::GitHub {
            action.replace("synchronized", "synchronize")
        } else {
            action.to_owned()
        };
        let body = json!({
            "action": action, "number": number, "pull_request": self.pull_json(repo, &pull),
            "repository": { "full_name": repo, "id": 1 },
        });
        self.queue(repo, "pull_request", "pull_request", &body);
    }

    /// `subscribed` is what a hook must have asked for, `event` what the header says.
    fn queue(&mut self, repo: &str, subscribed: &str, event: &str, body: &Value) {
        let bytes = body.to_string().into_bytes();
        let hooks = self.repo(repo).hooks.clone();
        for hook in hooks.iter().filter(|hook| hook.is_active && hook.events.iter().any(|e| e == subscribed))
        {
            let number = self.id();
            let id = format!("{number:08x}-0000-4000-8000-{:012x}", Micros(self.now.0).0 / 1_000_000);
            let signature = sign(&hook.secret, &bytes);
            let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
            match self.dialect {
                Dialect::GitHub => {
                    add("x-github-event", event);
                    add("x-github-delivery", &id);
                }
                Dialect::Forgejo => {
                    for family in ["forgejo", "gitea", "gogs"] {
                        add(&format!("x-{family}-event"), event);
                        add(&format!("x-{family}-event-type"), subscribed);
                        add(&format!("x-{family}-delivery"), &id);
                        add(&format!("x-{family}-signature"), &signature);
                    }
                    add("x-github-event", event);
                    add("x-github-delivery", &id);
                }
            }
            add("x-hub-signature-256", &format!("sha256={signature}"));
            self.deliveries.push(Delivery { url: hook.url.clone(), headers, body: bytes.clone() });
        }
    }
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    hex::encode(mac.chain_update(body).finalize().into_bytes())
}
