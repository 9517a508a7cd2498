//! The server itself: starts, is reached only as meant, and is gone with its handle.

use std::path::Path;

use crate::world::server;

#[tokio::test]
async fn it_starts_is_pinned_and_ends() {
    let (server, folder) = server().await;
    let version = server.version().await.unwrap();
    assert!(version.starts_with("v1."), "{version}");
    let timings = server.timings();
    assert!(timings.etcd < timings.serving && timings.serving < timings.ready, "{timings:?}");

    // Neither a wrong token nor another certificate gets through.
    let mut wrong = server.kubeconfig().clone();
    wrong.auth_infos[0].auth_info.as_mut().unwrap().token = Some("wrong".to_owned().into());
    let refused = client(wrong).await.apiserver_version().await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 401), "{refused}");
    let other = rcgen_certificate(folder.path());
    let mut unpinned = server.kubeconfig().clone();
    unpinned.clusters[0].cluster.as_mut().unwrap().certificate_authority = Some(other);
    let refused = client(unpinned).await.apiserver_version().await.unwrap_err();
    assert!(format!("{refused:?}").contains("UnknownIssuer"), "{refused:?}");

    // What grants rights is readable for this user alone.
    for private in ["kubeconfig", "tokens", "service-accounts.key", "etcd"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{private}");
    }
    server.stop().await.unwrap();
    assert_eq!(processes_in(folder.path()), [""; 0]);
}

#[tokio::test]
async fn two_live_side_by_side_and_one_that_is_dropped_is_gone() {
    let ((one, folder), (other, _folder)) = tokio::join!(server(), server());
    assert!(one.version().await.is_ok() && other.version().await.is_ok());
    let client = one.client();
    assert_eq!(processes_in(folder.path()).len(), 2);
    drop(one);
    // The connection ends with the process; nothing has to be waited for.
    assert!(client.apiserver_version().await.is_err());
    assert!(other.version().await.is_ok());
}

async fn client(kubeconfig: kube::config::Kubeconfig) -> kube::Client {
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
            .await
            .unwrap();
    kube::Client::try_from(config).unwrap()
}

/// A certificate of somebody else, as a file.
fn rcgen_certificate(folder: &Path) -> String {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = folder.join("other.crt");
    std::fs::write(&path, certified.cert.pem()).unwrap();
    path.display().to_string()
}

/// The programs that work in a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = std::fs::canonicalize(folder).unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process = entry.ok()?.path();
            let works_there = std::fs::read_link(process.join("cwd")).ok()?.starts_with(&folder);
            works_there.then(|| std::fs::read_to_string(process.join("comm")).unwrap_or_default())
        })
        .collect()
}
