//! Virtual media: drives that remember what is in them, of the kinds that services really have.

use std::sync::{Arc, Mutex};

use assay_netboot::power::{Credential, IpmiSettings, PowerDriver, PowerSettings, Secret, Site, WolSettings};
use serde_json::{Value, json};
use url::Url;
use wiremock::{
    Mock, Request, Respond, ResponseTemplate,
    matchers::{body_json, body_partial_json, method, path},
};

use super::{SYSTEM, Service, allowing, system};

const MANAGER: &str = "/redfish/v1/Managers/1";
const DRIVES: &str = "/redfish/v1/Managers/1/VirtualMedia";
const CD: &str = "/redfish/v1/Managers/1/VirtualMedia/2";
const INSERT: &str = "/redfish/v1/Managers/1/VirtualMedia/2/Actions/VirtualMedia.InsertMedia";
const EJECT: &str = "/redfish/v1/Managers/1/VirtualMedia/2/Actions/VirtualMedia.EjectMedia";

/// A drive, as the service tells it.
#[derive(Clone)]
struct Drive(Arc<Mutex<Value>>);

/// What becomes of the drive with an order.
#[derive(Clone, Copy)]
enum Does {
    Tells,
    Inserts,
    Ejects,
    Changes,
    /// Is a machine that comes on.
    ComesOn,
    /// Says yes and does nothing.
    Agrees,
}

struct Handler(Drive, Does);

impl Drive {
    fn with_actions() -> Self {
        let actions = json!({"#VirtualMedia.InsertMedia": {"target": INSERT},
                             "#VirtualMedia.EjectMedia": {"target": EJECT}});
        Self::new(json!({"MediaTypes": ["CD", "DVD"], "Inserted": false, "Image": null, "Actions": actions}))
    }

    /// As older services have them.
    fn without_actions() -> Self {
        Self::new(json!({"MediaTypes": ["DVD"], "Inserted": false, "Image": "", "WriteProtected": true}))
    }

    fn new(body: Value) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    fn set(&self, change: &Value) {
        let mut body = self.0.lock().expect("no panic");
        for (key, value) in change.as_object().expect("an object") {
            body[key] = value.clone();
        }
    }

    fn body(&self) -> Value {
        self.0.lock().expect("no panic").clone()
    }
}

impl Respond for Handler {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let Self(drive, does) = self;
        let order: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match does {
            Does::Tells => return ResponseTemplate::new(200).set_body_json(drive.body()),
            Does::Inserts => drive.set(&json!({"Inserted": true, "Image": order["Image"]})),
            Does::Ejects => drive.set(&json!({"Inserted": false, "Image": null})),
            Does::Changes => drive.set(&order),
            Does::ComesOn => drive.set(&json!({"PowerState": "On"})),
            Does::Agrees => {}
        }
        ResponseTemplate::new(204)
    }
}

/// A service whose manager has a floppy drive and this one.
async fn service(drive: &Drive) -> Service {
    let service = bare(json!({"Links": {"ManagedBy": [{"@odata.id": MANAGER}]}})).await;
    service.answers("GET", MANAGER, &json!({"VirtualMedia": {"@odata.id": DRIVES}})).await;
    let floppy = "/redfish/v1/Managers/1/VirtualMedia/1";
    service.answers("GET", DRIVES, &json!({"Members": [{"@odata.id": floppy}, {"@odata.id": CD}]})).await;
    service.answers("GET", floppy, &json!({"MediaTypes": ["Floppy"], "Inserted": false})).await;
    service.does("GET", CD, drive, Does::Tells).await;
    service
}

async fn bare(more: Value) -> Service {
    let mut body = system("Off", &allowing(&["On", "ForceOff"]));
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    Service::new(&body).await
}

impl Service {
    async fn does(&self, verb: &str, place: &str, drive: &Drive, does: Does) {
        let handler = Handler(drive.clone(), does);
        Mock::given(method(verb)).and(path(place)).respond_with(handler).mount(&self.server).await;
    }
}

fn image() -> Url {
    Url::parse("http://192.0.2.7:8080/media/0123/small.iso").expect("an address")
}

#[tokio::test]
async fn an_image_is_inserted_by_the_action_and_ejected_again() {
    let drive = Drive::with_actions();
    let service = service(&drive).await;
    let order = json!({"Image": image().as_str(), "Inserted": true, "WriteProtected": true});
    Mock::given(method("POST"))
        .and(path(INSERT))
        .and(body_json(order))
        .respond_with(Handler(drive.clone(), Does::Inserts))
        .expect(1)
        .mount(&service.server)
        .await;
    service.does("POST", EJECT, &drive, Does::Ejects).await;
    let driver = service.driver(&[]);
    assert!(driver.has_virtual_media().await.expect("asked"));
    assert!(!driver.holds_medium(&image()).await.expect("asked"));
    let words = driver.insert_medium(&image()).await.expect("in").to_string();
    assert_eq!(words, "the medium is in its virtual drive");
    // Once more, as after a restart: it is in, and nothing is ordered.
    let words = driver.insert_medium(&image()).await.expect("in").to_string();
    assert_eq!(words, "the medium is in its virtual drive already");
    assert!(driver.holds_medium(&image()).await.expect("asked"));
    assert_eq!(driver.eject_medium(&image()).await.expect("out").to_string(), "the medium is ejected");
    assert_eq!(drive.body()["Inserted"], false);
    let words = driver.eject_medium(&image()).await.expect("out").to_string();
    assert_eq!(words, "the medium is not in its virtual drive");
    assert_eq!(service.count("POST", EJECT).await, 1);
}

#[tokio::test]
async fn a_drive_without_actions_is_changed() {
    let drive = Drive::without_actions();
    let service = service(&drive).await;
    service.does("PATCH", CD, &drive, Does::Changes).await;
    let driver = service.driver(&[]);
    driver.insert_medium(&image()).await.expect("in");
    assert_eq!(drive.body()["Image"], image().as_str());
    assert_eq!(drive.body()["WriteProtected"], true);
    driver.eject_medium(&image()).await.expect("out");
    assert_eq!(drive.body()["Image"], Value::Null);
}

#[tokio::test]
async fn a_service_that_wants_fewer_words_gets_them() {
    let drive = Drive::with_actions();
    let service = service(&drive).await;
    Mock::given(method("POST"))
        .and(path(INSERT))
        .and(body_partial_json(json!({"Inserted": true})))
        .respond_with(ResponseTemplate::new(400))
        .with_priority(1)
        .expect(1)
        .mount(&service.server)
        .await;
    Mock::given(method("POST"))
        .and(path(INSERT))
        .and(body_json(json!({"Image": image().as_str()})))
        .respond_with(Handler(drive.clone(), Does::Inserts))
        .expect(1)
        .mount(&service.server)
        .await;
    service.driver(&[]).insert_medium(&image()).await.expect("in");
}

#[tokio::test]
async fn drives_may_be_at_the_system_and_a_stick_serves_where_there_is_no_cd() {
    let drive = Drive::with_actions();
    drive.set(&json!({"MediaTypes": ["USBStick"]}));
    let service = bare(json!({"VirtualMedia": {"@odata.id": DRIVES}})).await;
    service.answers("GET", DRIVES, &json!({"Members": [{"@odata.id": CD}]})).await;
    service.does("GET", CD, &drive, Does::Tells).await;
    service.does("POST", INSERT, &drive, Does::Inserts).await;
    service.driver(&[]).insert_medium(&image()).await.expect("in");
    assert_eq!(drive.body()["Inserted"], true);
}

#[tokio::test]
async fn somebody_else_s_medium_is_left_where_it_is() {
    for theirs in [
        json!({"Inserted": true, "Image": "http://192.0.2.9/debian.iso", "ImageName": "debian.iso"}),
        // By way of the BMC's own pages.
        json!({"Inserted": true, "Image": null, "ImageName": null, "ConnectedVia": "Applet"}),
        json!({"Inserted": true, "Image": "http://192.0.2.7:8080/media/4567/small.iso"}),
    ] {
        let drive = Drive::with_actions();
        drive.set(&theirs);
        let service = service(&drive).await;
        let driver = service.driver(&[]);
        let error = driver.insert_medium(&image()).await.expect_err("it is taken");
        assert_eq!(error.code(), "BmcRefused", "{error}");
        let said = error.to_string();
        assert!(said.contains("somebody else has inserted a medium: 2 holds"), "{said}");
        assert!(said.contains("eject it there, when nobody needs it any more"), "{said}");
        driver.eject_medium(&image()).await.expect("ours is not in");
        assert!(driver.cycle_into(&image()).await.is_err());
        for place in [INSERT, EJECT, super::RESET] {
            assert_eq!(service.count("POST", place).await, 0, "{place}");
        }
        assert_eq!(drive.body()["Inserted"], true);
    }
}

#[tokio::test]
async fn what_was_agreed_and_not_done_is_told() {
    let drive = Drive::with_actions();
    let service = service(&drive).await;
    service.does("POST", INSERT, &drive, Does::Agrees).await;
    service.does("POST", EJECT, &drive, Does::Agrees).await;
    let driver = service.driver(&[]);
    let said = driver.insert_medium(&image()).await.expect_err("it is not in").to_string();
    assert!(said.contains("the medium is not in its drive after 5s"), "{said}");
    assert!(said.contains("see whether the BMC reaches 192.0.2.7 from its own network"), "{said}");
    drive.set(&json!({"Inserted": true, "Image": image().as_str()}));
    let said = driver.eject_medium(&image()).await.expect_err("it is in").to_string();
    assert!(said.contains("the medium is still in its drive"), "{said}");
}

#[tokio::test]
async fn a_machine_boots_from_its_medium_next_by_the_name_that_the_service_has_for_it() {
    for (allowed, wanted) in
        [(json!(["Pxe", "Cd"]), "Cd"), (json!(["Cd", "UsbCd"]), "UsbCd"), (json!(null), "Cd")]
    {
        let drive = Drive::with_actions();
        let service = service(&drive).await;
        service.server.reset().await;
        let body = Drive::new(system("Off", &allowing(&["On", "ForceOff"])));
        body.set(&json!({"Links": {"ManagedBy": [{"@odata.id": MANAGER}]}}));
        body.set(&json!({"Boot": {"BootSourceOverrideTarget@Redfish.AllowableValues": allowed}}));
        service.answers("GET", "/redfish/v1/Systems", &json!({"Members": [{"@odata.id": SYSTEM}]})).await;
        service.does("GET", SYSTEM, &body, Does::Tells).await;
        service.does("PATCH", SYSTEM, &body, Does::Changes).await;
        service.answers("GET", MANAGER, &json!({"VirtualMedia": {"@odata.id": DRIVES}})).await;
        service.answers("GET", DRIVES, &json!({"Members": [{"@odata.id": CD}]})).await;
        service.does("GET", CD, &drive, Does::Tells).await;
        service.does("POST", INSERT, &drive, Does::Inserts).await;
        service.does("POST", super::RESET, &body, Does::ComesOn).await;
        let words = service.driver(&[]).cycle_into(&image()).await.expect("on").to_string();
        assert!(
            words.contains("the medium is in its virtual drive, next boot is from the medium"),
            "{words}"
        );
        let boot = &body.body()["Boot"];
        assert_eq!(
            (&boot["BootSourceOverrideTarget"], &boot["BootSourceOverrideEnabled"]),
            (&json!(wanted), &json!("Once"))
        );
        assert_eq!(drive.body()["Image"], image().as_str());
    }
}

#[tokio::test]
async fn a_machine_without_virtual_media_says_so() {
    let service = bare(json!({})).await;
    let driver = service.driver(&[]);
    assert!(!driver.has_virtual_media().await.expect("asked"));
    let error = driver.insert_medium(&image()).await.expect_err("no drive");
    assert_eq!(error.code(), "PowerUnsupported", "{error}");
    assert!(error.to_string().contains("it has no virtual drive for a CD or a USB stick"), "{error}");

    let credential = Credential { user: "admin".to_owned(), password: Secret::new("s3cret") };
    let ipmi = IpmiSettings::new("192.0.2.1", "lab");
    let ipmi = PowerDriver::ipmi(ipmi, credential, &Site::default()).expect("a driver");
    let wol: WolSettings = serde_json::from_value(json!({"mac": "0c:c4:7a:12:34:56"})).expect("it reads");
    let wol = PowerDriver::open(&PowerSettings::Wol(wol), "/nonexistent".as_ref(), &Site::default());
    for driver in [ipmi, wol.expect("a driver")] {
        assert!(!driver.has_virtual_media().await.expect("known without asking"));
        for error in [
            driver.insert_medium(&image()).await.expect_err("it cannot"),
            driver.eject_medium(&image()).await.expect_err("it cannot"),
            driver.cycle_into(&image()).await.expect_err("it cannot"),
        ] {
            assert_eq!(error.code(), "PowerUnsupported", "{error}");
            assert!(error.to_string().contains("this method has no virtual media; use `redfish`"), "{error}");
        }
    }
    let file = Url::parse("file:///etc/passwd").expect("an address");
    let error = service.driver(&[]).insert_medium(&file).await.expect_err("no file");
    assert_eq!(error.code(), "PowerSettings", "{error}");
}
