//! Who a device says that it is, read through sysfs for one device number.
//!
//! The sources and their order are those of the inventory (ATA page 0x89, SCSI page 0x80, attributes, the USB bridge),
//! so that what it reported is what is found again here. udev's database is left out: it is a file that anybody may
//! have written, and not the device.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Longer than any attribute or page that is read.
const MAX_ATTRIBUTE: u64 = 4096;
/// Longer than any serial number or name of a real device.
const MAX_TEXT: usize = 512;

/// What an open device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The kernel's name at this moment, for people; it is no identity.
    pub name: String,
    /// The serial number. A loop device has `loop:` and its file instead, a file `file:` and its two numbers.
    pub serial: Option<String>,
    /// The world-wide name.
    pub wwn: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Bytes, as the open descriptor says.
    pub bytes: u64,
    /// The smallest request, in bytes.
    pub logical_block: u32,
    /// What the medium writes at once, in bytes.
    pub physical_block: u32,
}

/// What a caller demands of the device that it wants to write to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedIdentity {
    /// The serial number; one of this and the world-wide name must be given.
    pub serial: Option<String>,
    /// The world-wide name.
    pub wwn: Option<String>,
    /// Bytes.
    pub bytes: u64,
}

/// The device that was opened is not the one that was meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No identity was demanded.
    #[error("neither a serial number nor a WWN was demanded of {name}; nothing is written without one")]
    NothingDemanded {
        /// The device.
        name: String,
    },
    /// The serial number or world-wide name is another.
    #[error(
        "{name} has the {what} {}, not `{demanded}`: it is another disk; take a fresh inventory and try again",
        found.as_deref().map_or_else(|| "none".to_owned(), |found| format!("`{found}`"))
    )]
    Another {
        /// The device.
        name: String,
        /// `serial number` or `WWN`.
        what: &'static str,
        /// What was demanded.
        demanded: String,
        /// What it has.
        found: Option<String>,
    },
    /// The size is another.
    #[error(
        "{name} has {found} bytes, not {demanded}: it is another disk, or its size was changed; \
         take a fresh inventory and try again"
    )]
    Size {
        /// The device.
        name: String,
        /// What was demanded.
        demanded: u64,
        /// What it has.
        found: u64,
    },
}

impl Identity {
    /// Compares with what is demanded. What is demanded must be there; what is not demanded may be anything.
    pub(crate) fn check(&self, expected: &ExpectedIdentity) -> Result<(), IdentityError> {
        let name = self.name.clone();
        if expected.serial.is_none() && expected.wwn.is_none() {
            return Err(IdentityError::NothingDemanded { name });
        }
        let pairs = [("serial number", &expected.serial, &self.serial), ("WWN", &expected.wwn, &self.wwn)];
        for (what, demanded, found) in pairs {
            if let Some(demanded) = demanded.as_ref().filter(|_| demanded != found) {
                let (demanded, found) = (demanded.clone(), found.clone());
                return Err(IdentityError::Another { name, what, demanded, found });
            }
        }
        if expected.bytes != self.bytes {
            let (demanded, found) = (expected.bytes, self.bytes);
            return Err(IdentityError::Size { name, demanded, found });
        }
        Ok(())
    }

    /// Whether this is the same device as before. The kernel's name may have changed.
    pub(crate) fn is_same(&self, before: &Self) -> bool {
        let lasting = |identity: &Self| {
            let Self { serial, wwn, bytes, logical_block, .. } = identity.clone();
            (serial, wwn, bytes, logical_block)
        };
        lasting(self) == lasting(before)
    }
}

/// What sysfs says of a block device.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) name: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) wwn: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) diskseq: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) is_partition: bool,
    pub(crate) is_read_only: bool,
}

impl Told {
    /// Reads a device's folder below `/sys/dev/block`.
    pub(crate) fn read(folder: &Path) -> Self {
        let device = folder.join("device");
        let ata = page(&device.join("vpd_pg89")).unwrap_or_default();
        let resolved = folder.canonicalize().ok();
        let name =
            resolved.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let number = |file: &str| attribute(&folder.join(file))?.parse::<u64>().ok();
        Self {
            serial: ata_text(&ata, 10, 19)
                .or_else(|| page_80(&page(&device.join("vpd_pg80"))?))
                .or_else(|| attribute(&folder.join("serial")))
                .or_else(|| attribute(&device.join("serial")))
                .or_else(|| usb_serial(resolved.as_deref()?))
                .or_else(|| Some(format!("loop:{}", attribute(&folder.join("loop/backing_file"))?))),
            wwn: [folder.join("wwid"), device.join("wwid")]
                .iter()
                .find_map(|path| attribute(path))
                .map(|wwn| wwn.split_whitespace().collect::<Vec<_>>().join(" ")),
            model: ata_text(&ata, 27, 46).or_else(|| attribute(&device.join("model"))),
            diskseq: number("diskseq"),
            // The kernel counts in 512-byte units whatever the sector size.
            bytes: number("size").and_then(|units| units.checked_mul(512)),
            is_partition: folder.join("partition").exists(),
            is_read_only: number("ro") == Some(1),
            name,
        }
    }
}

/// SCSI page 0x80: a header of four bytes with the length, then the serial number.
fn page_80(page: &[u8]) -> Option<String> {
    let &[_, 0x80, high, low, ..] = page else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let serial = page.get(4..)?;
    told(serial.get(..length).unwrap_or(serial))
}

/// SCSI page 0x89 holds an ATA disk's IDENTIFY data from byte 60: text in 16-bit words, each with its bytes swapped.
fn ata_text(page: &[u8], first: usize, last: usize) -> Option<String> {
    if page.get(1) != Some(&0x89) {
        return None;
    }
    let raw = page.get(60 + first * 2..60 + (last + 1) * 2)?;
    let swapped: Vec<u8> = raw.chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]).collect();
    told(&swapped)
}

/// The serial number of the USB device that a disk is behind, for bridges that pass no pages on.
fn usb_serial(resolved: &Path) -> Option<String> {
    let usb = resolved.ancestors().find(|above| above.join("idVendor").exists())?;
    attribute(&usb.join("serial"))
}

fn attribute(path: &Path) -> Option<String> {
    told(&page(path)?)
}

fn page(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_ATTRIBUTE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Text as a device says it: without padding, and nothing that could do harm where it is shown.
fn told(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let text: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "sdb".into(),
            serial: Some("ZR12".into()),
            wwn: Some("naa.5000c500a1b2c3d4".into()),
            model: None,
            bytes: 20 << 40,
            logical_block: 512,
            physical_block: 4096,
        }
    }

    fn demand(serial: Option<&str>, wwn: Option<&str>, bytes: u64) -> Result<(), IdentityError> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        identity().check(&ExpectedIdentity { serial: own(serial), wwn: own(wwn), bytes })
    }

    #[test]
    fn only_the_demanded_device_is_admitted() {
        let wwn = "naa.5000c500a1b2c3d4";
        for (serial, wwn) in [(Some("ZR12"), None), (None, Some(wwn)), (Some("ZR12"), Some(wwn))] {
            assert_eq!(demand(serial, wwn, 20 << 40), Ok(()));
        }
        assert!(matches!(demand(None, None, 20 << 40), Err(IdentityError::NothingDemanded { .. })));
        for (serial, wwn) in [
            (Some("ZR13"), None),
            (Some("ZR1"), None),
            (Some(""), None),
            (Some("ZR12"), Some("naa.5")),
            (None, Some("naa.5")),
        ] {
            assert!(
                matches!(demand(serial, wwn, 20 << 40), Err(IdentityError::Another { .. })),
                "{serial:?} {wwn:?}"
            );
        }
        assert!(matches!(demand(Some("ZR12"), None, 4 << 40), Err(IdentityError::Size { .. })));
        let message = demand(Some("ZR13"), None, 1).expect_err("another disk").to_string();
        assert_eq!(
            message,
            "sdb has the serial number `ZR12`, not `ZR13`: it is another disk; take a fresh inventory and try again"
        );
    }

    #[test]
    fn a_device_without_a_serial_number_is_not_the_one_with_it() {
        let bare = Identity { serial: None, ..identity() };
        let expected = ExpectedIdentity { serial: Some("ZR12".into()), wwn: None, bytes: 20 << 40 };
        let refused = bare.check(&expected).expect_err("it has none");
        assert!(refused.to_string().contains("has the serial number none, not `ZR12`"), "{refused}");
    }

    #[test]
    fn a_name_may_change_between_boots_and_nothing_else() {
        let before = identity();
        assert!(Identity { name: "sdc".into(), ..identity() }.is_same(&before));
        assert!(!Identity { serial: None, ..identity() }.is_same(&before));
        assert!(!Identity { bytes: 1, ..identity() }.is_same(&before));
    }

    #[test]
    fn sources_in_order() {
        let root = tempfile::tempdir().expect("a folder");
        let device = root.path().join("device");
        fs::create_dir(&device).expect("a folder");
        let read = || Told::read(root.path());
        assert_eq!(read().serial, None);
        fs::create_dir(root.path().join("loop")).expect("a folder");
        fs::write(root.path().join("loop/backing_file"), "/var/tmp/disk\n").expect("written");
        assert_eq!(read().serial.as_deref(), Some("loop:/var/tmp/disk"));
        fs::write(device.join("serial"), "NVME-7  \n").expect("written");
        assert_eq!(read().serial.as_deref(), Some("NVME-7"));
        fs::write(device.join("vpd_pg80"), b"\0\x80\0\x08  SCSI-1xx").expect("written");
        assert_eq!(read().serial.as_deref(), Some("SCSI-1"));
        let mut page = vec![0, 0x89, 2, 0x38];
        page.resize(60 + 20, 0);
        page.extend(b"  TA1- A            ");
        page.resize(512, b' ');
        fs::write(device.join("vpd_pg89"), page).expect("written");
        assert_eq!(read().serial.as_deref(), Some("AT-1A"));
        fs::write(device.join("wwid"), "t10.ATA     DISK   9\n").expect("written");
        assert_eq!(read().wwn.as_deref(), Some("t10.ATA DISK 9"));
        fs::write(root.path().join("size"), "42949672960\n").expect("written");
        assert_eq!(read().bytes, Some(20 << 40));
        assert!(!read().is_partition && !read().is_read_only);
        fs::write(root.path().join("partition"), "1\n").expect("written");
        fs::write(root.path().join("ro"), "1\n").expect("written");
        assert!(read().is_partition && read().is_read_only);
    }
}
