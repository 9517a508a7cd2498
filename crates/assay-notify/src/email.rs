//! Email over SMTP: plain text and HTML, one thread per run.
//!
//! Sent in steps rather than by one call of the library, for two reasons: the connection goes to an
//! address that was checked, and it is known whether the message had begun to leave when something
//! broke. Before that nothing was delivered; after it nobody knows.

use std::time::{Duration, UNIX_EPOCH};

use assay_model::Micros;
use assay_model::text::clean_to;
use lettre::address::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use crate::address;
use crate::error::DeliveryError;
use crate::message::Message;
use crate::news::Notification;
use crate::secret::Secret;

/// How long everything before the message itself may take.
const PREPARE: Duration = Duration::from_secs(30);
/// How long a server may look at a message before it says yes or no.
const ACCEPT: Duration = Duration::from_mins(1);
/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How much of a server's answer is shown.
const MAX_SAID: usize = 160;

/// Where to, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Email {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) from: Mailbox,
    pub(crate) to: Vec<Mailbox>,
    pub(crate) allow_internal: bool,
}

/// How the connection is protected. Where TLS is asked for, nothing is sent without it.
#[derive(Clone)]
pub(crate) enum Security {
    /// From the first byte (port 465).
    Tls(TlsParameters),
    /// Switched on by STARTTLS (port 587).
    Starttls(TlsParameters),
    /// Not at all (port 25, a relay of one's own).
    None,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls(_) => "Tls",
            Self::Starttls(_) => "Starttls",
            Self::None => "None",
        })
    }
}

impl Email {
    pub(crate) async fn deliver(
        &self,
        news: &Notification,
        message: &Message,
        now: Micros,
    ) -> Result<String, DeliveryError> {
        let bytes = self.write(news, message, now)?;
        let mut connection = tokio::time::timeout(PREPARE, self.prepare())
            .await
            .map_err(|_| self.unreachable(format!("no answer within {} s", PREPARE.as_secs())))??;
        let sent = tokio::time::timeout(ACCEPT, connection.message(&bytes)).await;
        let host = self.host.clone();
        match sent {
            Ok(Ok(answer)) => {
                // Accepted is accepted, however the farewell goes.
                let _ = tokio::time::timeout(CONNECT, connection.quit()).await;
                let said = answer.message().collect::<Vec<_>>().join(" ");
                Ok(format!("accepted by {host}: {}", clean_to(&said, MAX_SAID)))
            }
            Ok(Err(e)) if e.status().is_some() => Err(self.refused("the message", &e)),
            Ok(Err(e)) => Err(DeliveryError::Cut { host, why: clean_to(&innermost(&e), MAX_SAID) }),
            Err(_) => {
                Err(DeliveryError::Cut { host, why: format!("no answer within {} s", ACCEPT.as_secs()) })
            }
        }
    }

    /// Everything up to the moment in which the server waits for the message.
    async fn prepare(&self) -> Result<AsyncSmtpConnection, DeliveryError> {
        let addresses = address::resolve(&self.host, self.port, self.allow_internal).await?;
        let hello = hello();
        let wrapped = match &self.security {
            Security::Tls(tls) => Some(tls.clone()),
            Security::Starttls(_) | Security::None => None,
        };
        let connected =
            AsyncSmtpConnection::connect_tokio1(&addresses[..], Some(CONNECT), &hello, wrapped, None).await;
        let mut connection = connected.map_err(|e| self.unready("the connection", &e))?;
        if let Security::Starttls(tls) = &self.security {
            connection.starttls(tls.clone(), &hello).await.map_err(|e| self.unready("STARTTLS", &e))?;
        }
        if let Some((user, Secret(password))) = &self.login {
            let credentials = Credentials::new(user.clone(), password.clone());
            let signed_in = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            signed_in.map_err(|e| self.unready("the sign-in", &e))?;
        }
        let sender = Mail::new(Some(self.from.email.clone()), Vec::new());
        let taken = connection.command(sender).await;
        taken.map_err(|e| self.unready(&format!("the sender {}", self.from.email), &e))?;
        for to in &self.to {
            // One refused recipient stops the message: half-told is hard to see and hard to repeat.
            let taken = connection.command(Rcpt::new(to.email.clone(), Vec::new())).await;
            taken.map_err(|e| self.unready(&format!("the recipient {}", to.email), &e))?;
        }
        connection.command(Data).await.map_err(|e| self.unready("the message", &e))?;
        Ok(connection)
    }

    fn write(&self, news: &Notification, message: &Message, now: Micros) -> Result<Vec<u8>, DeliveryError> {
        let unmade = |e: &dyn std::fmt::Display| DeliveryError::Unmade(e.to_string());
        let domain = self.from.email.domain();
        let date = UNIX_EPOCH + Duration::from_micros(u64::try_from(now.0).unwrap_or_default());
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(message.title.clone())
            .date(date)
            // The same for every try, so that a mailbox can tell a repeat.
            .message_id(Some(format!("<{}@{domain}>", plain(&news.id))))
            // Nobody is on holiday for a machine.
            .raw_header(automatic("Auto-Submitted", "auto-generated"))
            .raw_header(automatic("X-Auto-Response-Suppress", "All"))
            .raw_header(automatic("X-Assay-Event", &plain(&news.event)));
        if let (Some(run), Some((id, _))) = (news.run(), news.id.split_once(':')) {
            builder = builder.references(format!("<run.{run}.{}@{domain}>", plain(id)));
        }
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let html =
            format!("<!doctype html>\n<html lang=\"en\"><body>\n<p>{}</p>\n</body></html>\n", message.html());
        let body = MultiPart::alternative_plain_html(message.body.clone(), html);
        Ok(builder.multipart(body).map_err(|e| unmade(&e))?.formatted())
    }

    /// What went wrong before the message left: an answer, or no answer.
    fn unready(&self, what: &str, e: &lettre::transport::smtp::Error) -> DeliveryError {
        if e.status().is_some() || e.is_client() {
            return self.refused(what, e);
        }
        self.unreachable(format!("{what}: {}", clean_to(&innermost(e), MAX_SAID)))
    }

    fn refused(&self, what: &str, e: &lettre::transport::smtp::Error) -> DeliveryError {
        let code = e.status().map(u16::from);
        let (what, said) = (what.to_owned(), clean_to(&innermost(e), MAX_SAID));
        let said = code.map_or_else(|| said.clone(), |code| format!("{code} {said}"));
        DeliveryError::Mail { host: self.host.clone(), what, code, said }
    }

    fn unreachable(&self, why: String) -> DeliveryError {
        DeliveryError::Unreachable { host: self.host.clone(), why }
    }
}

/// Checks TLS settings: the name in the certificate, and authorities of one's own.
pub(crate) fn tls(host: &str, ca: Option<&[u8]>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(pem) = ca {
        let certificate =
            lettre::transport::smtp::client::Certificate::from_pem(pem).map_err(|e| innermost(&e))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|e| innermost(&e))
}

/// Checks an address from the settings: `ops@example.net` or `Operations <ops@example.net>`.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, String> {
    let mailbox: Mailbox =
        text.parse().map_err(|e| format!("this is no mail address ({e}); write ops@example.net"))?;
    let ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    if ascii(&mailbox.email) {
        Ok(mailbox)
    } else {
        Err("write the address in ASCII; a domain in its xn-- form".to_owned())
    }
}

/// How we introduce ourselves: by name if we have a full one, else by nothing that could be wrong.
fn hello() -> ClientId {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().into_owned();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if name.contains('.') && name.bytes().all(fits) {
        return ClientId::Domain(name);
    }
    ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST)
}

fn automatic(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// What may stand in an identifier.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '.' }).take(120).collect()
}

fn innermost(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
