//! Facts, found on real folders, ports and programs.

use assay_process::Cmd;

use super::*;

fn image(folder: &Path) {
    let files: Vec<_> = ["vmlinuz", "base.initrd", "agent.initrd"]
        .into_iter()
        .filter_map(|name| {
            let path = folder.join(name);
            std::fs::write(&path, name).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("readable");
            let digest = Sha256::of(name.as_bytes()).to_string();
            // The agent is packed beside the image and is not part of it.
            let listed = serde_json::json!({ "name": name, "sha256": digest, "bytes": name.len() });
            (name != "agent.initrd").then_some(listed)
        })
        .collect();
    let manifest = serde_json::json!({ "format": 1, "digest": "abc", "kernel": "6.1", "files": files });
    write_manifest(folder, &manifest);
}

fn write_manifest(folder: &Path, manifest: &serde_json::Value) {
    let path = folder.join("manifest.json");
    std::fs::write(&path, manifest.to_string()).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("readable");
}

#[test]
fn an_image_is_held_against_its_manifest() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = || read_image(folder.path());
    assert!(read().expect_err("nothing there").contains("manifest.json"));

    image(folder.path());
    let whole = Image { digest: "abc".into(), kernel: "6.1".into(), wrong: vec![], private: vec![] };
    assert_eq!(read(), Ok(whole));

    let initrd = folder.path().join("base.initrd");
    std::fs::write(&initrd, "base.initrx").expect("written");
    std::fs::set_permissions(&initrd, std::fs::Permissions::from_mode(0o600)).expect("private");
    std::fs::write(folder.path().join("vmlinuz"), "longer than before").expect("written");
    std::fs::remove_file(folder.path().join("agent.initrd")).expect("removed");
    let found = read().expect("a manifest");
    let [agent, changed @ ..] = found.wrong.as_slice() else { panic!("nothing is wrong") };
    assert!(agent.contains("agent.initrd is missing") && agent.contains("cargo xtask live-image"), "{agent}");
    assert_eq!(
        changed,
        ["base.initrd is not the file that the manifest names", "vmlinuz has 18 bytes and not 7"]
    );
    assert_eq!(found.private, [initrd.display().to_string()]);
}

#[test]
fn room_is_asked_of_the_nearest_folder_that_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(room(&folder.path().join("not/yet")).expect("writable") > 0);
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0, "nothing is left behind");
    assert!(room(Path::new("/proc/assay")).is_err());
}

#[tokio::test]
async fn a_server_of_another_data_folder_is_somebody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let at = listener.local_addr().expect("an address");
    assert!(answers(at).await);
    drop(listener);
    assert!(!answers(at).await);
    // Whatever holds our ports on this machine, nobody's folder makes it ours.
    assert!(ports(folder.path()).await.iter().all(|(_, used)| *used != PortUse::Ours));
}

#[tokio::test]
async fn the_network_is_tried_for_real_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        assert_eq!(namespaces(false).await.level, Level::Warning);
        return;
    }
    let line = namespaces(true).await;
    assert_eq!(line.level, Level::Ok, "{line:?}");
    let listed = Cmd::new("ip").args(["netns", "list"]).run_ok().await.expect("listed");
    let left = listed.stdout_text();
    assert!(!left.contains(&format!("assay-d{}", std::process::id())), "{left}");
}
