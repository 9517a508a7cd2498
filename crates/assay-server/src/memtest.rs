//! memtest86+ as the Debian package of that name installs it: what machines boot for the stage `Memtest86`.

use std::path::PathBuf;

/// For BIOS firmware.
pub(crate) const BIOS: &str = "memtest86+x64.bin";
/// For UEFI firmware.
pub(crate) const UEFI: &str = "memtest86+x64.efi";
/// The serial console, where the host's `power` setting names no other.
pub(crate) const SERIAL: &str = "ttyS0,115200";
/// Where the package puts it.
const FOLDER: &str = "/boot";

/// Why it cannot be booted, if so.
pub(crate) fn problem() -> Option<String> {
    let missing = [BIOS, UEFI].into_iter().filter_map(path).find(|path| !path.is_file())?;
    Some(format!(
        "{} is missing: install memtest86+ on the host of the control plane (`apt install memtest86+`)",
        missing.display()
    ))
}

/// Where one of its files is; `None` for any other file.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    [BIOS, UEFI].contains(&name).then(|| PathBuf::from(FOLDER).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_of_that_folder_is_served() {
        assert_eq!(path(BIOS), Some(PathBuf::from("/boot/memtest86+x64.bin")));
        for other in ["vmlinuz", "../etc/shadow", "memtest86+x64.bin/..", ""] {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
