//! Small files of `sys` and `proc`, read with bounds and made safe: whatever stands in them was chosen by the machine.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use assay_model::text;

/// More than any attribute that is read here has.
const MAX_TEXT: u64 = 4 << 20;

/// What a firmware writes where its maker should have written something.
const PLACEHOLDERS: [&str; 32] = [
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "to be filled by oem",
    "filled by o.e.m.",
    "o.e.m.",
    "oem",
    "default string",
    "default",
    "not specified",
    "not available",
    "not applicable",
    "not provided",
    "no module installed",
    "no dimm",
    "no asset tag",
    "no asset information",
    "asset tag",
    "none",
    "n/a",
    "na",
    "null",
    "unknown",
    "undefined",
    "unspecified",
    "empty",
    "[empty]",
    "invalid",
    "system serial number",
    "system product name",
    "system manufacturer",
    "0123456789",
    "123456789",
];

/// A whole file, up to a bound; `None` when it is not there, cannot be read, or is longer than that.
pub(crate) fn bytes(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// A text file, bytes that are not text replaced.
pub(crate) fn text(path: &Path) -> Option<String> {
    bytes(path, MAX_TEXT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A one-line attribute, cleaned; `None` when it is empty or a placeholder.
pub(crate) fn attribute(path: &Path) -> Option<String> {
    told(&text(path)?)
}

/// A number.
pub(crate) fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.trim().parse().ok()
}

/// Cleans a text; `None` when it says nothing: empty, a placeholder, or one character over and over.
pub(crate) fn told(raw: &str) -> Option<String> {
    let clean = text::clean(raw.trim_matches(|c: char| c == '\0' || c.is_whitespace()));
    let lower = clean.to_lowercase();
    let first = lower.chars().next()?;
    let empty_of_meaning =
        matches!(first, '0' | 'f' | 'x' | '.' | '-' | '*' | '_' | ' ') && lower.chars().all(|c| c == first);
    let bytes_of_nothing = lower.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b == b'0'));
    (!empty_of_meaning && !bytes_of_nothing && !PLACEHOLDERS.contains(&lower.as_str())).then_some(clean)
}

/// The last part of where a symbolic link points: how `driver` names a driver.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    told(&std::fs::read_link(path).ok()?.file_name()?.to_string_lossy())
}

/// The entries of a folder, sorted by name, each with its cleaned name; none when it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(found) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut entries: Vec<_> = found
        .flatten()
        .map(|entry| (text::clean(&entry.file_name().to_string_lossy()), entry.path()))
        .collect();
    entries.sort();
    entries
}

/// The PCI address nearest to the device in a resolved sysfs path: its controller, not the bridges above.
pub(crate) fn pci_address(resolved: &Path) -> Option<String> {
    let parts: Vec<_> =
        resolved.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts.into_iter().rev().find(|part| is_pci_address(part))
}

fn is_pci_address(part: &str) -> bool {
    // dddd:bb:dd.f; the domain has more digits behind some controllers (VMD).
    let hex =
        |digits: &str, least: usize| digits.len() >= least && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let mut pieces = part.split([':', '.']);
    let fits = pieces.next().is_some_and(|p| hex(p, 4))
        && pieces.next().is_some_and(|p| p.len() == 2 && hex(p, 2))
        && pieces.next().is_some_and(|p| p.len() == 2 && hex(p, 2))
        && pieces.next().is_some_and(|p| p.len() == 1 && hex(p, 1));
    fits && pieces.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_say_nothing() {
        for raw in [
            "",
            "   ",
            "To Be Filled By O.E.M.",
            "Not Specified",
            "00000000",
            "0",
            "0x00000000",
            "xxxx",
            "Default string",
            "\0\0",
        ] {
            assert_eq!(told(raw), None, "{raw:?}");
        }
        for (raw, clean) in [
            (" S3Z 1 ", "S3Z 1"),
            ("None-Such 3", "None-Such 3"),
            ("0x1a", "0x1a"),
            ("ff01", "ff01"),
            ("a\u{1b}b", "a\u{fffd}b"),
        ] {
            assert_eq!(told(raw).as_deref(), Some(clean), "{raw:?}");
        }
    }

    #[test]
    fn the_nearest_pci_address_is_the_controller() {
        let path = |text: &str| pci_address(Path::new(text));
        assert_eq!(
            path("/sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/nvme/nvme0/nvme0n1").as_deref(),
            Some("0000:03:00.0")
        );
        assert_eq!(
            path("/sys/devices/pci0000:00/pci10000:00/10000:e1:00.0/nvme").as_deref(),
            Some("10000:e1:00.0")
        );
        assert_eq!(path("/sys/devices/platform/soc/mmc0:0001/block/mmcblk0"), None);
        assert_eq!(path("/sys/devices/0000:03:00.0.1/00:3:00.0"), None);
    }

    #[test]
    fn a_file_over_the_bound_is_not_read_in_part() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        std::fs::write(&path, b"1234").expect("written");
        assert_eq!(bytes(&path, 4).as_deref(), Some(&b"1234"[..]));
        assert_eq!(bytes(&path, 3), None);
        assert_eq!(bytes(&folder.path().join("absent"), 3), None);
    }
}
