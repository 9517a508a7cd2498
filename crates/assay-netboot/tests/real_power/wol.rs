//! The packet that wakes, caught at the other end of a cable.

use assay_netboot::power::{PowerDriver, PowerSettings, Site};
use assay_process::Cmd;
use serde_json::json;
use tokio::time::timeout;

use crate::bench::{Netns, PATIENCE, ip};

#[tokio::test]
async fn the_packet_that_wakes_leaves_by_the_given_interface() {
    let (here, there) = (Netns::new().await, Netns::new().await);
    ip(&[
        "link", "add", "prov0", "netns", &here.0, "type", "veth", "peer", "name", "eth0", "netns", &there.0,
    ])
    .await;
    ip(&["-n", &here.0, "addr", "add", "10.77.0.1/24", "dev", "prov0"]).await;
    ip(&["-n", &here.0, "link", "set", "prov0", "up"]).await;
    ip(&["-n", &there.0, "link", "set", "eth0", "up"]).await;
    // A card that sleeps has no address, so the frame itself is what counts.
    let listener = "import socket,sys\n\
        s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3)); s.bind(('eth0',0))\n\
        print('listening',flush=True)\n\
        while True:\n\
        \x20f=s.recv(2048)\n\
        \x20if bytes([255]*6)+bytes.fromhex('0cc47a123456')*16 in f: print('woken',f[:6].hex(),int.from_bytes(f[36:38],'big'),flush=True); break\n";
    let mut card =
        Cmd::new("python3").args(["-c", listener]).netns(Some(&there.0)).spawn().await.expect("python3");
    let line = timeout(PATIENCE, card.next_line()).await.expect("in time").expect("it listens");
    assert_eq!(line.text, "listening");

    let settings = json!({"method": "wol", "mac": "0c:c4:7a:12:34:56"});
    let settings: PowerSettings = serde_json::from_value(settings).expect("it reads");
    let site = Site { netns: Some(here.0.clone()), interface: Some("prov0".to_owned()) };
    let driver = PowerDriver::open(&settings, "/nonexistent".as_ref(), &site).expect("it needs no password");
    let words = driver.cycle().await.expect("sent").to_string();
    assert!(words.contains("nobody confirms it"), "{words}");
    let line = timeout(PATIENCE, card.next_line()).await.expect("in time").expect("it was woken");
    assert_eq!(line.text, "woken ffffffffffff 9");
    assert!(card.wait().await.expect("ended").success());

    for refused in
        [driver.off().await.map(drop), driver.status().await.map(drop), driver.netboot_next().await]
    {
        assert_eq!(refused.expect_err("it can only wake").code(), "PowerUnsupported");
    }
    let nowhere = Site { interface: Some("prov7".to_owned()), ..site };
    let driver = PowerDriver::open(&settings, "/nonexistent".as_ref(), &nowhere).expect("a driver");
    let error = driver.on().await.expect_err("no such interface").to_string();
    assert!(error.contains("sending the Wake-on-LAN packet"), "{error}");
}
