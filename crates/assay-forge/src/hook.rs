//! Webhooks: what a delivery is worth.
//!
//! A delivery is believed for its signature alone: HMAC-SHA256 over the bytes as they came, compared in constant time. The
//! headers are not signed, so the delivery's number is only good for dropping an honest repeat early. What makes a recorded
//! delivery worthless is its content: the comment in it is met once ([`crate::Seen`]), and one that is too old is left to
//! polling, which would have found it.

use std::collections::BTreeMap;

use assay_model::Micros;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::forge::ForgeKind;
use crate::name::RepoName;
use crate::secret::Secret;
use crate::what::Comment;
use crate::wire::{Repo, WireComment};

/// Larger deliveries are refused unread. A comment and the pull request around it take some 400 KiB at most on GitHub.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// A comment that changed longer ago is left to polling.
pub const MAX_AGE: Micros = Micros::seconds(3600);
/// Fewer bytes can be guessed.
const SHORTEST_SECRET: usize = 16;
/// Deliveries that are remembered.
const MOST_DELIVERIES: usize = 4096;
const LONGEST_ID: usize = 64;

/// The headers that count, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    event: Option<String>,
    delivery: Option<String>,
    content_type: Option<String>,
    signatures: Vec<Vec<u8>>,
}

/// What a delivery tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A comment was made, or has another text.
    Comment {
        /// Where.
        repo: RepoName,
        /// The comment.
        comment: Box<Comment>,
    },
    /// A pull request has new commits, or another state: worth a look.
    Pull {
        /// Where.
        repo: RepoName,
        /// Its number.
        number: u64,
    },
    /// The forge tries the address.
    Ping,
    /// Something that is none of ours.
    Nothing,
}

/// A delivery that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// No signature.
    #[error("the delivery is not signed; set the webhook's secret at the forge")]
    Unsigned,
    /// Not our secret.
    #[error(
        "the delivery's signature is not from our secret; set the same secret at the forge and in the settings"
    )]
    WrongSignature,
    /// The settings have none that is worth anything.
    #[error(
        "the webhook's secret has fewer than {SHORTEST_SECRET} characters; take one from `openssl rand -hex 32`"
    )]
    WeakSecret,
    /// Too many bytes.
    #[error("the delivery has more than {MAX_BODY} bytes; it is left to polling")]
    TooLarge,
    /// Not JSON.
    #[error("the delivery is no JSON; choose `application/json` as the webhook's content type at the forge")]
    NotJson,
    /// No event's name.
    #[error("the delivery does not say what it is about; this is no forge's webhook")]
    NoEvent,
    /// Does not read.
    #[error("the delivery does not read: {0}; it is left to polling")]
    Unreadable(String),
}

/// Deliveries that came lately, by their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    met: BTreeMap<String, Micros>,
}

impl Headers {
    /// Picks them out; `get` gives the value of a header by its name in lower case. GitHub signs in one header; Forgejo in
    /// its own, in Gitea's, and in GitHub's form. Every one that is there has to be right.
    pub fn pick<'a>(kind: ForgeKind, get: impl Fn(&str) -> Option<&'a [u8]>) -> Self {
        let text = |name: &str| {
            get(name).and_then(|value| std::str::from_utf8(value).ok()).map(|text| text.trim().to_owned())
        };
        let (events, deliveries, bare): (&[&str], &[&str], &[&str]) = match kind {
            ForgeKind::GitHub => (&["x-github-event"], &["x-github-delivery"], &[]),
            ForgeKind::Forgejo => (
                &["x-forgejo-event", "x-gitea-event"],
                &["x-forgejo-delivery", "x-gitea-delivery"],
                &["x-forgejo-signature", "x-gitea-signature"],
            ),
        };
        let first = |names: &[&str]| names.iter().find_map(|name| text(name));
        let mut signatures = Vec::new();
        for name in bare {
            signatures.extend(get(name).map(<[u8]>::to_vec));
        }
        if let Some(value) = get("x-hub-signature-256") {
            // Without its prefix it is no signature; kept, so that it fails.
            signatures.push(value.strip_prefix(b"sha256=").unwrap_or_default().to_vec());
        }
        Self {
            event: first(events),
            delivery: first(deliveries),
            content_type: text("content-type"),
            signatures,
        }
    }

    /// The delivery's number, when it has one that looks like one.
    pub fn delivery(&self) -> Option<&str> {
        let is_id = |id: &&str| {
            (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        self.delivery.as_deref().filter(is_id)
    }
}

/// Checks a delivery's signature, and reads it. `body` are the bytes as they came.
pub fn read(headers: &Headers, body: &[u8], secret: &Secret) -> Result<Told, HookError> {
    verify(headers, body, secret)?;
    let event = headers.event.as_deref().ok_or(HookError::NoEvent)?;
    let is_json = headers.content_type.as_deref().is_none_or(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        return Err(HookError::NotJson);
    }
    match event {
        "ping" => Ok(Told::Ping),
        "issue_comment" | "pull_request_comment" => comment(body),
        "pull_request" | "pull_request_sync" => pull(body),
        _ => Ok(Told::Nothing),
    }
}

/// Whether a comment is fresh enough to be taken from a webhook. Times are the forge's but for `now`, so clocks that differ
/// by less than the limit do no harm; what is refused is found by polling.
pub fn is_timely(comment: &Comment, now: Micros) -> bool {
    now.since(comment.updated_at).0.abs() <= MAX_AGE.0
}

impl Deliveries {
    /// Whether this delivery came before; remembers it.
    pub fn meet(&mut self, id: &str, now: Micros) -> bool {
        if self.met.contains_key(id) {
            return true;
        }
        if self.met.len() >= MOST_DELIVERIES {
            let oldest = self.met.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone());
            self.met.remove(&oldest.unwrap_or_default());
        }
        self.met.insert(id.chars().take(LONGEST_ID).collect(), now);
        false
    }
}

fn verify(headers: &Headers, body: &[u8], secret: &Secret) -> Result<(), HookError> {
    if body.len() > MAX_BODY {
        return Err(HookError::TooLarge);
    }
    if secret.reveal().len() < SHORTEST_SECRET {
        return Err(HookError::WeakSecret);
    }
    if headers.signatures.is_empty() {
        return Err(HookError::Unsigned);
    }
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()) else {
        return Err(HookError::WeakSecret);
    };
    let mac = mac.chain_update(body);
    for signature in &headers.signatures {
        let bytes = hex::decode(signature).map_err(|_| HookError::WrongSignature)?;
        // Takes the same time wherever they differ.
        mac.clone().verify_slice(&bytes).map_err(|_| HookError::WrongSignature)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct CommentBody {
    action: String,
    repository: Repo,
    issue: Issue,
    /// A review's text comes without one.
    comment: Option<WireComment>,
    is_pull: Option<bool>,
}

#[derive(Deserialize)]
struct Issue {
    number: u64,
    pull_request: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct PullBody {
    repository: Repo,
    number: Option<u64>,
    pull_request: Option<OnlyNumber>,
}

#[derive(Deserialize)]
struct OnlyNumber {
    number: u64,
}

fn comment(body: &[u8]) -> Result<Told, HookError> {
    let body: CommentBody = serde_json::from_slice(body).map_err(|e| unreadable(&e))?;
    // What was deleted asks for nothing; the run that it asked for is cancelled by `!testme cancel` alone.
    let (true, Some(comment)) = (matches!(body.action.as_str(), "created" | "edited"), body.comment) else {
        return Ok(Told::Nothing);
    };
    let repo = repository(&body.repository)?;
    let on_pull = body.is_pull == Some(true) || body.issue.pull_request.is_some_and(|pull| !pull.is_null());
    let comment = comment.comment(Some((body.issue.number, on_pull))).map_err(HookError::Unreadable)?;
    Ok(Told::Comment { repo, comment: Box::new(comment) })
}

fn pull(body: &[u8]) -> Result<Told, HookError> {
    let body: PullBody = serde_json::from_slice(body).map_err(|e| unreadable(&e))?;
    let repo = repository(&body.repository)?;
    let number = body.pull_request.map(|pull| pull.number).or(body.number);
    let number = number.ok_or_else(|| HookError::Unreadable("a pull request without a number".to_owned()))?;
    Ok(Told::Pull { repo, number })
}

fn repository(repo: &Repo) -> Result<RepoName, HookError> {
    repo.full_name.parse().map_err(|e: crate::name::WrongName| HookError::Unreadable(e.to_string()))
}

fn unreadable(e: &serde_json::Error) -> HookError {
    HookError::Unreadable(assay_model::text::clean_to(&e.to_string(), 160))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123";

    fn signed(body: &[u8]) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
        hex::encode(mac.chain_update(body).finalize().into_bytes())
    }

    fn headers(kind: ForgeKind, pairs: &[(&str, &str)]) -> Headers {
        Headers::pick(kind, |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes()))
    }

    fn comment_body(action: &str) -> String {
        format!(
            r#"{{"action":"{action}","is_pull":true,"issue":{{"number":7}},"repository":{{"full_name":"coop/plausible"}},
            "comment":{{"id":5,"body":"!testme","user":{{"login":"alice"}},"created_at":"2026-11-22T16:00:00Z","updated_at":"2026-11-22T16:00:00Z"}}}}"#
        )
    }

    #[test]
    fn both_forms_of_signature_are_taken_and_every_one_must_be_right() {
        let (body, secret) = (comment_body("created"), Secret::new(SECRET));
        let (good, bad) = (signed(body.as_bytes()), signed(b"another"));
        let hub = format!("sha256={good}");
        let forgejo =
            |pairs: &[(&str, &str)]| read(&headers(ForgeKind::Forgejo, pairs), body.as_bytes(), &secret);
        let event = ("x-gitea-event", "issue_comment");
        let told = forgejo(&[event, ("x-gitea-signature", &good)]).expect("signed");
        let Told::Comment { repo, comment } = told else { panic!("{told:?}") };
        assert_eq!((repo.to_string().as_str(), comment.number, comment.on_pull), ("coop/plausible", 7, true));
        assert_eq!(comment.author.expect("known").as_str(), "alice");
        assert!(forgejo(&[("x-forgejo-event", "issue_comment"), ("x-forgejo-signature", &good)]).is_ok());
        assert!(forgejo(&[event, ("x-hub-signature-256", &hub), ("x-gitea-signature", &good)]).is_ok());
        let mixed = forgejo(&[event, ("x-hub-signature-256", &hub), ("x-gitea-signature", &bad)]);
        assert_eq!(mixed, Err(HookError::WrongSignature));
        assert_eq!(forgejo(&[event]), Err(HookError::Unsigned));
        assert_eq!(
            forgejo(&[event, ("x-hub-signature-256", &good)]),
            Err(HookError::WrongSignature),
            "no prefix"
        );
        assert_eq!(forgejo(&[event, ("x-gitea-signature", "zz")]), Err(HookError::WrongSignature));
        assert_eq!(forgejo(&[event, ("x-gitea-signature", &good[..62])]), Err(HookError::WrongSignature));
        let github =
            headers(ForgeKind::GitHub, &[("x-github-event", "issue_comment"), ("x-hub-signature-256", &hub)]);
        assert!(matches!(read(&github, body.as_bytes(), &secret), Ok(Told::Comment { .. })));
        let other = body.replace("alice", "mallo");
        assert_eq!(read(&github, other.as_bytes(), &secret), Err(HookError::WrongSignature));
        assert_eq!(read(&github, body.as_bytes(), &Secret::new("short")), Err(HookError::WeakSecret));
    }

    fn told(event: &str, body: &str) -> Result<Told, HookError> {
        let signature = format!("sha256={}", signed(body.as_bytes()));
        let headers =
            headers(ForgeKind::GitHub, &[("x-github-event", event), ("x-hub-signature-256", &signature)]);
        read(&headers, body.as_bytes(), &Secret::new(SECRET))
    }

    #[test]
    fn signed_nonsense_is_an_error_and_no_panic() {
        assert_eq!(told("ping", "{}"), Ok(Told::Ping));
        assert_eq!(told("star", "{}"), Ok(Told::Nothing));
        assert_eq!(told("issue_comment", &comment_body("deleted")), Ok(Told::Nothing));
        let sync = r#"{"action":"synchronize","number":9,"repository":{"full_name":"a/b"}}"#;
        assert_eq!(
            told("pull_request", sync),
            Ok(Told::Pull { repo: "a/b".parse().expect("a name"), number: 9 })
        );
        let climbing = comment_body("created").replace("coop/plausible", "../../etc");
        for (event, body) in [
            ("issue_comment", "{}".to_owned()),
            ("issue_comment", "[".repeat(100_000)),
            ("issue_comment", climbing),
            ("issue_comment", comment_body("created").replace("\"id\":5", "\"id\":-5")),
            ("pull_request", r#"{"repository":{"full_name":"a/b"}}"#.to_owned()),
        ] {
            let error = told(event, &body).expect_err(&body[..body.len().min(60)]);
            assert!(matches!(error, HookError::Unreadable(_)), "{error}");
        }
        assert_eq!(told("issue_comment", &" ".repeat(MAX_BODY + 1)), Err(HookError::TooLarge));
    }

    #[test]
    fn a_repeat_is_known_and_a_recording_is_too_old() {
        let mut deliveries = Deliveries::default();
        assert!(!deliveries.meet("a-1", Micros(1)));
        assert!(deliveries.meet("a-1", Micros(2)));
        for n in 0..5000 {
            deliveries.meet(&format!("b-{n}"), Micros(10 + n));
        }
        assert_eq!(deliveries.met.len(), MOST_DELIVERIES);
        let Ok(Told::Comment { comment, .. }) = told("issue_comment", &comment_body("created")) else {
            panic!("a comment")
        };
        assert!(is_timely(&comment, comment.updated_at.plus(Micros::seconds(30))));
        assert!(!is_timely(&comment, comment.updated_at.plus(MAX_AGE).plus(Micros(1))));
    }

    proptest! {
        #[test]
        fn nothing_unsigned_gets_in(body in proptest::collection::vec(any::<u8>(), 0..200), signature in ".{0,80}") {
            let pairs = [("x-github-event", "issue_comment"), ("x-hub-signature-256", signature.as_str())];
            let said = read(&headers(ForgeKind::GitHub, &pairs), &body, &Secret::new(SECRET));
            prop_assert_eq!(said, Err(HookError::WrongSignature));
        }
    }
}
