//! Asking a registry: where it is, who we are to it, and what it says.
//!
//! A registry answers with its own words, sends us elsewhere for tokens and for layers, and may be anybody's. So answers are
//! sized, nothing goes from HTTPS to plain HTTP, and errors carry no addresses, since those of layers are signed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Method, Response, StatusCode, header, redirect};
use serde::Deserialize;
use url::{Host, Url};

use crate::BringFailure;
use crate::credentials::{Credentials, Login};
use crate::manifest::ACCEPT;
use crate::reference::{Digest, Reference};
use crate::store::MANIFEST;

const CONNECT: Duration = Duration::from_secs(20);
/// The longest that nothing may come of an answer.
const SILENCE: Duration = Duration::from_mins(1);
/// The longest token's answer, in bytes.
const TOKEN: usize = 1 << 20;
/// How many tags are asked for at once.
const TAGS_A_PAGE: usize = 1000;
/// Of a registry's own words, in characters.
const WORDS: usize = 300;

/// Where registries are. Docker's own is known, others are found by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    named: BTreeMap<String, Url>,
}

/// What came from outside, in bytes of the answers' bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Layers and configurations.
    pub blob_bytes: u64,
    /// How many of those.
    pub blobs: u64,
    /// Manifests and lists of them. Whether a tag still means the same is asked without a body.
    pub manifest_bytes: u64,
    /// Every request to a registry: questions, tokens, manifests and blobs.
    pub requests: u64,
}

/// Counts while it is fetched.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    blob_bytes: AtomicU64,
    blobs: AtomicU64,
    manifest_bytes: AtomicU64,
    requests: AtomicU64,
}

/// What a registry did not do.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) class: BringFailure,
    pub(crate) message: String,
}

/// A manifest as it came.
pub(crate) struct RawManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// One repository in a registry.
pub(crate) struct Upstream<'a> {
    http: &'a reqwest::Client,
    base: Url,
    reference: &'a Reference,
    login: Option<&'a Login>,
    /// How we are known there, once it has asked.
    known_as: Mutex<Option<KnownAs>>,
    counters: Arc<Counters>,
}

/// What is sent along.
#[derive(Clone)]
enum KnownAs {
    /// A token for this repository.
    Token(String),
    /// User and password themselves.
    Login,
}

impl Registries {
    /// Says where a registry is: `NAME=URL`, such as `docker.io=http://127.0.0.1:5000`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let (name, url) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not NAME=URL, such as docker.io=https://mirror.example"))?;
        let url = Url::parse(url).map_err(|error| format!("`{url}` is no address: {error}"))?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !is_plain {
            return Err(format!(
                "the address of {name} has to be like https://mirror.example, with neither user nor password (those are in \
                 the file of --registry-auth)"
            ));
        }
        self.named.insert(name.to_ascii_lowercase(), url);
        Ok(())
    }

    /// Where a registry is. A recipe may name any that the world knows, and none within this machine or its network.
    fn address(&self, name: &str) -> Result<Url, Trouble> {
        if let Some(url) = self.named.get(name) {
            return Ok(url.clone());
        }
        let host = if name == "docker.io" { "registry-1.docker.io" } else { name };
        let url = Url::parse(&format!("https://{host}")).map_err(|error| Trouble {
            class: BringFailure::NotFound,
            message: format!("{name}: {error}"),
        })?;
        // Asked of the address and not of the name: `127.1` is an address as well.
        let is_of_the_world = match url.host() {
            Some(Host::Domain(host)) => host.contains('.') && !host.ends_with(".localhost"),
            _ => false,
        };
        if is_of_the_world {
            return Ok(url);
        }
        Err(Trouble {
            class: BringFailure::Denied,
            message: format!(
                "a registry by the name of {name} is asked only where the runner was told of it (--registry \
                 {name}=http://…)"
            ),
        })
    }
}

impl Counters {
    pub(crate) fn read(&self) -> Fetched {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Fetched {
            blob_bytes: of(&self.blob_bytes),
            blobs: of(&self.blobs),
            manifest_bytes: of(&self.manifest_bytes),
            requests: of(&self.requests),
        }
    }
}

impl std::ops::AddAssign for Fetched {
    fn add_assign(&mut self, other: Self) {
        self.blob_bytes += other.blob_bytes;
        self.blobs += other.blobs;
        self.manifest_bytes += other.manifest_bytes;
        self.requests += other.requests;
    }
}

/// How registries are asked.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let policy = redirect::Policy::custom(|attempt| {
        let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if was_safe && attempt.url().scheme() != "https" {
            attempt.error("it sends us from HTTPS to an address without")
        } else if attempt.previous().len() > 5 {
            attempt.error("it sends us on and on")
        } else {
            attempt.follow()
        }
    });
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(policy)
        .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
        .build()
}

impl<'a> Upstream<'a> {
    pub(crate) fn of(
        reference: &'a Reference,
        registries: &Registries,
        credentials: &'a Credentials,
        http: &'a reqwest::Client,
    ) -> Result<Self, Trouble> {
        Ok(Self {
            http,
            base: registries.address(&reference.registry)?,
            reference,
            login: credentials.of(&reference.registry),
            known_as: Mutex::default(),
            counters: Arc::default(),
        })
    }

    pub(crate) fn fetched(&self) -> Fetched {
        self.counters.read()
    }

    /// What the name means today; none where the registry does not say it without a body.
    pub(crate) async fn meaning(&self) -> Result<Option<Digest>, Trouble> {
        let path = format!("manifests/{}", self.reference.which.as_str());
        let response = match self.ask(Method::HEAD, &path, Some(ACCEPT)).await {
            Ok(response) => response,
            // Some know no questions without a body.
            Err(Trouble { class: BringFailure::Other, .. }) => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(digest.and_then(Digest::parse))
    }

    /// A manifest: of the name, or the one with this digest.
    pub(crate) async fn manifest(&self, wanted: Option<&Digest>) -> Result<RawManifest, Trouble> {
        let which = wanted.map_or(self.reference.which.as_str(), Digest::as_str);
        let response = self.ask(Method::GET, &format!("manifests/{which}"), Some(ACCEPT)).await?;
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = sized(response, MANIFEST).await?;
        self.counters.manifest_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let digest = Digest::of(&bytes);
        if wanted.is_some_and(|wanted| *wanted != digest) {
            return Err(trouble(
                BringFailure::Other,
                format!("asked for {which}, the registry gave {digest}"),
            ));
        }
        Ok(RawManifest { digest, media_type, bytes })
    }

    /// A blob, to be read as it comes. What goes wrong on the way is left in `broken`.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        broken: Arc<Mutex<Option<Trouble>>>,
    ) -> Result<reqwest::Body, Trouble> {
        let response = self.ask(Method::GET, &format!("blobs/{digest}"), None).await?;
        self.counters.blobs.fetch_add(1, Ordering::Relaxed);
        let counters = Arc::clone(&self.counters);
        let counted = response.bytes_stream().map(move |piece| match piece {
            Ok(piece) => {
                counters.blob_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(piece)
            }
            Err(error) => {
                let trouble = unreached(error);
                let message = trouble.message.clone();
                *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                Err(std::io::Error::other(message))
            }
        });
        Ok(reqwest::Body::wrap_stream(counted))
    }

    /// The tags of the repository, in the registry's order, page by page; at most `most`, and whether there were more.
    pub(crate) async fn tags(&self, most: usize) -> Result<(Vec<String>, bool), Trouble> {
        #[derive(Deserialize)]
        struct Page {
            // Null where there is none.
            tags: Option<Vec<String>>,
        }
        let mut all: Vec<String> = Vec::new();
        let mut path = format!("tags/list?n={TAGS_A_PAGE}");
        loop {
            let response = self.ask(Method::GET, &path, None).await?;
            let link = response.headers().get(header::LINK).and_then(|value| value.to_str().ok());
            let next = link.and_then(next_page);
            let bytes = sized(response, MANIFEST).await?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|error| {
                trouble(BringFailure::Other, format!("the registry's list of tags does not read: {error}"))
            })?;
            let tags = page.tags.unwrap_or_default();
            let is_empty = tags.is_empty();
            all.extend(tags);
            if all.len() > most {
                all.truncate(most);
                return Ok((all, true));
            }
            match next {
                // A page without anything that leads to another one would go on for ever.
                Some(next) if !is_empty => path = format!("tags/list?{next}"),
                _ => return Ok((all, false)),
            }
        }
    }

    async fn ask(&self, method: Method, path: &str, accept: Option<&str>) -> Result<Response, Trouble> {
        let url =
            format!("{}/v2/{}/{path}", self.base.as_str().trim_end_matches('/'), self.reference.repository);
        let mut asked_who = false;
        loop {
            let mut request = self.http.request(method.clone(), &url);
            if let Some(accept) = accept {
                request = request.header(header::ACCEPT, accept);
            }
            let known_as = self.known_as.lock().unwrap_or_else(PoisonError::into_inner).clone();
            request = match (known_as, self.login) {
                (Some(KnownAs::Token(token)), _) => request.bearer_auth(token),
                (Some(KnownAs::Login), Some(login)) => request.basic_auth(&login.user, Some(&login.password)),
                _ => request,
            };
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            let response = request.send().await.map_err(unreached)?;
            if response.status().is_success() {
                return Ok(response);
            }
            if response.status() == StatusCode::UNAUTHORIZED && !asked_who {
                asked_who = true;
                let known_as = self.introduce(&response).await?;
                *self.known_as.lock().unwrap_or_else(PoisonError::into_inner) = Some(known_as);
                continue;
            }
            return Err(self.refused(response).await);
        }
    }

    /// Answers the question who we are.
    async fn introduce(&self, response: &Response) -> Result<KnownAs, Trouble> {
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> =
            challenges.filter_map(|value| Challenge::read(value.to_str().ok()?)).collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = of("bearer") {
            return self.token(bearer).await.map(KnownAs::Token);
        }
        if of("basic").is_some() && self.login.is_some() {
            return Ok(KnownAs::Login);
        }
        Err(trouble(BringFailure::Denied, self.needs_login()))
    }

    async fn token(&self, challenge: &Challenge) -> Result<String, Trouble> {
        let name = &self.reference.registry;
        let bad =
            |why: &str| trouble(BringFailure::Unreachable, format!("{name} sends us for a token {why}"));
        let realm = challenge.parameters.get("realm").ok_or_else(|| bad("to no address"))?;
        let mut url = Url::parse(realm).map_err(|_| bad("to what is no address"))?;
        if url.scheme() != "https" && self.base.scheme() == "https" {
            return Err(bad("to an address without HTTPS"));
        }
        if let Some(service) = challenge.parameters.get("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        // What is wanted, and not what the registry says that we want.
        let scope = format!("repository:{}:pull", self.reference.repository);
        url.query_pairs_mut().append_pair("scope", &scope);
        let mut request = self.http.get(url);
        if let Some(login) = self.login {
            request = request.basic_auth(&login.user, Some(&login.password));
        }
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let response = request.send().await.map_err(unreached)?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(trouble(BringFailure::Denied, self.needs_login()));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(trouble(
                    BringFailure::RateLimited,
                    format!("{name} has had enough of us for now"),
                ));
            }
            status => return Err(bad(&format!("and that answers {status}"))),
        }
        let bytes = sized(response, TOKEN).await?;
        // Both names may be in it, with the same value.
        let value: HashMap<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|key| value.get(*key)?.as_str());
        token.map(str::to_owned).ok_or_else(|| bad("and there is none in the answer"))
    }

    fn needs_login(&self) -> String {
        let name = &self.reference.registry;
        if self.login.is_some() {
            format!("{name} does not give it to the user that the runner has for it")
        } else {
            format!(
                "{name} does not give it without a login, and the runner has none for it (--registry-auth)"
            )
        }
    }

    /// What an answer that is no success means.
    async fn refused(&self, response: Response) -> Trouble {
        let name = &self.reference.registry;
        let status = response.status();
        let said = said(response).await;
        let (class, message) = match status {
            StatusCode::NOT_FOUND => (BringFailure::NotFound, format!("{name} has no such image{said}")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                (BringFailure::Denied, self.needs_login() + &said)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                (BringFailure::RateLimited, format!("{name} has had enough of us for now{said}"))
            }
            status if status.is_server_error() => {
                (BringFailure::Unreachable, format!("{name} is out of order ({status}){said}"))
            }
            status => (BringFailure::Other, format!("{name} answers {status}{said}")),
        };
        Trouble { class, message }
    }
}

/// What a registry asks of whom it does not know.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// In small letters.
    scheme: String,
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Reads one challenge: `Bearer realm="https://…",service="…"`.
    fn read(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = BTreeMap::new();
        while let Some((name, value)) = rest.split_once('=') {
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            parameters.insert(name.trim().to_ascii_lowercase(), value.to_owned());
            rest = after.trim_start().strip_prefix(',').unwrap_or_default();
        }
        Some(Self { scheme: scheme.to_ascii_lowercase(), parameters })
    }
}

/// The question for the next page, of `</v2/a/b/tags/list?last=x&n=100>; rel="next"`. Only what is asked is taken from it: where it
/// is asked does not change.
fn next_page(link: &str) -> Option<String> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.contains("rel=\"next\"") || rest.contains("rel=next");
    address.split_once('?').map(|(_, asked)| asked.to_owned()).filter(|_| is_next)
}

/// An error and what is behind it, without the address that was asked.
pub(crate) fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(next) = source {
        let next_words = next.to_string();
        if !words.contains(&next_words) {
            words = format!("{words}: {next_words}");
        }
        source = next.source();
    }
    words
}

fn unreached(error: reqwest::Error) -> Trouble {
    let class = if error.is_timeout() { BringFailure::TimedOut } else { BringFailure::Unreachable };
    trouble(class, format!("the registry could not be reached: {}", words(error)))
}

fn trouble(class: BringFailure, message: String) -> Trouble {
    Trouble { class, message }
}

/// A body that is not longer than `most`.
async fn sized(response: Response, most: usize) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(unreached)?);
        if bytes.len() > most {
            return Err(trouble(
                BringFailure::Other,
                format!("the registry's answer is longer than {most} bytes"),
            ));
        }
    }
    Ok(bytes)
}

/// The registry's own words, where it has some: `{"errors":[{"message":…}]}`.
async fn said(response: Response) -> String {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        message: String,
    }
    let bytes = sized(response, TOKEN).await.unwrap_or_default();
    let errors: Option<Errors> = serde_json::from_slice(&bytes).ok();
    let message = errors.and_then(|errors| errors.errors.into_iter().next()).map(|error| error.message);
    let message = message.filter(|message| !message.is_empty());
    message.map_or_else(String::new, |message| {
        format!(" (it says: {})", message.chars().filter(|c| !c.is_control()).take(WORDS).collect::<String>())
    })
}

#[cfg(test)]
mod tests {
    use super::{Challenge, Registries};

    #[test]
    fn a_challenge_is_read_with_commas_in_its_values() {
        let text = r#"Bearer realm="https://auth.docker.io/token", service="registry.docker.io",scope="repository:a/b:pull,push",error=x"#;
        let challenge = Challenge::read(text).unwrap();
        insta::assert_debug_snapshot!(challenge, @r#"
        Challenge {
            scheme: "bearer",
            parameters: {
                "error": "x",
                "realm": "https://auth.docker.io/token",
                "scope": "repository:a/b:pull,push",
                "service": "registry.docker.io",
            },
        }
        "#);
        assert_eq!(Challenge::read("Basic").unwrap().scheme, "basic");
        assert_eq!(Challenge::read(r#"Bearer realm="https://x"#), None);
    }

    #[test]
    fn the_next_page_is_asked_of_the_same_registry() {
        let of = |link: &str| super::next_page(link);
        let asked = Some("last=1.9&n=1000".to_owned());
        assert_eq!(of("</v2/library/nginx/tags/list?last=1.9&n=1000>; rel=\"next\""), asked);
        assert_eq!(of("<https://elsewhere.example/v2/x/tags/list?last=1.9&n=1000>; rel=\"next\""), asked);
        assert_eq!(of("</v2/x/tags/list?n=5>; rel=\"prev\""), None);
        assert_eq!(of("next"), None);
    }

    #[test]
    fn a_registry_is_where_it_was_said_to_be_or_where_its_name_leads() {
        let mut registries = Registries::default();
        registries.add("mirror.lan:5000=http://10.0.0.5:5000").unwrap();
        let shown = |name: &str| match registries.address(name) {
            Ok(url) => url.to_string(),
            Err(trouble) => trouble.message,
        };
        let names =
            ["docker.io", "ghcr.io", "reg.example:5000", "mirror.lan:5000", "localhost:5000", "127.1"];
        insta::assert_snapshot!(names.map(shown).join("\n"), @"
        https://registry-1.docker.io/
        https://ghcr.io/
        https://reg.example:5000/
        http://10.0.0.5:5000/
        a registry by the name of localhost:5000 is asked only where the runner was told of it (--registry localhost:5000=http://…)
        a registry by the name of 127.1 is asked only where the runner was told of it (--registry 127.1=http://…)
        ");
    }

    #[test]
    fn an_address_with_a_password_is_refused_without_repeating_it() {
        let mut registries = Registries::default();
        let error = registries.add("docker.io=https://me:hidden@mirror.example").unwrap_err();
        assert!(error.contains("--registry-auth") && !error.contains("hidden"), "{error}");
        assert!(registries.add("docker.io").unwrap_err().contains("NAME=URL"));
        assert!(registries.add("docker.io=ftp://x").unwrap_err().contains("https://mirror.example"));
    }
}
