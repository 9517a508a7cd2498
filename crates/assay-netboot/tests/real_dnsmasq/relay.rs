//! The relay with real sockets on both sides of a real network namespace. Needs root.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::support::{self, Cable, SERVER_IP};
use assay_netboot::{Relay, RelayError};
use assay_process::Cmd;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(20);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Answers each connection, once it is closed for sending, with what it sent in upper case.
async fn shouting_server() -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.expect("all of it");
                stream.write_all(&said.to_ascii_uppercase()).await.expect("the answer");
            });
        }
    });
    address
}

async fn ask(address: SocketAddr, said: &[u8]) -> Vec<u8> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(said).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        answer
    };
    timeout(PATIENCE, asking).await.expect("an answer in time")
}

#[tokio::test]
async fn a_machine_in_the_namespace_reaches_a_server_outside_of_it() {
    let cable = Cable::new().await;
    let server = shouting_server().await;
    let listen = SocketAddr::new(SERVER_IP.into(), 8080);
    let relay = Relay::start(Some(&cable.server), listen, server).await.expect("it listens");
    assert_eq!(relay.local_addr(), listen);
    support::ip(&["-n", &cable.client, "addr", "add", "10.77.0.50/24", "dev", "eth0"]).await;
    let from_machine = Cmd::new("busybox")
        .args(["nc", "10.77.0.1", "8080"])
        .stdin("hello from the machine")
        .netns(Some(&cable.client))
        .timeout(PATIENCE);
    let answer = from_machine.run_ok().await.expect("it connects");
    assert_eq!(answer.stdout_text(), "HELLO FROM THE MACHINE");

    let outside = Cmd::new("busybox").args(["nc", "10.77.0.1", "8080"]).netns(Some(&cable.server));
    relay.stop().await;
    let refused = outside.timeout(PATIENCE).run().await.expect("it runs");
    assert!(!refused.success(), "nothing listens after the stop");
}

#[tokio::test]
async fn a_hundred_connections_at_once_keep_their_megabytes_apart() {
    let server = shouting_server().await;
    let relay = Relay::start(None, ANY, server).await.expect("it listens");
    let address = relay.local_addr();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        asking.spawn(async move {
            let said = format!("connection {number} ").repeat(10_000).into_bytes();
            (ask(address, &said).await, said.to_ascii_uppercase())
        });
    }
    while let Some(asked) = asking.join_next().await {
        let (answer, expected) = asked.expect("it ends");
        assert!(answer == expected, "bytes were lost or mixed up");
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_costs_the_connection_and_not_the_relay() {
    let nobody = TcpListener::bind(ANY).await.expect("a port").local_addr().expect("an address");
    let relay = Relay::start(None, ANY, nobody).await.expect("it listens");
    for _ in 0..3 {
        let mut stream = TcpStream::connect(relay.local_addr()).await.expect("the relay is there");
        let mut answer = Vec::new();
        // Closed or reset, depending on who is quicker; never an answer, never a wait.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
        assert_eq!(answer, b"");
    }
    relay.stop().await;
}

#[tokio::test]
async fn what_keeps_it_from_listening_is_said() {
    let holder = TcpListener::bind(ANY).await.expect("a port");
    let taken = holder.local_addr().expect("an address");
    let error = Relay::start(None, taken, ANY).await.expect_err("it is taken");
    assert!(matches!(&error, RelayError::PortTaken { listen, .. } if *listen == taken), "{error:?}");
    assert!(error.to_string().contains(&format!("sport = :{}", taken.port())), "{error}");
    let error = Relay::start(Some("ast-nowhere"), taken, ANY).await.expect_err("there is no such namespace");
    let expected = format!(
        "cannot listen on TCP {taken} in network namespace `ast-nowhere`: network namespace `ast-nowhere` does not exist"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn the_stop_ends_open_connections() {
    let holder = TcpListener::bind(ANY).await.expect("a port");
    let relay = Relay::start(None, ANY, holder.local_addr().expect("an address")).await.expect("it listens");
    let mut inside = TcpStream::connect(relay.local_addr()).await.expect("connected");
    let (mut outside, _) = holder.accept().await.expect("relayed");
    inside.write_all(b"x").await.expect("sent");
    assert_eq!(outside.read_u8().await.expect("forwarded"), b'x');
    relay.stop().await;
    let mut rest = Vec::new();
    timeout(PATIENCE, outside.read_to_end(&mut rest)).await.expect("it ends").expect("closed in order");
    assert_eq!(rest, b"");
}
