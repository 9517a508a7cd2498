//! Beginning and end: sockets, what is left behind, and what is in the way.

use std::path::PathBuf;

use assay_standin::{Config, Effect, Fault, Listen, RouteClass, StandIn, StandInError};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixStream};

use crate::bench::{Http, Machine, PATIENCE, TOKEN, config, processes_in, ran, start};

#[tokio::test]
async fn stopping_leaves_no_process_no_folder_and_no_socket() {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("cp.sock");
    let mut config = config();
    config.folder = Some(folder.path().to_path_buf());
    config.listen.push(Listen::Unix(socket.clone()));
    let standin = start(config).await;
    let (private, url) = (standin.folder().to_path_buf(), standin.url().expect("an address"));
    assert!(private.exists() && socket.exists());
    let machine = Machine::cloned(&standin).await;
    assert!(machine.push_new("register-node-1", "node.yaml", "x").await.ok);

    // One that would have had to wait for an hour.
    standin.inject(Fault::always(RouteClass::User, Effect::Slow { seconds: 3600.0 })).expect("a fault");
    let http = Http::with(reqwest::Client::builder(), url.clone());
    let waiting = tokio::spawn(async move { http.try_send("GET /user", "").await });
    standin.wait_for(PATIENCE, |ledger| ledger.faults.first().cloned()).await.expect("it waits");

    let ledger = standin.stop().await;
    waiting.await.expect("no panic").expect_err("it was cut off");
    assert_eq!(ledger.pushes.len(), 1);
    let cut = ledger.requests.last().expect("a request");
    assert_eq!((cut.path.as_str(), cut.status), ("/user", None), "what was cut off is recorded, too");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    assert_eq!(processes_in(&private), Vec::<String>::new());
    let after = Http::with(reqwest::Client::builder(), url).try_send("GET /user", "").await;
    assert!(after.expect_err("nobody listens").is_connect());
}

#[tokio::test]
async fn stopping_during_a_push_leaves_nothing_either() {
    let folder = TempDir::new().expect("a folder");
    let standin = start(Config { folder: Some(folder.path().to_path_buf()), ..config() }).await;
    let private = standin.folder().to_path_buf();
    let machine = Machine::cloned(&standin).await;
    machine.git(&["checkout", "--quiet", "-b", "many"]).await;
    for n in 0..30 {
        machine.write(&format!("file-{n}"), vec![n; 20_000]);
    }
    machine.git(&["add", "--all"]).await;
    machine.git(&["commit", "--quiet", "--message", "many"]).await;
    let push = machine.command(&["push", "origin", "many"]);
    let mut events = standin.events();
    let pushing = tokio::spawn(async move { push.run().await.map(|output| output.success()) });
    // The first thing that happens: the refs were asked for, and the push is about to come.
    events.recv().await.expect("an event");
    let ledger = standin.stop().await;
    let ok = pushing.await.expect("no panic").expect("git ends");
    let applied = ledger.pushes.iter().any(|push| push.outcome == assay_standin::Outcome::Applied);
    assert!(applied || !ok, "a push that the client was told of is in the ledger");
    assert_eq!(processes_in(&private), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
}

#[tokio::test]
async fn dropping_it_ends_it_as_well() {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("cp.sock");
    let mut config = config();
    config.folder = Some(folder.path().to_path_buf());
    config.listen = vec![Listen::Unix(socket.clone())];
    let standin = start(config).await;
    let private = standin.folder().to_path_buf();
    drop(standin);
    assert!(!private.exists() && !socket.exists());
    assert_eq!(processes_in(&private), Vec::<String>::new());
}

#[tokio::test]
async fn a_relay_reaches_it_over_a_unix_socket() {
    let folder = TempDir::new().expect("a folder");
    let (plain, encrypted) = (folder.path().join("http.sock"), folder.path().join("https.sock"));
    let mut config = config();
    config.listen = vec![Listen::Unix(plain.clone()), Listen::UnixTls(encrypted.clone())];
    let standin = start(config).await;
    assert_eq!(standin.url(), None);
    let http = Http::with(reqwest::Client::builder().unix_socket(plain.clone()), "http://10.0.2.100".into());
    assert_eq!(http.get("/user").await.status, 200);
    let clone = http.get("/repos/fleet/cluster").await.json()["clone_url"].clone();
    assert_eq!(clone, "http://10.0.2.100/fleet/cluster.git", "it is called what the machine calls it");
    standin.inject(Fault::once(RouteClass::User, Effect::Reset)).expect("a fault");
    http.try_send("GET /user", "").await.expect_err("closed");

    // What QEMU's `guestfwd` does: every connection to a port becomes one to the socket.
    let (port, port_tls) = (relay(plain).await, relay(encrypted).await);
    let machine = Machine::new();
    let address = format!("http://x:{TOKEN}@127.0.0.1:{port}/fleet/cluster.git");
    machine.git(&["clone", "--quiet", "--depth", "1", &address, "cluster"]).await;
    let ca = machine.home().join("ca.pem");
    std::fs::write(&ca, standin.ca_pem().expect("an authority")).expect("written");
    let trusted = format!("http.sslCAInfo={}", ca.display());
    let address = format!("https://x:{TOKEN}@127.0.0.1:{port_tls}/fleet/cluster.git");
    machine.git(&["commit", "--quiet", "--allow-empty", "--message", "x"]).await;
    ran(machine.command(&["-c", &trusted, "push", &address, "HEAD:refs/heads/register-x"])).await;
    assert_eq!(standin.ledger().pushes.len(), 1);
}

async fn relay(to: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                if let Ok(mut inner) = UnixStream::connect(&to).await {
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_nothing_is_left() {
    let folder = TempDir::new().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let file = folder.path().join("file");
    std::fs::write(&file, "somebody's").expect("written");
    let private = folder.path().join("private");
    std::fs::create_dir(&private).expect("made");
    for (listen, place) in [
        (Listen::Tcp(address), address.to_string()),
        (Listen::Unix(file.clone()), file.display().to_string()),
    ] {
        let config = Config { listen: vec![listen], folder: Some(private.clone()), ..config() };
        let error = StandIn::start(config).await.expect_err("it is taken");
        assert!(matches!(&error, StandInError::Listen { place: named, .. } if *named == place), "{error}");
    }
    assert_eq!(std::fs::read(&file).expect("read"), b"somebody's");
    assert_eq!(std::fs::read_dir(&private).expect("listed").count(), 0);
    let nowhere = Config { folder: Some(folder.path().join("nowhere")), ..config() };
    let error = StandIn::start(nowhere).await.expect_err("there is no such folder").to_string();
    assert!(error.contains("cannot use its private folder") && error.contains("nowhere"), "{error}");
}
