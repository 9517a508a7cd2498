//! Against receivers that we did not write: a real SMTP server (Debian's `python3-aiosmtpd`), and a
//! webhook receiver that checks signatures with another language's HMAC.

use std::path::Path;
use std::time::Duration;

use assay_model::{Finding, Micros, RunResult, Severity};
use assay_notify::{About, DeliveryError, Fate, Notification, Settings, Sink};
use assay_process::{Child, Cmd};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: Micros = Micros::seconds(1_795_253_400);
/// Debian's own interpreter: its modules come from Debian's packages.
const PYTHON: &str = "/usr/bin/python3";
const PATIENCE: Duration = Duration::from_secs(20);

/// A receiver in a process of its own.
struct Receiver {
    child: Child,
    port: u16,
}

impl Receiver {
    async fn start(script: &str, args: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_receivers");
        let cmd = Cmd::new(PYTHON).arg("-u").arg(folder.join(script)).args(args.iter().copied());
        let mut receiver = Self { child: cmd.spawn().await.expect("python3 starts"), port: 0 };
        let port = receiver.next().await["port"].as_u64();
        receiver.port = u16::try_from(port.expect("a port; is python3-aiosmtpd installed?")).expect("a port");
        receiver
    }

    /// The next thing that it says. Warnings of the interpreter are not JSON.
    async fn next(&mut self) -> Value {
        let said = async {
            loop {
                let line = self.child.next_line().await.expect("it still runs").text;
                if let Ok(value) = serde_json::from_str(&line) {
                    return value;
                }
            }
        };
        tokio::time::timeout(PATIENCE, said).await.expect("it says something")
    }

    /// Ends it; returns what it said that nobody has asked for.
    async fn stop(mut self) -> Vec<Value> {
        self.child.stop(Duration::from_secs(5)).await.expect("stops");
        let mut rest = Vec::new();
        while let Some(line) = self.child.next_line().await {
            rest.extend(serde_json::from_str(&line.text).ok());
        }
        rest
    }
}

fn completed() -> Notification {
    let finding =
        Finding::new("DimmMissing", Severity::Critical, "slot DIMM_B1 is empty – größer", "Reseat it.");
    Notification {
        id: "0199-run:RunCompleted:40".into(),
        event: "RunCompleted".into(),
        at: NOW,
        payload: json!({ "run": 12, "host": "web-3" }),
        about: About {
            profile: Some("standard".into()),
            stage: Some("SpecValidate".into()),
            result: Some(RunResult::Fail),
            findings: vec![finding],
            ..About::default()
        },
        base_url: Some("https://assay.example.net".into()),
    }
}

fn sink(text: &str) -> Sink {
    Settings::parse(text, "notify.toml".as_ref()).unwrap_or_else(|e| panic!("{e}")).sinks.remove(0)
}

/// A mail sink for the server at `port`.
fn email(port: u16, to: &str, more: &str) -> Sink {
    sink(&format!(
        "[[email]]\nname = \"team\"\nserver = \"localhost\"\nport = {port}\nfrom = \"Assay <assay@example.net>\"\n\
         to = [{to}]\nallow_internal = true\n{more}"
    ))
}

/// An authority and a certificate for `localhost`, as files.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("written");
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("valid");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", ca.self_signed(&ca_key).expect("signed").pem());
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
    write("cert.pem", leaf.signed_by(&key, &issuer).expect("signed").pem());
    write("key.pem", key.serialize_pem());
    folder
}

async fn encrypted(mode: &str) -> (Receiver, TempDir) {
    let certificates = certificates();
    let [cert, key] =
        ["cert.pem", "key.pem"].map(|name| certificates.path().join(name).display().to_string());
    (Receiver::start("mail.py", &[mode, &cert, &key]).await, certificates)
}

#[tokio::test]
async fn a_mail_arrives_as_text_and_html_in_the_runs_thread() {
    let mut server = Receiver::start("mail.py", &["plain"]).await;
    let team = email(server.port, "\"Ada <ada@example.net>\", \"ops@example.net\"", "tls = \"none\"\n");
    let said = team.deliver(&completed(), NOW).await.expect("taken");
    assert_eq!(said, "accepted by localhost: 2.0.0 queued as ABC123");
    let mail = server.next().await;
    assert_eq!(mail["from"], "assay@example.net");
    assert_eq!(mail["to"], json!(["ada@example.net", "ops@example.net"]));
    let data = mail["data"].as_str().expect("text");
    for wanted in [
        "From: Assay <assay@example.net>",
        "Subject: web-3: failed",
        "Date: Sat, 21 Nov 2026 09:30:00 +0000",
        "Message-ID: <0199-run.RunCompleted.40@example.net>",
        "References: <run.12.0199-run@example.net>",
        "Auto-Submitted: auto-generated",
        "X-Assay-Event: RunCompleted",
        "Content-Type: multipart/alternative",
        "Content-Type: text/plain",
        "Content-Type: text/html",
        "web-3 failed run 12 (standard) at SpecValidate [DimmMissing]: do not use it.",
        "https://assay.example.net/runs/12",
    ] {
        assert!(data.contains(wanted), "{wanted} is missing from\n{data}");
    }
    assert_eq!(server.stop().await, Vec::<Value>::new(), "one message, once");
}

#[tokio::test]
async fn a_password_travels_encrypted_or_not_at_all() {
    for mode in ["starttls", "tls"] {
        let (mut server, certificates) = encrypted(mode).await;
        let ca = certificates.path().join("ca.pem").display().to_string();
        let keys = |password: &str, ca: &str| {
            format!("tls = \"{mode}\"\nuser = \"assay\"\npassword = \"{password}\"\n{ca}")
        };
        let ca = format!("ca_file = \"{ca}\"\n");

        let good = email(server.port, "\"ops@example.net\"", &keys("correct horse", &ca));
        good.deliver(&completed(), NOW).await.expect("taken");
        let mail = server.next().await;
        assert_eq!((&mail["encrypted"], &mail["user"]), (&json!(true), &json!("assay")), "{mode}");

        let wrong = email(server.port, "\"ops@example.net\"", &keys("wrong", &ca));
        let refused = wrong.deliver(&completed(), NOW).await.expect_err("the password is wrong");
        assert!(refused.to_string().starts_with("localhost refused the sign-in: 535"), "{refused}");
        assert_eq!(wrong.fate(&refused), Fate::Never);

        // A certificate that nobody vouches for: not even the greeting goes there.
        let stranger = email(server.port, "\"ops@example.net\"", &keys("correct horse", ""));
        let refused = stranger.deliver(&completed(), NOW).await.expect_err("not trusted");
        assert!(matches!(refused, DeliveryError::Unreachable { .. }), "{refused:?}");
        assert!(refused.to_string().to_lowercase().contains("certificate"), "{refused}");
        assert_eq!(server.stop().await, Vec::<Value>::new(), "{mode}: nothing else was sent");
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing() {
    let server = Receiver::start("mail.py", &["plain"]).await;
    let team = email(server.port, "\"ops@example.net\"", "tls = \"starttls\"\n");
    let refused = team.deliver(&completed(), NOW).await.expect_err("it cannot encrypt");
    assert!(refused.to_string().contains("STARTTLS"), "{refused}");
    assert_eq!(team.fate(&refused), Fate::Never);
    assert_eq!(server.stop().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_mail_servers_answers_have_their_consequences() {
    let mut server = Receiver::start("mail.py", &["plain"]).await;
    let to = |who: &str| email(server.port, &format!("\"{who}@example.net\""), "tls = \"none\"\n");
    let said = |e: &DeliveryError| e.to_string();

    let nobody = to("nobody");
    let refused = nobody.deliver(&completed(), NOW).await.expect_err("refused");
    assert_eq!(nobody.fate(&refused), Fate::Never, "{refused}");
    assert!(said(&refused).contains("refused the recipient nobody@example.net: 550"), "{refused}");

    let later = to("later");
    let refused = later.deliver(&completed(), NOW).await.expect_err("refused");
    assert_eq!(later.fate(&refused), Fate::Later { after: None }, "{refused}");

    let mixed = email(server.port, "\"ops@example.net\", \"nobody@example.net\"", "tls = \"none\"\n");
    mixed.deliver(&completed(), NOW).await.expect_err("one of two");

    // It had the whole message when the connection broke: nobody knows, so it is not sent again.
    let cut = to("cut");
    let broken = cut.deliver(&completed(), NOW).await.expect_err("no answer");
    assert_eq!(cut.fate(&broken), Fate::Unclear, "{broken:?}");
    assert_eq!(server.next().await["to"], json!(["cut@example.net"]));
    let port = server.port;
    assert_eq!(server.stop().await, Vec::<Value>::new(), "nobody was half-told");

    let away = email(port, "\"ops@example.net\"", "tls = \"none\"\n");
    let unreached = away.deliver(&completed(), NOW).await.expect_err("nobody listens");
    assert_eq!(away.fate(&unreached), Fate::Later { after: None }, "{unreached:?}");
}

#[tokio::test]
async fn mail_to_an_internal_server_must_be_allowed() {
    let server = Receiver::start("mail.py", &["plain"]).await;
    let text = format!(
        "[[email]]\nname = \"t\"\nserver = \"localhost\"\nport = {}\ntls = \"none\"\nfrom = \"a@example.net\"\nto = [\"b@example.net\"]\n",
        server.port
    );
    let refused = sink(&text).deliver(&completed(), NOW).await.expect_err("internal");
    assert!(matches!(refused, DeliveryError::Internal { .. }), "{refused:?}");
    assert_eq!(server.stop().await, Vec::<Value>::new());
}

#[tokio::test]
async fn another_languages_receiver_accepts_the_signature_and_drops_repeats() {
    let secret = "a secret that nobody can guess";
    let seconds = (NOW.0 / 1_000_000).to_string();
    let mut server = Receiver::start("hook.py", &[secret, &seconds]).await;
    let hook = |secret: &str| {
        sink(&format!(
            "[[webhook]]\nname = \"h\"\nurl = \"http://127.0.0.1:{}/\"\nallow_internal = true\n{secret}",
            server.port
        ))
    };
    let right = hook(&format!("secret = \"{secret}\"\n"));
    right.deliver(&completed(), NOW).await.expect("taken");
    right.deliver(&completed(), NOW.plus(Micros::seconds(60))).await.expect("taken, and dropped");
    let stale =
        right.deliver(&completed(), NOW.plus(Micros::seconds(900))).await.expect_err("out of its time");
    assert!(stale.to_string().contains("answered 400: too old"), "{stale}");

    for wrong in ["secret = \"a secret that somebody guessed\"\n", ""] {
        let wrong = hook(wrong);
        let refused = wrong.deliver(&completed(), NOW).await.expect_err("refused");
        assert!(refused.to_string().contains("answered 401: the signature is wrong"), "{refused}");
        assert_eq!(wrong.fate(&refused), Fate::Never);
    }
    let arrived = server.next().await;
    assert_eq!(arrived["id"], "0199-run:RunCompleted:40");
    assert_eq!(arrived["body"]["host"], "web-3");
    assert_eq!(server.stop().await, Vec::<Value>::new(), "once, whatever was tried");
}
