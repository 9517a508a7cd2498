//! Runs the shell programs of `live-image/root/` as they are, outside an image: what they write is decided by
//! the kernel command line, and a mistake there means a machine without a network.

use std::fs;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../live-image/root/usr/lib/systemd/system-generators/assay-network"
);

/// What the generator writes for a kernel command line: (file, content), and what it says.
fn network(cmdline: &str) -> (Vec<(String, String)>, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("network");
    fs::write(folder.path().join("cmdline"), cmdline).unwrap();
    let done = Command::new("sh")
        .arg(Path::new(SCRIPT))
        .env("ASSAY_CMDLINE", folder.path().join("cmdline"))
        .env("ASSAY_NETWORK_DIR", &out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let mut files: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    (files, String::from_utf8(done.stderr).unwrap())
}

#[test]
fn with_bootif_only_that_card_asks_for_an_address() {
    let (files, said) = network("console=ttyS0 BOOTIF=01-52-54-00-AB-cd-0f quiet\n");
    assert_eq!(said, "");
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["10-assay-boot.network", "20-assay-bare.network"]);
    assert!(files[0].1.starts_with("[Match]\nMACAddress=52:54:00:ab:cd:0f\nType=ether\n\n"));
    assert!(files[0].1.contains("\nDHCP=ipv4\n") && files[0].1.contains("\nClientIdentifier=mac\n"));
    assert!(files[1].1.starts_with("[Match]\nType=ether\n\n"));
    assert!(files[1].1.contains("\nDHCP=no\n") && files[1].1.contains("\nActivationPolicy=up\n"));
}

#[test]
fn without_a_usable_bootif_every_card_asks() {
    for cmdline in [
        "console=ttyS0",
        "",
        "quiet BOOTIF=eth0\n",
        "BOOTIF=01-52-54-00-12-34",
        "xBOOTIF=01-52-54-00-12-34-56",
    ] {
        let (files, said) = network(cmdline);
        assert_eq!(files.len(), 1, "{cmdline}");
        assert!(files[0].1.starts_with("[Match]\nType=ether\n\n[Link]"), "{cmdline}");
        assert!(files[0].1.contains("\nDHCP=ipv4\n"));
        assert_eq!(
            said.contains("ignoring"),
            cmdline.contains(" BOOTIF=") || cmdline.starts_with("BOOTIF="),
            "{cmdline}: {said}"
        );
    }
}
