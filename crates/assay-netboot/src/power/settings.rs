//! How a machine is switched, as a host's `power` setting says it. It holds no password: only the name of one.

use std::net::{IpAddr, Ipv4Addr};

use assay_model::{Mac, Sha256};
use serde::{Deserialize, Serialize};
use url::Url;

use super::PowerError;

/// A host's `power` setting, for the methods that this crate drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum PowerSettings {
    /// A BMC that speaks IPMI 2.0 over the network.
    Ipmi(IpmiSettings),
    /// A BMC that speaks Redfish.
    Redfish(RedfishSettings),
    /// A network card that wakes its machine. It cannot switch off.
    Wol(WolSettings),
}

/// A BMC that speaks IPMI 2.0 (RMCP+).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpmiSettings {
    /// Its address or name.
    pub address: String,
    /// Its UDP port.
    #[serde(default = "ipmi_port")]
    pub port: u16,
    /// The name of its password in the runner's `bmc-secrets.toml`.
    pub credential: String,
    /// Asks for this cipher suite (3 or 17) instead of finding out. Some BMCs do not say which they have, which
    /// costs ten seconds for each question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<u8>,
    /// The privilege that a session asks for; some BMCs have an operator for switching only.
    #[serde(default)]
    pub privilege: Privilege,
    /// What the machine boots with; without it, the BMC's own default counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<BootMode>,
    /// The machine's serial port that the BMC carries (serial over LAN), and its speed; `ttyS0,115200` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// How long one change of power may take.
    #[serde(default = "ipmi_timeout")]
    pub timeout_s: u32,
}

/// A BMC that speaks Redfish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedfishSettings {
    /// Where it is: `https://10.20.0.31`.
    pub url: String,
    /// Which of its systems; needed only where there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The name of its password in the runner's `bmc-secrets.toml`.
    pub credential: String,
    /// How the password is shown.
    #[serde(default)]
    pub auth: Auth,
    /// The SHA-256 of its certificate, in hexadecimal digits with or without colons. With it, that one certificate
    /// is trusted and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Trust any certificate, or none at all (`http://`): whoever is on the wire gets the password.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// What the machine boots with; without it, what it is set to counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<BootMode>,
    /// The machine's serial port that the BMC carries, and its speed, such as `ttyS1,115200`. With it, the console is read
    /// by IPMI (serial over LAN) at the same host with the same password: Redfish itself carries none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// How long one change of power may take.
    #[serde(default = "redfish_timeout")]
    pub timeout_s: u32,
}

/// A network card that wakes its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WolSettings {
    /// The card.
    pub mac: Mac,
    /// Where the packet is sent: the whole segment, unless a router carries it on.
    #[serde(default = "everybody")]
    pub broadcast: Ipv4Addr,
    /// The UDP port; cards do not look at it, routers may.
    #[serde(default = "discard")]
    pub port: u16,
}

/// What a session may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    /// Everything; what ipmitool asks for.
    #[default]
    Administrator,
    /// Switching, but no settings.
    Operator,
}

/// How a password is shown to a Redfish service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// With each request.
    #[default]
    Basic,
    /// Once, for a session that is closed afterwards.
    Session,
}

/// What a machine boots with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootMode {
    /// BIOS, or UEFI pretending to be one.
    Bios,
    /// UEFI.
    Uefi,
}

impl PowerSettings {
    /// Refuses what cannot work, without asking anybody.
    ///
    /// # Errors
    /// [`PowerError::BadSettings`], naming the field.
    pub fn check(&self) -> Result<(), PowerError> {
        match self {
            Self::Ipmi(ipmi) => ipmi.check(),
            Self::Redfish(redfish) => redfish.check(),
            Self::Wol(wol) => wol.check(),
        }
    }
}

impl IpmiSettings {
    /// The usual port, cipher suite and limits.
    pub fn new(address: impl Into<String>, credential: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            port: ipmi_port(),
            credential: credential.into(),
            cipher_suite: None,
            privilege: Privilege::default(),
            firmware: None,
            console: None,
            timeout_s: ipmi_timeout(),
        }
    }

    pub(super) fn check(&self) -> Result<(), PowerError> {
        check_host("address", &self.address)?;
        check_port("port", self.port)?;
        check_credential(&self.credential)?;
        check_timeout(self.timeout_s)?;
        if let Some(console) = &self.console {
            check_console(console)?;
        }
        match self.cipher_suite {
            // The others are broken, or without encryption, or both.
            Some(suite) if ![3, 8, 12, 17].contains(&suite) => {
                bad("cipher_suite", &suite, "give 3 or 17, or leave it out")
            }
            _ => Ok(()),
        }
    }
}

impl RedfishSettings {
    /// The host that the password is for.
    pub(super) fn host(&self) -> Result<String, PowerError> {
        let url = self.base()?;
        // `[::1]` is how an address is written in a URL; elsewhere it has no brackets.
        let host = url.host_str().unwrap_or_default();
        Ok(host.trim_start_matches('[').trim_end_matches(']').to_owned())
    }

    pub(super) fn base(&self) -> Result<Url, PowerError> {
        let url =
            Url::parse(&self.url).or_else(|_| bad("url", &self.url, "must look like https://10.20.0.31"))?;
        if url.password().is_some() {
            return bad(
                "url",
                &"(with a password in it)",
                "passwords belong into the runner's bmc-secrets.toml",
            );
        }
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !plain || !url.username().is_empty() || url.host_str().is_none() {
            return bad("url", &self.url, "must be scheme, host and port alone, such as https://10.20.0.31");
        }
        Ok(url)
    }

    /// The pinned certificate.
    pub(super) fn pinned(&self) -> Result<Option<Sha256>, PowerError> {
        let Some(text) = &self.fingerprint else { return Ok(None) };
        let problem = "must be the 64 hexadecimal digits of the certificate's SHA-256";
        text.replace(':', "").parse().map(Some).or_else(|_| bad("fingerprint", text, problem))
    }

    fn check(&self) -> Result<(), PowerError> {
        let url = self.base()?;
        check_credential(&self.credential)?;
        check_timeout(self.timeout_s)?;
        let pinned = self.pinned()?;
        match url.scheme() {
            "https" if pinned.is_some() && self.insecure => {
                return bad("insecure", &true, "contradicts `fingerprint`; leave one of them out");
            }
            "https" => {}
            "http" if self.insecure && pinned.is_none() => {}
            "http" => {
                let problem = "sends the password in clear text; use https, or say insecure = true";
                return bad("url", &self.url, problem);
            }
            _ => return bad("url", &self.url, "must begin with https://"),
        }
        if let Some(console) = &self.console {
            check_console(console)?;
        }
        match &self.system {
            Some(id) if id.is_empty() || id.len() > 128 || !id.chars().all(is_id_char) => {
                bad("system", id, "must be the Id of a system, such as 1 or System.Embedded.1")
            }
            _ => Ok(()),
        }
    }
}

impl WolSettings {
    fn check(&self) -> Result<(), PowerError> {
        check_port("port", self.port)?;
        if !self.mac.is_unicast() {
            return bad(
                "mac",
                &self.mac,
                "is the address of many cards; give the one of the card that wakes",
            );
        }
        Ok(())
    }
}

pub(super) fn bad<T>(field: &'static str, value: &dyn ToString, problem: &str) -> Result<T, PowerError> {
    Err(PowerError::BadSettings { field, value: value.to_string(), problem: problem.to_owned() })
}

/// An address, or a name that no program takes for an option.
fn check_host(field: &'static str, host: &str) -> Result<(), PowerError> {
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    if is_name || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    bad(field, &host, "must be the address or the host name of the BMC")
}

fn check_port(field: &'static str, port: u16) -> Result<(), PowerError> {
    if port == 0 { bad(field, &port, "must be from 1 to 65535") } else { Ok(()) }
}

fn check_credential(name: &str) -> Result<(), PowerError> {
    if !name.is_empty() && name.len() <= 64 && name.chars().all(is_id_char) {
        return Ok(());
    }
    bad("credential", &name, "must be the name of an entry in the runner's bmc-secrets.toml, such as rack1")
}

/// `ttyS1,115200`, as a kernel and memtest86+ take it.
fn check_console(console: &str) -> Result<(), PowerError> {
    let port = console.strip_prefix("ttyS").and_then(|rest| rest.split_once(','));
    let known = |(port, speed): (&str, &str)| {
        ["0", "1", "2", "3"].contains(&port)
            && ["9600", "19200", "38400", "57600", "115200", "230400"].contains(&speed)
    };
    if port.is_some_and(known) {
        return Ok(());
    }
    bad("console", &console, "must be a serial port and its speed, such as ttyS1,115200")
}

fn check_timeout(seconds: u32) -> Result<(), PowerError> {
    if (5..=900).contains(&seconds) {
        return Ok(());
    }
    bad("timeout_s", &seconds, "must be from 5 to 900")
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn ipmi_port() -> u16 {
    623
}

fn ipmi_timeout() -> u32 {
    90
}

fn redfish_timeout() -> u32 {
    120
}

fn everybody() -> Ipv4Addr {
    Ipv4Addr::BROADCAST
}

fn discard() -> u16 {
    9
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::PowerSettings;

    fn verdict(value: &Value) -> String {
        match serde_json::from_value::<PowerSettings>(value.clone()) {
            Err(error) => format!("does not read: {error}"),
            Ok(settings) => match settings.check() {
                Ok(()) => "fine".to_owned(),
                Err(error) => error.to_string(),
            },
        }
    }

    #[test]
    fn what_can_work_is_taken() {
        let digest = "AB:".repeat(31) + "AB";
        for settings in [
            json!({"method": "ipmi", "address": "10.20.0.31", "credential": "rack1"}),
            json!({"method": "ipmi", "address": "bmc-3.example.org", "port": 6230, "credential": "rack1",
                   "cipher_suite": 17, "privilege": "operator", "firmware": "uefi", "console": "ttyS1,57600",
                   "timeout_s": 30}),
            json!({"method": "ipmi", "address": "fd00::31", "credential": "rack1"}),
            json!({"method": "redfish", "url": "https://10.20.0.31", "credential": "rack1"}),
            json!({"method": "redfish", "url": "https://bmc:8443/", "system": "System.Embedded.1",
                   "credential": "rack1", "auth": "session", "fingerprint": digest, "firmware": "bios"}),
            json!({"method": "redfish", "url": "http://127.0.0.1:8000", "credential": "lab", "insecure": true}),
            json!({"method": "wol", "mac": "0c:c4:7a:12:34:56"}),
            json!({"method": "wol", "mac": "0c:c4:7a:12:34:56", "broadcast": "10.20.0.255", "port": 7}),
        ] {
            assert_eq!(verdict(&settings), "fine", "{settings}");
        }
    }

    #[test]
    fn what_cannot_is_refused_by_name() {
        let verdicts: Vec<_> = [
            json!({"method": "ipmi", "address": "-oProxy", "credential": "rack1"}),
            json!({"method": "ipmi", "address": "", "credential": "rack1"}),
            json!({"method": "ipmi", "address": "10.0.0.1", "credential": "../x"}),
            json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1", "port": 0}),
            json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1", "cipher_suite": 0}),
            json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1", "timeout_s": 1}),
            json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1", "console": "ttyS0 || chain x"}),
            json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1", "password": "x"}),
            json!({"method": "redfish", "url": "http://10.0.0.1", "credential": "rack1"}),
            json!({"method": "redfish", "url": "https://a:b@10.0.0.1", "credential": "rack1"}),
            json!({"method": "redfish", "url": "https://10.0.0.1/redfish/v1", "credential": "rack1"}),
            json!({"method": "redfish", "url": "10.0.0.1", "credential": "rack1"}),
            json!({"method": "redfish", "url": "https://10.0.0.1", "credential": "rack1", "fingerprint": "abc"}),
            json!({"method": "redfish", "url": "https://10.0.0.1", "credential": "rack1", "system": "../1"}),
            json!({"method": "wol", "mac": "01:00:5e:00:00:01"}),
            json!({"method": "snmp"}),
        ]
        .iter()
        .map(verdict)
        .collect();
        insta::assert_snapshot!(verdicts.join("\n"), @r#"
        power setting `address` = `-oProxy`: must be the address or the host name of the BMC
        power setting `address` = ``: must be the address or the host name of the BMC
        power setting `credential` = `../x`: must be the name of an entry in the runner's bmc-secrets.toml, such as rack1
        power setting `port` = `0`: must be from 1 to 65535
        power setting `cipher_suite` = `0`: give 3 or 17, or leave it out
        power setting `timeout_s` = `1`: must be from 5 to 900
        power setting `console` = `ttyS0 || chain x`: must be a serial port and its speed, such as ttyS1,115200
        does not read: unknown field `password`, expected one of `address`, `port`, `credential`, `cipher_suite`, `privilege`, `firmware`, `console`, `timeout_s`
        power setting `url` = `http://10.0.0.1`: sends the password in clear text; use https, or say insecure = true
        power setting `url` = `(with a password in it)`: passwords belong into the runner's bmc-secrets.toml
        power setting `url` = `https://10.0.0.1/redfish/v1`: must be scheme, host and port alone, such as https://10.20.0.31
        power setting `url` = `10.0.0.1`: must look like https://10.20.0.31
        power setting `fingerprint` = `abc`: must be the 64 hexadecimal digits of the certificate's SHA-256
        power setting `system` = `../1`: must be the Id of a system, such as 1 or System.Embedded.1
        power setting `mac` = `01:00:5e:00:00:01`: is the address of many cards; give the one of the card that wakes
        does not read: unknown variant `snmp`, expected one of `ipmi`, `redfish`, `wol`
        "#);
    }
}
