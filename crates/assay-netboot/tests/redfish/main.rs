//! The Redfish driver against services that a test makes up: what real ones do and sushy-tools' emulator does not.

mod media;

use std::{fs, os::unix::fs::PermissionsExt as _};

use assay_netboot::power::{PowerDriver, PowerError, PowerSettings, PowerState, Site};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{basic_auth, body_partial_json, header, method, path},
};

const SYSTEM: &str = "/redfish/v1/Systems/1";
const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";

struct Service {
    server: MockServer,
    folder: tempfile::TempDir,
}

impl Service {
    /// A service with one system.
    async fn new(system: &Value) -> Self {
        let service =
            Self { server: MockServer::start().await, folder: tempfile::tempdir().expect("a folder") };
        let secrets = service.folder.path().join("secrets");
        let entry = "[lab]\nuser = 'admin'\npassword = 's3cret'\naddresses = ['127.0.0.1']\n";
        fs::write(&secrets, entry).expect("written");
        fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("a mode");
        service.answers("GET", "/redfish/v1/Systems", &json!({"Members": [{"@odata.id": SYSTEM}]})).await;
        service.answers("GET", SYSTEM, system).await;
        service
    }

    async fn answers(&self, verb: &str, place: &str, body: &Value) {
        let answer = ResponseTemplate::new(200).set_body_json(body);
        Mock::given(method(verb)).and(path(place)).respond_with(answer).mount(&self.server).await;
    }

    fn driver(&self, change: &[(&str, Value)]) -> PowerDriver {
        let mut settings = json!({"method": "redfish", "url": self.server.uri(), "credential": "lab",
                                  "insecure": true, "timeout_s": 5});
        for (key, value) in change {
            settings[*key] = value.clone();
        }
        let settings: PowerSettings = serde_json::from_value(settings).expect("it reads");
        let secrets = self.folder.path().join("secrets");
        PowerDriver::open(&settings, &secrets, &Site::default()).expect("a driver")
    }

    async fn count(&self, verb: &str, place: &str) -> usize {
        let requests = self.server.received_requests().await.expect("they are recorded");
        requests.iter().filter(|it| it.method.as_str() == verb && it.url.path() == place).count()
    }
}

fn system(state: &str, action: &Value) -> Value {
    json!({"Id": "1", "PowerState": state, "Actions": {"#ComputerSystem.Reset": action},
           "Boot": {"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"}})
}

fn allowing(kinds: &[&str]) -> Value {
    json!({"target": RESET, "ResetType@Redfish.AllowableValues": kinds})
}

#[tokio::test]
async fn the_kinds_of_reset_may_stand_behind_action_info() {
    let action = json!({"target": RESET, "@Redfish.ActionInfo": "/redfish/v1/Systems/1/ResetActionInfo"});
    let service = Service::new(&system("On", &action)).await;
    let info = json!({"Parameters": [{"Name": "ResetType", "AllowableValues": ["On", "Off"]}]});
    service.answers("GET", "/redfish/v1/Systems/1/ResetActionInfo", &info).await;
    Mock::given(method("POST"))
        .and(path(RESET))
        .and(basic_auth("admin", "s3cret"))
        .and(body_partial_json(json!({"ResetType": "Off"})))
        .respond_with(ResponseTemplate::new(204))
        .expect(1)
        .mount(&service.server)
        .await;
    // It takes the order and stays on.
    let error = service.driver(&[]).off().await.expect_err("it stays on");
    assert!(matches!(error, PowerError::NotConfirmed { seen: PowerState::On, .. }), "{error}");
}

#[tokio::test]
async fn a_service_that_cannot_force_power_off_is_not_asked_to_shut_down_instead() {
    let service = Service::new(&system("On", &allowing(&["On", "GracefulShutdown"]))).await;
    let error = service.driver(&[]).off().await.expect_err("it cannot");
    assert_eq!(error.code(), "PowerUnsupported", "{error}");
    assert!(error.to_string().contains("it takes On, GracefulShutdown only"), "{error}");
    assert_eq!(service.count("POST", RESET).await, 0);
}

#[tokio::test]
async fn the_next_boot_is_set_with_the_version_that_was_read_and_read_back() {
    let service = Service::new(&system("Off", &allowing(&["On"]))).await;
    service.server.reset().await;
    service.answers("GET", "/redfish/v1/Systems", &json!({"Members": [{"@odata.id": SYSTEM}]})).await;
    let mut after = system("Off", &allowing(&["On"]));
    let before = ResponseTemplate::new(200).set_body_json(&after).insert_header("ETag", "\"7\"");
    Mock::given(method("GET"))
        .and(path(SYSTEM))
        .respond_with(before)
        .up_to_n_times(1)
        .mount(&service.server)
        .await;
    after["Boot"] = json!({"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"});
    service.answers("GET", SYSTEM, &after).await;
    Mock::given(method("PATCH"))
        .and(path(SYSTEM))
        .and(header("If-Match", "\"7\""))
        .and(body_partial_json(json!({"Boot": {"BootSourceOverrideTarget": "Pxe",
            "BootSourceOverrideEnabled": "Once", "BootSourceOverrideMode": "Legacy"}})))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({})))
        .expect(1)
        .mount(&service.server)
        .await;
    service.driver(&[("firmware", json!("bios"))]).netboot_next().await.expect("set and read back");
}

#[tokio::test]
async fn a_next_boot_that_is_not_kept_is_told() {
    let service = Service::new(&system("Off", &allowing(&["On"]))).await;
    service.answers("PATCH", SYSTEM, &json!({})).await;
    let error = service.driver(&[]).netboot_next().await.expect_err("not kept").to_string();
    assert!(error.contains("it agreed, and yet the next boot is None (Disabled)"), "{error}");
}

#[tokio::test]
async fn a_session_is_opened_once_used_and_closed() {
    let service = Service::new(&json!(null)).await;
    service.server.reset().await;
    let sessions = "/redfish/v1/SessionService/Sessions";
    Mock::given(method("POST"))
        .and(path(sessions))
        .and(body_partial_json(json!({"UserName": "admin", "Password": "s3cret"})))
        .respond_with(
            ResponseTemplate::new(201)
                .insert_header("X-Auth-Token", "t0ken")
                .insert_header("Location", "/redfish/v1/SessionService/Sessions/9")
                .set_body_json(json!({})),
        )
        .expect(1)
        .mount(&service.server)
        .await;
    for (place, body) in [
        ("/redfish/v1/Systems", json!({"Members": [{"@odata.id": SYSTEM}]})),
        (SYSTEM, system("On", &allowing(&[]))),
    ] {
        Mock::given(method("GET"))
            .and(path(place))
            .and(header("X-Auth-Token", "t0ken"))
            .respond_with(ResponseTemplate::new(200).set_body_json(body))
            .mount(&service.server)
            .await;
    }
    let driver = service.driver(&[("auth", json!("session"))]);
    for _ in 0..2 {
        assert_eq!(driver.status().await.expect("a state"), PowerState::On);
    }
    driver.close().await;
    assert_eq!(service.count("DELETE", "/redfish/v1/SessionService/Sessions/9").await, 1);
}

#[tokio::test]
async fn a_service_without_sessions_says_so() {
    let service = Service::new(&json!(null)).await;
    let error = service.driver(&[("auth", json!("session"))]).status().await.expect_err("none");
    assert_eq!(error.code(), "PowerUnsupported", "{error}");
    assert!(error.to_string().contains("set `auth` to basic"), "{error}");
}

#[tokio::test]
async fn the_password_goes_nowhere_else() {
    let elsewhere = MockServer::start().await;
    let members = json!({"Members": [{"@odata.id": format!("{}/redfish/v1/Systems/1", elsewhere.uri())}]});
    let service = Service::new(&json!(null)).await;
    service.server.reset().await;
    service.answers("GET", "/redfish/v1/Systems", &members).await;
    let error = service.driver(&[]).status().await.expect_err("a place elsewhere");
    assert_eq!(error.code(), "BmcGarbled", "{error}");
    service.server.reset().await;
    let away = ResponseTemplate::new(302).insert_header("Location", elsewhere.uri().as_str());
    Mock::given(method("GET")).respond_with(away).mount(&service.server).await;
    let error = service.driver(&[]).status().await.expect_err("sent elsewhere");
    assert_eq!(error.code(), "BmcRefused", "{error}");
    assert_eq!(elsewhere.received_requests().await.expect("recorded").len(), 0);
}

#[tokio::test]
async fn a_busy_service_is_asked_again() {
    let service = Service::new(&system("On", &allowing(&[]))).await;
    let busy = ResponseTemplate::new(503);
    Mock::given(method("GET"))
        .respond_with(busy)
        .up_to_n_times(2)
        .with_priority(1)
        .mount(&service.server)
        .await;
    assert_eq!(service.driver(&[]).status().await.expect("at last"), PowerState::On);
}

#[tokio::test]
async fn what_a_service_says_is_bounded_and_cleaned() {
    let service = Service::new(&system("\u{1b}[2JOn", &allowing(&[]))).await;
    let error = service.driver(&[]).status().await.expect_err("no state").to_string();
    assert!(error.contains("PowerState is") && !error.contains('\u{1b}'), "{error}");

    service.server.reset().await;
    let complaint = json!({"error": {"@Message.ExtendedInfo": [{"Message": format!("no\u{1b}[31m {}", "x".repeat(9000))}]}});
    let answer = ResponseTemplate::new(400).set_body_json(complaint);
    Mock::given(method("GET")).respond_with(answer).mount(&service.server).await;
    let error = service.driver(&[]).status().await.expect_err("refused").to_string();
    assert!(error.len() < 600 && error.contains("no\u{fffd}[31m") && !error.contains('\u{1b}'), "{error}");

    service.server.reset().await;
    let answer = ResponseTemplate::new(200).set_body_bytes(vec![b' '; 2 * 1024 * 1024]);
    Mock::given(method("GET")).respond_with(answer).mount(&service.server).await;
    let error = service.driver(&[]).status().await.expect_err("too much").to_string();
    assert!(error.contains("more than a mebibyte"), "{error}");
}

#[tokio::test]
async fn a_console_needs_the_serial_port_to_be_named() {
    let service = Service::new(&system("On", &allowing(&[]))).await;
    let error = service.driver(&[]).console().await.expect_err("none is named").to_string();
    assert!(error.contains("name the serial port with `console`"), "{error}");
    let bad: PowerSettings = serde_json::from_value(json!({"method": "redfish", "url": "https://bmc",
        "credential": "lab", "console": "tty1"}))
    .expect("it reads");
    assert!(bad.check().is_err_and(|why| why.to_string().contains("serial port and its speed")));
}
