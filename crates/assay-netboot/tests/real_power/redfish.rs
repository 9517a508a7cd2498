//! The Redfish driver and sushy-tools' emulator, which other projects test their drivers against too.
//!
//! `sushy-emulator` (PyPI: sushy-tools) is looked for on PATH.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path};

use assay_netboot::power::{PowerDriver, PowerSettings, PowerState, Site};
use assay_process::{Child, Cmd};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::bench::PATIENCE;

/// bcrypt of `s3cret`, as htpasswd makes it.
const HTPASSWD: &str = "admin:$2b$04$4yczTzQMKRK8YRy5l0ZBY.utXipWQuosLNBkfQpWngTGPIQP9eTDy\n";
const SYSTEMS: &str = r#"SUSHY_EMULATOR_FAKE_SYSTEMS = [
  {"uuid": "9f3b1d3c-0000-4000-8000-000000000001", "name": "web-3", "power_state": "Off", "nics": []},
  MORE]
"#;

struct Emulator {
    folder: tempfile::TempDir,
    port: u16,
    _child: Child,
}

impl Emulator {
    async fn new(more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("assay-redfish-").tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        fs::write(file("htpasswd"), HTPASSWD).expect("written");
        let secrets = "[lab]\nuser = 'admin'\npassword = 's3cret'\naddresses = ['127.0.0.1']\n\
                       [wrong]\nuser = 'admin'\npassword = 'hush'\naddresses = ['127.0.0.1']\n";
        fs::write(file("secrets.toml"), secrets).expect("written");
        fs::set_permissions(file("secrets.toml"), fs::Permissions::from_mode(0o600)).expect("a mode");
        let cert = rcgen::generate_simple_self_signed(["bmc.invalid".to_owned()]).expect("a certificate");
        fs::write(file("cert.pem"), cert.cert.pem()).expect("written");
        fs::write(file("cert.der"), cert.cert.der()).expect("written");
        fs::write(file("key.pem"), cert.signing_key.serialize_pem()).expect("written");
        let config = format!(
            "SUSHY_EMULATOR_AUTH_FILE = '{}'\nSUSHY_EMULATOR_STATE_DIR = '{}'\n{}",
            file("htpasswd").display(),
            folder.path().display(),
            SYSTEMS.replace("MORE", more)
        );
        fs::write(file("config"), config).expect("written");
        // Free a moment ago; nothing else here takes ports that fast.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        let mut child = Cmd::new("sushy-emulator")
            .args(["--fake", "-i", "127.0.0.1", "-p", &port.to_string(), "--config"])
            .arg(file("config"))
            .arg("--ssl-certificate")
            .arg(file("cert.pem"))
            .arg("--ssl-key")
            .arg(file("key.pem"))
            .env("PYTHONUNBUFFERED", "1")
            .spawn()
            .await
            .expect("sushy-emulator starts: `pip install sushy-tools` into an environment on PATH");
        let ready =
            async { while !child.next_line().await.expect("it serves").text.contains("Running on") {} };
        timeout(PATIENCE, ready).await.expect("it serves");
        Self { folder, port, _child: child }
    }

    fn settings(&self) -> Value {
        let fingerprint =
            assay_model::Sha256::of(&fs::read(self.path("cert.der")).expect("read")).to_string();
        json!({"method": "redfish", "url": format!("https://127.0.0.1:{}", self.port), "credential": "lab",
               "fingerprint": fingerprint, "timeout_s": 30})
    }

    fn driver(&self, change: &[(&str, Value)]) -> PowerDriver {
        let mut settings = self.settings();
        for (key, value) in change {
            settings[*key] = value.clone();
        }
        let settings: PowerSettings = serde_json::from_value(settings).expect("it reads");
        PowerDriver::open(&settings, &self.path("secrets.toml"), &Site::default()).expect("a driver")
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

#[tokio::test]
async fn a_machine_is_switched_over_redfish_and_each_change_is_read_back() {
    let emulator = Emulator::new("").await;
    let driver = emulator.driver(&[("firmware", json!("uefi"))]);
    assert_eq!(driver.status().await.expect("a state"), PowerState::Off);
    let words = driver.cycle().await.expect("cycled").to_string();
    assert!(words.contains("was off, next boot is from the network, switched on in"), "{words}");
    assert_eq!(driver.status().await.expect("a state"), PowerState::On);
    driver.off().await.expect("off");
    assert_eq!(driver.status().await.expect("a state"), PowerState::Off);
    driver.close().await;
}

#[tokio::test]
async fn what_goes_wrong_with_redfish_is_told_apart() {
    let two = r#"{"uuid": "9f3b1d3c-0000-4000-8000-000000000002", "name": "web-4", "power_state": "On", "nics": []}"#;
    let emulator = Emulator::new(two).await;
    let code = async |change: &[(&str, Value)]| {
        let error = emulator.driver(change).status().await.expect_err("it fails");
        (error.code(), error.to_string())
    };
    let (code_seen, words) = code(&[]).await;
    assert_eq!(code_seen, "PowerSettings", "{words}");
    assert!(words.contains("9f3b1d3c-0000-4000-8000-000000000002; name one of them"), "{words}");
    let second = ("system", json!("9f3b1d3c-0000-4000-8000-000000000002"));
    let driver = emulator.driver(std::slice::from_ref(&second));
    assert_eq!(driver.status().await.expect("the second"), PowerState::On);

    let (code_seen, words) = code(&[second.clone(), ("credential", json!("wrong"))]).await;
    assert_eq!(code_seen, "BmcWrongPassword", "{words}");
    let (code_seen, words) = code(&[second.clone(), ("auth", json!("session"))]).await;
    assert_eq!(
        code_seen, "BmcWrongPassword",
        "the emulator has no sessions and wants a password first: {words}"
    );
    let (code_seen, words) =
        code(&[second.clone(), ("fingerprint", json!("0".repeat(64))), ("timeout_s", json!(5))]).await;
    assert_eq!(code_seen, "BmcUntrusted", "{words}");
    let (code_seen, words) =
        code(&[second.clone(), ("fingerprint", Value::Null), ("timeout_s", json!(5))]).await;
    assert_eq!(code_seen, "BmcUntrusted", "nobody vouches for it: {words}");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let (code_seen, words) =
        code(&[second, ("url", json!(format!("https://127.0.0.1:{free}"))), ("timeout_s", json!(5))]).await;
    assert_eq!(code_seen, "BmcUnreachable", "{words}");
}
