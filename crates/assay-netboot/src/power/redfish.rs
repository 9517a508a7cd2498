//! Redfish: a BMC as a web service.
//!
//! What a service can do it says itself: which kinds of reset it takes (in the system, or behind `ActionInfo`), and
//! which boot targets. Addresses inside its answers are followed only on the service itself, and redirects not at
//! all: the password goes with each request.

use std::sync::Arc;
use std::time::Duration;

use assay_model::text;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

use super::{Ask, Auth, BootMode, Credential, PowerError, PowerState, RedfishSettings, tls::Shown};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Some need half a minute for one answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// Real answers are a few kilobytes.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// One system behind one service.
#[derive(Debug)]
pub(super) struct Redfish {
    http: reqwest::Client,
    base: Url,
    settings: RedfishSettings,
    credential: Credential,
    shown: Option<Arc<Shown>>,
    session: Mutex<Option<Session>>,
}

/// An open session: the token that goes with each request, and where it is closed.
#[derive(Debug, Clone)]
struct Session {
    token: String,
    place: Option<Url>,
}

/// What a service answered.
pub(super) struct Answer {
    pub(super) body: Value,
    pub(super) etag: Option<String>,
}

impl Redfish {
    pub(super) fn new(settings: RedfishSettings, credential: Credential) -> Result<Self, PowerError> {
        let base = settings.base()?;
        let pinned = settings.pinned()?;
        let shown = (pinned.is_some() || settings.insecure).then(|| Shown::new(pinned));
        let broken = |problem: String| PowerError::BadSettings {
            field: "url",
            value: settings.url.clone(),
            problem: format!("TLS cannot be set up: {problem}"),
        };
        // One that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let limit = ANSWER_LIMIT.min(Duration::from_secs(settings.timeout_s.into()));
        let mut http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT.min(limit))
            .timeout(limit)
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")));
        if let Some(shown) = &shown {
            http = http.tls_backend_preconfigured(shown.client_config().map_err(|e| broken(e.to_string()))?);
        }
        let http = http.build().map_err(|error| broken(error.to_string()))?;
        Ok(Self { http, base, settings, credential, shown, session: Mutex::new(None) })
    }

    pub(super) fn name(&self) -> String {
        format!("BMC {} (Redfish)", self.base.as_str().trim_end_matches('/'))
    }

    pub(super) async fn ask(&self, ask: Ask) -> Result<Option<PowerState>, PowerError> {
        match ask {
            Ask::State => {
                let doing = "the power state";
                let (_, system) = self.system(doing).await?;
                self.state(&system.body, doing).map(Some)
            }
            Ask::Set(state) => self.reset(state).await.map(|()| None),
            Ask::NetbootNext => self.boot_next(&["Pxe"], "boot from the network next").await.map(|()| None),
        }
    }

    /// Closes the session, if there is one. One that cannot be closed ends by itself some day.
    pub(super) async fn close(&self) {
        let Some(Session { token, place: Some(place) }) = self.session.lock().await.take() else { return };
        let closing = self.http.request(Method::DELETE, place).header("X-Auth-Token", token).send();
        if let Err(error) = closing.await {
            tracing::debug!("{}: its session stays open: {error}", self.name());
        }
    }

    fn state(&self, system: &Value, doing: &'static str) -> Result<PowerState, PowerError> {
        match system["PowerState"].as_str() {
            // On its way is not there yet.
            Some("On" | "PoweringOff" | "Paused") => Ok(PowerState::On),
            Some("Off" | "PoweringOn") => Ok(PowerState::Off),
            _ => Err(self.garbled(doing, &format!("PowerState is {}", system["PowerState"]))),
        }
    }

    async fn reset(&self, wanted: PowerState) -> Result<(), PowerError> {
        let (doing, kinds) = match wanted {
            PowerState::On => ("power on", ["On", "ForceOn"]),
            // Newer services call it by the plain name.
            PowerState::Off => ("power off", ["ForceOff", "Off"]),
        };
        let (_, system) = self.system(doing).await?;
        let action = &system.body["Actions"]["#ComputerSystem.Reset"];
        let Some(target) = action["target"].as_str() else {
            let said = "its system has no action #ComputerSystem.Reset; use IPMI if it has that".to_owned();
            return Err(PowerError::Unsupported { bmc: self.name(), doing, said });
        };
        let target = self.place(target, doing)?;
        let allowed = self.allowed_resets(action, doing).await?;
        let kind = match &allowed {
            // It does not say: the first is in every version of the standard.
            None => Some(kinds[0]),
            Some(allowed) => kinds.into_iter().find(|kind| allowed.iter().any(|known| known == kind)),
        };
        let Some(kind) = kind else {
            let said = format!("it takes {} only", allowed.unwrap_or_default().join(", "));
            return Err(PowerError::Unsupported { bmc: self.name(), doing, said });
        };
        self.exchange(Method::POST, target, Some(json!({ "ResetType": kind })), None, doing).await.map(drop)
    }

    /// The kinds of reset that the service takes, if it says so.
    async fn allowed_resets(
        &self,
        action: &Value,
        doing: &'static str,
    ) -> Result<Option<Vec<String>>, PowerError> {
        if let Some(list) = strings(&action["ResetType@Redfish.AllowableValues"]) {
            return Ok(Some(list));
        }
        let Some(place) = action["@Redfish.ActionInfo"].as_str() else { return Ok(None) };
        let info = self.get(self.place(place, doing)?, doing).await?.body;
        let parameters = info["Parameters"].as_array().cloned().unwrap_or_default();
        let kinds = parameters.iter().find(|parameter| parameter["Name"] == "ResetType");
        Ok(kinds.and_then(|parameter| strings(&parameter["AllowableValues"])))
    }

    /// Chooses what the machine boots next, once, and reads it back: the first of `wanted` that the service knows, or
    /// the last where it does not say what it knows.
    pub(super) async fn boot_next(&self, wanted: &[&str], doing: &'static str) -> Result<(), PowerError> {
        let (place, system) = self.system(doing).await?;
        let targets = strings(&system.body["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"]);
        let wanted = match &targets {
            None => wanted.last().copied(),
            Some(targets) => {
                wanted.iter().copied().find(|wanted| targets.iter().any(|known| known == wanted))
            }
        };
        let Some(wanted) = wanted else {
            let said = format!("the next boot can be from {} only", targets.unwrap_or_default().join(", "));
            return Err(PowerError::Unsupported { bmc: self.name(), doing, said });
        };
        let mut boot = json!({ "BootSourceOverrideTarget": wanted, "BootSourceOverrideEnabled": "Once" });
        if let Some(mode) = self.settings.firmware {
            boot["BootSourceOverrideMode"] = match mode {
                BootMode::Bios => "Legacy".into(),
                BootMode::Uefi => "UEFI".into(),
            };
        }
        let change = json!({ "Boot": boot });
        self.exchange(Method::PATCH, place, Some(change), system.etag.as_deref(), doing).await?;
        let (_, system) = self.system(doing).await?;
        let boot = &system.body["Boot"];
        let seen = (boot["BootSourceOverrideTarget"].as_str(), boot["BootSourceOverrideEnabled"].as_str());
        match seen {
            (Some(target), Some("Once" | "Continuous")) if target == wanted => Ok(()),
            (target, enabled) => Err(PowerError::Refused {
                bmc: self.name(),
                doing,
                said: format!(
                    "it agreed, and yet the next boot is {} ({})",
                    text::clean(target.unwrap_or("not said")),
                    text::clean(enabled.unwrap_or("not said"))
                ),
            }),
        }
    }

    /// The system to switch: the one that the settings name, or the only one.
    pub(super) async fn system(&self, doing: &'static str) -> Result<(Url, Answer), PowerError> {
        let collection = self.get(self.place("/redfish/v1/Systems", doing)?, doing).await?.body;
        let members = collection["Members"].as_array().cloned().unwrap_or_default();
        let places: Vec<&str> = members.iter().filter_map(|member| member["@odata.id"].as_str()).collect();
        let id = |place: &str| place.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let place = match (&self.settings.system, places.as_slice()) {
            (Some(wanted), places) => places.iter().find(|place| id(place) == *wanted).copied(),
            (None, [only]) => Some(*only),
            (None, _) => None,
        };
        let Some(place) = place else {
            let known: Vec<_> = places.iter().take(16).map(|place| text::clean(&id(place))).collect();
            return Err(PowerError::BadSettings {
                field: "system",
                value: self.settings.system.clone().unwrap_or_default(),
                problem: format!("{} has the systems {}; name one of them", self.name(), known.join(", ")),
            });
        };
        let place = self.place(place, doing)?;
        let system = self.get(place.clone(), doing).await?;
        Ok((place, system))
    }

    pub(super) async fn get(&self, place: Url, doing: &'static str) -> Result<Answer, PowerError> {
        self.exchange(Method::GET, place, None, None, doing).await
    }

    pub(super) async fn exchange(
        &self,
        method: Method,
        place: Url,
        body: Option<Value>,
        etag: Option<&str>,
        doing: &'static str,
    ) -> Result<Answer, PowerError> {
        // A session that was closed behind our back is opened once more.
        for fresh in [false, true] {
            let mut request = self.http.request(method.clone(), place.clone());
            if let Some(body) = &body {
                request = request.json(body);
            }
            if let Some(etag) = etag {
                request = request.header(header::IF_MATCH, etag);
            }
            let (request, had_session) = self.authorised(request, doing).await?;
            let response = request.send().await.map_err(|error| self.unsent(&error, doing))?;
            if response.status() == StatusCode::UNAUTHORIZED && had_session && !fresh {
                *self.session.lock().await = None;
                continue;
            }
            return self.read(response, doing).await;
        }
        Err(self.wrong_password("its sessions end at once"))
    }

    async fn authorised(
        &self,
        request: RequestBuilder,
        doing: &'static str,
    ) -> Result<(RequestBuilder, bool), PowerError> {
        let Credential { user, password } = &self.credential;
        if self.settings.auth == Auth::Basic {
            return Ok((request.basic_auth(user, Some(password.text())), false));
        }
        let mut session = self.session.lock().await;
        let token = match &*session {
            Some(open) => open.token.clone(),
            None => session.insert(self.log_in(doing).await?).token.clone(),
        };
        Ok((request.header("X-Auth-Token", token), true))
    }

    async fn log_in(&self, doing: &'static str) -> Result<Session, PowerError> {
        let Credential { user, password } = &self.credential;
        let place = self.place("/redfish/v1/SessionService/Sessions", doing)?;
        let body = json!({ "UserName": user, "Password": password.text() });
        let sent = self.http.post(place).json(&body).send().await;
        let response = sent.map_err(|error| self.unsent(&error, doing))?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                let said = "it has no sessions; set `auth` to basic".to_owned();
                return Err(PowerError::Unsupported { bmc: self.name(), doing, said });
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Err(self.wrong_password("it opens no session with that password"));
            }
            _ => {}
        }
        let word = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (token, location) = (word("X-Auth-Token"), word("Location"));
        self.read(response, doing).await?;
        let Some(token) = token else {
            return Err(self.garbled(doing, "a session without a token"));
        };
        let place = location.and_then(|location| self.place(&location, doing).ok());
        Ok(Session { token, place })
    }

    async fn read(&self, mut response: Response, doing: &'static str) -> Result<Answer, PowerError> {
        let status = response.status();
        let etag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unsent(&error, doing))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST_ANSWER {
                return Err(self.garbled(doing, "more than a mebibyte"));
            }
        }
        let body = serde_json::from_slice::<Value>(&bytes);
        if status.is_success() {
            // An order may be answered by nothing at all.
            let body = if bytes.is_empty() {
                Value::Null
            } else {
                body.map_err(|_| self.garbled(doing, "no JSON"))?
            };
            return Ok(Answer { body, etag });
        }
        let said = format!("{status}{}", complaint(&body.unwrap_or_default()));
        let bmc = self.name();
        Err(match status {
            StatusCode::UNAUTHORIZED => self.wrong_password(&said),
            StatusCode::FORBIDDEN => PowerError::Refused {
                bmc,
                doing,
                said: format!("{said}; the user may not do this: give it the operator role"),
            },
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                PowerError::Unsupported { bmc, doing, said }
            }
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => PowerError::Slow { bmc, doing, said },
            status if status.is_redirection() => PowerError::Refused {
                bmc,
                doing,
                said: format!("{said}; it sends us elsewhere: put the right address into `url`"),
            },
            _ => PowerError::Refused { bmc, doing, said },
        })
    }

    /// A place that the service named, which must be on the service itself.
    pub(super) fn place(&self, named: &str, doing: &'static str) -> Result<Url, PowerError> {
        let place = self.base.join(named).ok().filter(|place| place.origin() == self.base.origin());
        place.ok_or_else(|| self.garbled(doing, &format!("a place elsewhere: {named}")))
    }

    fn unsent(&self, error: &reqwest::Error, doing: &'static str) -> PowerError {
        let bmc = self.name();
        if let Some(seen) = self.shown.as_ref().and_then(|shown| shown.stranger()) {
            let said = format!(
                "its SHA-256 is {seen}; if that is really this BMC's, put it into `fingerprint`, otherwise find out who answers there"
            );
            return PowerError::Untrusted { bmc, said };
        }
        let why = root_cause(error);
        if error.is_connect() && self.base.scheme() == "https" && why.to_lowercase().contains("certificate") {
            let said = format!("{why}; pin it with `fingerprint`");
            return PowerError::Untrusted { bmc, said };
        }
        if error.is_connect() {
            return PowerError::Unreachable { bmc, said: why };
        }
        if error.is_timeout() {
            return PowerError::Slow { bmc, doing, said: "it did not answer in time".to_owned() };
        }
        PowerError::Slow { bmc, doing, said: format!("the connection broke ({why})") }
    }

    fn wrong_password(&self, said: &str) -> PowerError {
        let user = text::clean(&self.credential.user);
        PowerError::WrongPassword { bmc: self.name(), user, said: said.to_owned() }
    }

    fn garbled(&self, doing: &'static str, said: &str) -> PowerError {
        PowerError::Garbled { bmc: self.name(), doing, said: text::clean(said) }
    }
}

pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?;
    Some(list.iter().filter_map(Value::as_str).take(64).map(text::clean).collect())
}

/// What a Redfish error says for people.
fn complaint(body: &Value) -> String {
    let error = &body["error"];
    let details = error["@Message.ExtendedInfo"].as_array();
    let said = details
        .and_then(|list| list.iter().find_map(|info| info["Message"].as_str()))
        .or_else(|| error["message"].as_str());
    said.map_or_else(String::new, |said| format!(" ({})", text::clean(said)))
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    text::clean(&cause.to_string())
}
