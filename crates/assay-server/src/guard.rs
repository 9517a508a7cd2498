//! Asks a Proxmox VE cluster whether it counts on a machine, before that machine's disks may be erased.
//!
//! The answer that lets a machine go must be whole: from a cluster that has quorum, two lists that agree, and none of
//! them shortened for want of a right. Everything else is "cannot be asked", and nothing is written. A token goes only
//! to the address that whoever keeps the server's settings wrote beside it, whatever a spec says.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use assay_engine::permits::{Asked, ClusterGuard};
use assay_model::Sha256;
use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::ProxmoxMember;
use assay_model::text::clean_to;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::Value;
use url::Url;

/// Longest that one question may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// Longest reason that is passed on.
const MAX_WHY: usize = 300;

/// The tokens of clusters, each with the only address that it is sent to.
#[derive(Clone, Default)]
pub struct ClusterTokens(Vec<(Url, String)>);

impl fmt::Debug for ClusterTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(url, _)| url.as_str())).finish()
    }
}

/// Tokens of clusters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClusterTokensError {
    /// The file cannot be read.
    #[error("the clusters' tokens in {path} cannot be read: {problem}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        problem: io::Error,
    },
    /// A line is none.
    #[error(
        "line {line} of the clusters' tokens is not `https://HOST:8006 USER@REALM!NAME=SECRET`; make a token with the role PVEAuditor on /"
    )]
    Line {
        /// Its number.
        line: usize,
    },
}

impl ClusterTokens {
    /// Reads lines of an address and a token, separated by space; empty lines and those that begin with `#` say nothing.
    pub fn parse(text: &str) -> Result<Self, ClusterTokensError> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || ClusterTokensError::Line { line: number + 1 };
            let (url, token) = line.split_once(char::is_whitespace).ok_or_else(wrong)?;
            let url = Url::parse(url)
                .ok()
                .filter(|url| url.scheme() == "https" && url.has_host())
                .ok_or_else(wrong)?;
            let token = token.trim();
            let named = token
                .split_once('=')
                .is_some_and(|(name, secret)| name.contains('@') && name.contains('!') && !secret.is_empty());
            if !named || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong());
            }
            tokens.push((url, token.to_owned()));
        }
        Ok(Self(tokens))
    }

    /// Reads them from a file that only the server may read.
    pub fn read(path: &Path) -> Result<Self, ClusterTokensError> {
        let text = std::fs::read_to_string(path)
            .map_err(|problem| ClusterTokensError::File { path: path.display().to_string(), problem })?;
        Self::parse(&text)
    }

    fn for_address(&self, url: &Url) -> Option<&str> {
        let same = |known: &&(Url, String)| {
            known.0.host() == url.host() && known.0.port_or_known_default() == url.port_or_known_default()
        };
        self.0.iter().find(same).map(|(_, token)| token.as_str())
    }
}

/// Asks Proxmox VE clusters.
#[derive(Clone, Debug, Default)]
pub struct ProxmoxGuard {
    tokens: ClusterTokens,
}

impl ProxmoxGuard {
    /// Asks with these tokens.
    pub const fn new(tokens: ClusterTokens) -> Self {
        Self { tokens }
    }

    async fn answer(&self, member: &ProxmoxMember) -> GuardAnswer {
        let told = match self.lists(member).await {
            Ok((status, nodes)) => answer(&member.node, &status, &nodes),
            Err(why) => Err(why),
        };
        told.unwrap_or_else(|why| GuardAnswer::Unreachable {
            node: member.node.clone(),
            why: clean_to(&why, MAX_WHY),
        })
    }

    async fn lists(&self, member: &ProxmoxMember) -> Result<(Value, Value), String> {
        let base =
            Url::parse(&member.url).map_err(|problem| format!("the address does not read: {problem}"))?;
        if base.scheme() != "https" {
            return Err("the address must begin with https://".to_owned());
        }
        let token = self.tokens.for_address(&base).ok_or_else(|| {
            "the server has no token for this address; its administrator adds one to the clusters' tokens"
                .to_owned()
        })?;
        let client = client(member.fingerprint.as_deref())?;
        let get = async |path: &str| -> Result<Value, String> {
            let url = base.join(path).map_err(|problem| problem.to_string())?;
            let request = client.get(url).header("Authorization", format!("PVEAPIToken={token}"));
            let response = request.send().await.map_err(|problem| innermost(&problem))?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("{path} answered {status}; the token needs the role PVEAuditor on /"));
            }
            let body = body(response).await?;
            serde_json::from_slice(&body).map_err(|problem| format!("{path} answered no JSON: {problem}"))
        };
        Ok((get("/api2/json/cluster/status").await?, get("/api2/json/nodes").await?))
    }
}

impl ClusterGuard for ProxmoxGuard {
    fn ask<'a>(&'a self, member: &'a ProxmoxMember) -> Asked<'a> {
        Box::pin(self.answer(member))
    }
}

/// What the two lists say of a node; an error when they cannot be relied on.
fn answer(node: &str, status: &Value, nodes: &Value) -> Result<GuardAnswer, String> {
    let rows = |list: &Value| list.get("data").and_then(Value::as_array).cloned();
    let status = rows(status).ok_or("the cluster's status is no list")?;
    let nodes = rows(nodes).ok_or("the list of nodes is none")?;
    let text =
        |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let flag = |row: &Value, key: &str| match row.get(key) {
        Some(Value::Bool(flag)) => Some(*flag),
        Some(number) => number.as_i64().map(|number| number != 0),
        None => None,
    };
    let wanted = node.to_lowercase();
    let kind =
        |wanted: &'static str| move |row: &&Value| row.get("type").and_then(Value::as_str) == Some(wanted);
    let members: Vec<&Value> = status.iter().filter(kind("node")).collect();
    let live = || GuardAnswer::Live { node: node.to_owned() };

    // Seen online by either is online; and a machine that answers for itself is on.
    let member = members.iter().find(|row| text(row, "name") == wanted);
    let listed = nodes.iter().find(|row| text(row, "node") == wanted);
    let answers =
        member.is_some_and(|row| flag(row, "online") == Some(true) || flag(row, "local") == Some(true));
    if answers || listed.is_some_and(|row| text(row, "status") == "online") {
        return Ok(live());
    }
    let Some(cluster) = status.iter().find(kind("cluster")) else {
        return Err(
            "the machine at this address belongs to no cluster; name another member of the node's".to_owned()
        );
    };
    if flag(cluster, "quorate") != Some(true) {
        return Err("the cluster has no quorum, so what it says of other nodes may be old".to_owned());
    }
    let names =
        |rows: &[&Value], key: &str| -> BTreeSet<String> { rows.iter().map(|row| text(row, key)).collect() };
    let known = names(&members, "name");
    let count = cluster.get("nodes").and_then(Value::as_u64);
    if known.is_empty()
        || known != names(&nodes.iter().collect::<Vec<_>>(), "node")
        || count != Some(known.len() as u64)
    {
        return Err(
            "the cluster's lists of its nodes do not agree; the token may not see all of them".to_owned()
        );
    }
    match (member, listed) {
        (None, None) => Ok(GuardAnswer::NotMember { node: node.to_owned() }),
        (Some(member), Some(listed))
            if flag(member, "online") == Some(false) && text(listed, "status") == "offline" =>
        {
            Ok(GuardAnswer::Offline { node: node.to_owned() })
        }
        _ => Err("the cluster does not say whether the node is online".to_owned()),
    }
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|problem| innermost(&problem))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(format!("the answer is longer than {MAX_ANSWER} bytes"));
        }
    }
    Ok(body)
}

fn client(fingerprint: Option<&str>) -> Result<reqwest::Client, String> {
    let provider = Arc::new(ring::default_provider());
    // Another part of the process may have chosen the same already.
    let _ = CryptoProvider::install_default(ring::default_provider());
    let mut builder = reqwest::Client::builder()
        .timeout(LIMIT)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")));
    if let Some(fingerprint) = fingerprint {
        let expected = parse_fingerprint(fingerprint)
            .ok_or("the fingerprint in the spec is not a SHA-256 (64 hexadecimal digits)")?;
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|problem| problem.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { expected, provider }))
            .with_no_client_auth();
        builder = builder.tls_backend_preconfigured(tls);
    }
    builder.build().map_err(|problem| innermost(&problem))
}

/// 64 digits, with or without colons, as Proxmox shows them.
fn parse_fingerprint(text: &str) -> Option<Sha256> {
    let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    digits.parse().ok()
}

/// What is at the bottom of an error says most.
fn innermost(problem: &dyn std::error::Error) -> String {
    let mut innermost = problem;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

/// Accepts one certificate, whose key the other side must prove to hold.
#[derive(Debug)]
struct Pinned {
    expected: Sha256,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Sha256::of(end_entity) == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
