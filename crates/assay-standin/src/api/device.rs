//! The device flow (RFC 8628) in GitHub's shape: a machine without a browser gets a token once a person approves.
//!
//! Errors come with status 200, as GitHub sends them, and as a form unless JSON is asked for.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::header;
use rand::Rng as _;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::Asked;
use crate::{DeviceFlow, Event, Login, LoginState, Token, reply::Reply, state::State};

/// Device flows kept; the oldest goes first.
const MOST_GRANTS: usize = 64;
/// What `slow_down` adds to the interval (RFC 8628, section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Letters that are told apart on a screen, and spell nothing (RFC 8628, section 6.1).
const USER_CODE: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The device flows that were begun.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    grants: Mutex<(u64, Vec<Grant>)>,
}

#[derive(Debug)]
struct Grant {
    number: u64,
    code: String,
    began: Instant,
    interval: Duration,
    polls: u32,
    last: Option<Instant>,
    decided: Option<bool>,
}

/// What a poll comes to.
#[derive(Debug, PartialEq, Eq)]
enum Poll {
    Pending,
    /// Too early; the seconds to wait from now on.
    SlowDown(u64),
    Approved,
    Denied,
    Expired,
    NoSuchCode,
}

impl Devices {
    /// Decides for all who wait; returns how many those are.
    pub(crate) fn decide(&self, approved: bool) -> usize {
        let mut grants = self.lock();
        let waiting = grants.1.iter_mut().filter(|grant| grant.decided.is_none());
        waiting.map(|grant| grant.decided = Some(approved)).count()
    }

    fn begin(&self, flow: DeviceFlow, code: String, now: Instant) -> u64 {
        let mut grants = self.lock();
        grants.0 += 1;
        let number = grants.0;
        if grants.1.len() >= MOST_GRANTS {
            grants.1.remove(0);
        }
        let interval = Duration::from_secs(u64::from(flow.interval_s));
        grants.1.push(Grant { number, code, began: now, interval, polls: 0, last: None, decided: None });
        number
    }

    /// What a poll comes to, and of which flow. A code that was used up is no code any more.
    fn poll(&self, flow: DeviceFlow, code: &str, now: Instant) -> (u64, Poll) {
        let mut grants = self.lock();
        let Some(at) = grants.1.iter().position(|grant| grant.code == code) else {
            return (0, Poll::NoSuchCode);
        };
        let grant = &mut grants.1[at];
        let number = grant.number;
        if now.saturating_duration_since(grant.began) > Duration::from_secs(u64::from(flow.expires_s)) {
            grants.1.remove(at);
            return (number, Poll::Expired);
        }
        if grant.decided.is_none() && flow.approve_after_polls.is_some_and(|polls| grant.polls >= polls) {
            grant.decided = Some(true);
        }
        if let Some(approved) = grant.decided {
            grants.1.remove(at);
            return (number, if approved { Poll::Approved } else { Poll::Denied });
        }
        let early = grant.last.is_some_and(|last| now.saturating_duration_since(last) < grant.interval);
        grant.polls += 1;
        grant.last = Some(now);
        if early {
            grant.interval += SLOWER;
            return (number, Poll::SlowDown(grant.interval.as_secs()));
        }
        (number, Poll::Pending)
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Vec<Grant>)> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /login/device/code`.
pub(super) fn code(state: &State, asked: &Asked) -> Reply {
    if !asked.fields().contains_key("client_id") {
        return said(
            asked,
            &[("error", json!("invalid_request")), ("error_description", json!("no client_id"))],
        );
    }
    let flow = state.config.device;
    let code = random(LETTERS, 40);
    let user_code = format!("{}-{}", random(USER_CODE, 4), random(USER_CODE, 4));
    let number = state.devices.begin(flow, code.clone(), Instant::now());
    state.book.record(Event::Login(Login { at: asked.at, number, state: LoginState::Begun }));
    said(
        asked,
        &[
            ("device_code", json!(code)),
            ("user_code", json!(user_code)),
            ("verification_uri", json!(format!("https://{}/login/device", state.config.host))),
            ("expires_in", json!(flow.expires_s)),
            ("interval", json!(flow.interval_s)),
        ],
    )
}

/// `POST /login/oauth/access_token`.
pub(super) fn token(state: &State, asked: &Asked) -> Reply {
    let fields = asked.fields();
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let error =
        |error: &str, text: &str| said(asked, &[("error", json!(error)), ("error_description", json!(text))]);
    if field("grant_type") != GRANT_TYPE {
        return error("unsupported_grant_type", "only the device flow is known here");
    }
    let (number, poll) = state.devices.poll(state.config.device, field("device_code"), Instant::now());
    let record = |to: LoginState| {
        state.book.record(Event::Login(Login { at: asked.at, number, state: to }));
    };
    match poll {
        Poll::NoSuchCode => error("incorrect_device_code", "The device_code provided is not valid."),
        Poll::Expired => {
            record(LoginState::Expired);
            error("expired_token", "The device_code has expired.")
        }
        Poll::Denied => {
            record(LoginState::Denied);
            error("access_denied", "The authorization request was denied.")
        }
        Poll::Pending => {
            record(LoginState::Pending);
            error("authorization_pending", "The authorization request is still pending.")
        }
        Poll::SlowDown(interval) => {
            record(LoginState::SlowDown);
            said(
                asked,
                &[
                    ("error", json!("slow_down")),
                    ("error_description", json!("Too many requests have been made in the same timeframe.")),
                    ("interval", json!(interval)),
                ],
            )
        }
        Poll::Approved => {
            let label = format!("device-{number}");
            let secret = format!("gho_{}", random(LETTERS, 36));
            state.tokens.add(Token { label: label.clone(), secret: secret.clone() });
            record(LoginState::Token(label));
            let granted = [
                ("access_token", json!(secret)),
                ("token_type", json!("bearer")),
                ("scope", json!("repo,read:org,user:email")),
            ];
            said(asked, &granted)
        }
    }
}

/// As JSON where that is accepted, as a form otherwise.
fn said(asked: &Asked, fields: &[(&str, Value)]) -> Reply {
    if asked.header(header::ACCEPT).contains("json") {
        let map = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        return Reply::json(200, &Value::Object(map));
    }
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (key, value) in fields {
        form.append_pair(key, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let mut reply = Reply::text(200, form.finish());
    reply.headers = vec![("content-type".into(), "application/x-www-form-urlencoded; charset=utf-8".into())];
    reply
}

fn random(from: &[u8], length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(from[random.random_range(0..from.len())])).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Devices, MOST_GRANTS, Poll};
    use crate::DeviceFlow;

    #[test]
    fn a_device_waits_its_turn_and_gets_its_token_once() {
        let (flow, devices, start) = (DeviceFlow::default(), Devices::default(), Instant::now());
        let number = devices.begin(flow, "code".into(), start);
        let poll = |after: u64| devices.poll(flow, "code", start + Duration::from_secs(after));
        assert_eq!(poll(1), (number, Poll::Pending));
        assert_eq!(poll(2), (number, Poll::SlowDown(10)));
        assert_eq!(poll(13), (number, Poll::Pending));
        assert_eq!(devices.poll(flow, "other", start), (0, Poll::NoSuchCode));
        assert_eq!((devices.decide(true), devices.decide(true)), (1, 0));
        assert_eq!(poll(14), (number, Poll::Approved));
        assert_eq!(poll(40), (0, Poll::NoSuchCode));
    }

    #[test]
    fn a_flow_ends_by_polls_by_refusal_and_by_time() {
        let flow = DeviceFlow { approve_after_polls: Some(2), interval_s: 0, expires_s: 60 };
        let (devices, start) = (Devices::default(), Instant::now());
        let poll = |code: &str, after: u64| devices.poll(flow, code, start + Duration::from_secs(after)).1;
        devices.begin(flow, "a".into(), start);
        assert_eq!(
            [poll("a", 0), poll("a", 0), poll("a", 0)],
            [Poll::Pending, Poll::Pending, Poll::Approved]
        );
        devices.begin(flow, "b".into(), start);
        devices.decide(false);
        assert_eq!(poll("b", 1), Poll::Denied);
        devices.begin(flow, "c".into(), start);
        assert_eq!(poll("c", 61), Poll::Expired);
    }

    #[test]
    fn asking_for_codes_without_end_holds_no_more_than_a_few() {
        let (flow, devices, start) = (DeviceFlow::default(), Devices::default(), Instant::now());
        for n in 0..=MOST_GRANTS {
            devices.begin(flow, n.to_string(), start);
        }
        assert_eq!(devices.poll(flow, "0", start).1, Poll::NoSuchCode);
        assert_eq!(devices.poll(flow, "1", start).1, Poll::Pending);
        assert_eq!(devices.decide(true), MOST_GRANTS);
    }
}
