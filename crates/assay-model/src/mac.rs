//! The hardware address of a network interface: how a machine is known before anything runs on it.
//!
//! People, firmware and tools spell it with colons or hyphens, in either case; here it has one spelling.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 48-bit MAC address; written `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The six octets.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// `aa-bb-cc-dd-ee-ff`: for file names and URLs.
    pub fn hyphenated(self) -> String {
        joined(self.0, '-')
    }

    /// Whether it can name one interface: not a multicast address and not all zeros.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

/// The text was not a MAC address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address: write six pairs of hex digits, such as 52:54:00:12:34:56")]
pub struct BadMac(String);

impl FromStr for Mac {
    type Err = BadMac;

    /// Accepts colons or hyphens (not mixed) and either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| BadMac(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(self.0, ':'))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Mac {
    fn schema_name() -> Cow<'static, str> {
        "Mac".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(-[0-9A-Fa-f]{2}){5})$",
            "description": "MAC address, six pairs of hex digits",
            "examples": ["52:54:00:12:34:56"]
        })
    }
}

fn parse(text: &str) -> Option<Mac> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut octets = [0; 6];
    let mut parts = text.split(separator);
    for octet in &mut octets {
        let part = parts.next()?;
        // `from_str_radix` would also take a sign.
        if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(octets))
}

fn joined(octets: [u8; 6], separator: char) -> String {
    let mut text = String::with_capacity(17);
    for (index, octet) in octets.iter().enumerate() {
        if index > 0 {
            text.push(separator);
        }
        text.push_str(&hex::encode([*octet]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Mac;

    #[test]
    fn every_common_spelling_is_one_address() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0xab, 0xff]);
        for text in ["52:54:00:12:ab:ff", "52:54:00:12:AB:FF", "52-54-00-12-ab-ff", "52-54-00-12-AB-FF"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(
            (mac.to_string().as_str(), mac.hyphenated().as_str()),
            ("52:54:00:12:ab:ff", "52-54-00-12-ab-ff")
        );
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "525400123456",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:5g",
            "52:54:00-12:34:56",
            "+2:54:00:12:34:56",
            " 52:54:00:12:34:56",
            "5:254:00:12:34:56",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn it_is_a_string_in_json_and_unicast_is_told_apart() {
        let mac: Mac = serde_json::from_str("\"52-54-00-12-34-56\"").expect("an address");
        assert_eq!(serde_json::to_string(&mac).expect("a string"), "\"52:54:00:12:34:56\"");
        assert!(serde_json::from_str::<Mac>("\"nonsense\"").is_err());
        assert!(mac.is_unicast() && !Mac([0; 6]).is_unicast() && !Mac([0xff; 6]).is_unicast());
    }
}
