//! A host's `power` setting as a whole: by hand, a lab machine, or one of the drivers.
//!
//! Read by the runner before each job, by the control plane before a host is registered, and by whatever people type
//! settings into: what cannot work is refused where it is typed, and not in the night in which it is needed.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::PowerSettings;

/// The methods that there are.
pub const METHODS: [&str; 5] = ["manual", "lab", "ipmi", "redfish", "wol"];

/// Longest name of a lab machine.
const MAX_MACHINE: usize = 64;
/// Longest single setting.
const MAX_TEXT: usize = 512;

/// How a machine is switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A person does it.
    Manual,
    /// A simulated machine.
    Lab {
        /// Its name in the lab.
        machine: String,
    },
    /// A driver does it.
    Driver(PowerSettings),
}

/// The methods that need no driver.
#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
enum Simple {
    Manual {},
    Lab { machine: String },
}

impl Method {
    /// Reads a setting and refuses what cannot work, as far as that can be known without asking anybody.
    ///
    /// # Errors
    /// What is wrong, naming the setting.
    pub fn read(power: &Value) -> Result<Self, String> {
        let texts = power.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_str);
        if texts.into_iter().any(|text| text.len() > MAX_TEXT) {
            return Err(format!("no power setting is longer than {MAX_TEXT} letters"));
        }
        let unread = |error: serde_json::Error| format!("the power settings do not read: {error}");
        match power.get("method").and_then(Value::as_str) {
            Some("manual" | "lab") => match Simple::deserialize(power).map_err(unread)? {
                Simple::Manual {} => Ok(Self::Manual),
                Simple::Lab { machine } if is_machine(&machine) => Ok(Self::Lab { machine }),
                Simple::Lab { .. } => {
                    Err("the power setting `machine` must be the name of a lab machine".to_owned())
                }
            },
            Some("ipmi" | "redfish" | "wol") => {
                let settings = PowerSettings::deserialize(power).map_err(unread)?;
                settings.check().map_err(|problem| problem.to_string())?;
                Ok(Self::Driver(settings))
            }
            _ => Err(format!("the power settings need a `method`: {}", METHODS.join(", "))),
        }
    }
}

/// A setting from what a person typed: the method, what it switches (an address, a URL, a MAC address, a lab
/// machine), the name of the password, and `KEY=VALUE` for the rest. It is checked.
///
/// # Errors
/// What is wrong, for that person.
pub fn typed<'a>(
    method: &str,
    place: &str,
    credential: Option<&str>,
    more: impl IntoIterator<Item = &'a str>,
) -> Result<Value, String> {
    let mut settings = Map::from_iter([("method".to_owned(), Value::from(method))]);
    if let Some(field) = place_of(method) {
        settings.insert(field.to_owned(), place.into());
    } else if !place.is_empty() && METHODS.contains(&method) {
        return Err(format!("`{place}` means nothing to the power method `{method}`"));
    }
    if let Some(name) = credential {
        settings.insert("credential".to_owned(), name.into());
    }
    for pair in more {
        let (key, text) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not KEY=VALUE"))?;
        let (key, text) = (key.trim(), text.trim());
        // By name: a system may be called `1`, and a fingerprint may be all digits.
        let is_plain = !["port", "cipher_suite", "timeout_s", "insecure"].contains(&key);
        let value = serde_json::from_str::<Value>(text).ok().filter(|_| !is_plain);
        settings.insert(key.to_owned(), value.unwrap_or_else(|| text.into()));
    }
    if matches!(method, "ipmi" | "redfish") && !settings.contains_key("credential") {
        return Err(format!(
            "`{method}` needs the name of the BMC's password: an entry in the runner's bmc-secrets.toml \
             (`--power-credential NAME`)"
        ));
    }
    let settings = Value::Object(settings);
    Method::read(&settings)?;
    Ok(settings)
}

/// The setting that says what a method switches; none for what is switched by hand.
pub fn place_of(method: &str) -> Option<&'static str> {
    match method {
        "lab" => Some("machine"),
        "ipmi" => Some("address"),
        "redfish" => Some("url"),
        "wol" => Some("mac"),
        _ => None,
    }
}

fn is_machine(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= MAX_MACHINE
        && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_method_is_read_and_nothing_else() {
        for (good, method) in [
            (json!({"method": "manual"}), Method::Manual),
            (json!({"method": "lab", "machine": "m-1.b"}), Method::Lab { machine: "m-1.b".to_owned() }),
        ] {
            assert_eq!(Method::read(&good), Ok(method));
        }
        for driven in [
            json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1"}),
            json!({"method": "redfish", "url": "https://bmc", "credential": "rack1"}),
            json!({"method": "wol", "mac": "0c:c4:7a:12:34:56"}),
        ] {
            assert!(matches!(Method::read(&driven), Ok(Method::Driver(_))), "{driven}");
        }
        let long = "a".repeat(600);
        for (bad, why) in [
            (json!(null), "need a `method`"),
            (json!("manual"), "need a `method`"),
            (json!({"method": "pigeon"}), "manual, lab, ipmi, redfish, wol"),
            (json!({"method": "manual", "machine": "x"}), "unknown field `machine`"),
            (json!({"method": "lab"}), "missing field `machine`"),
            (json!({"method": "lab", "machine": "../../etc"}), "name of a lab machine"),
            (json!({"method": "lab", "machine": ""}), "name of a lab machine"),
            (json!({"method": "ipmi", "address": "a", "credential": "c", "password": "x"}), "`password`"),
            (
                json!({"method": "redfish", "url": format!("https://{long}"), "credential": "c"}),
                "longer than",
            ),
        ] {
            let said = Method::read(&bad).expect_err("it cannot work");
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn what_people_type_becomes_the_setting() {
        let ipmi = typed("ipmi", "fd00::31", Some("rack1"), ["firmware = uefi", "port=6230"]);
        assert_eq!(
            ipmi,
            Ok(
                json!({"method": "ipmi", "address": "fd00::31", "credential": "rack1", "firmware": "uefi", "port": 6230})
            )
        );
        let system = typed("redfish", "https://bmc", Some("rack1"), ["system=1", "insecure=true"]);
        assert_eq!(system.expect("good")["system"], "1");
        assert!(typed("manual", "x", None, []).is_err_and(|why| why.contains("means nothing")));
        assert!(
            typed("wol", "0c:c4:7a:12:34:56", None, ["port"]).is_err_and(|why| why.contains("KEY=VALUE"))
        );
        assert!(typed("ipmi", "10.0.0.1", None, []).is_err_and(|why| why.contains("--power-credential")));
        assert!(typed("ipmi", "10.0.0.1", Some("c"), ["port=many"]).is_err_and(|why| why.contains("u16")));
    }
}
