//! Netboot beside a DHCP server that is there already: a site with its own dnsmasq, ours as the proxy, and UEFI
//! firmware in QEMU that gets its address from the one and its boot file from the other.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use assay_model::Mac;
use assay_netboot::{Netboot, NetbootConfig, Relay};
use assay_process::{Child, Cmd};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

use crate::support::{Cable, SERVER_IP, ip};
use crate::{KNOWN, STRANGER, config};

/// Firmware in software emulation takes its time.
const PATIENCE: Duration = Duration::from_mins(5);
const SITE_IP: &str = "10.77.0.2";

/// The site: a DHCP server in the client's namespace, behind a bridge with the cable to us and a tap for QEMU.
struct Site {
    cable: Cable,
    dhcp: Child,
}

impl Site {
    async fn new() -> Self {
        let cable = Cable::new().await;
        let lan = cable.client.clone();
        for args in [
            ["link", "add", "br0", "type", "bridge", "forward_delay", "0"].as_slice(),
            &["link", "set", "eth0", "master", "br0"],
            &["addr", "add", "10.77.0.2/24", "dev", "br0"],
            &["tuntap", "add", "dev", "tap0", "mode", "tap"],
            &["link", "set", "tap0", "master", "br0", "up"],
            &["link", "set", "br0", "up"],
        ] {
            ip(&[&["-n", &lan], args].concat()).await;
        }
        let dhcp = Cmd::new("dnsmasq")
            .args(["-k", "-C", "/dev/null", "--port=0", "--user=root", "--pid-file=", "--log-facility=-"])
            .args(["--log-dhcp", "--bind-interfaces", "--interface=br0", "--dhcp-authoritative"])
            .args(["--dhcp-range=10.77.0.20,10.77.0.60,255.255.255.0,10m", "--dhcp-leasefile=/dev/null"])
            .netns(Some(&lan));
        let mut dhcp = dhcp.spawn().await.expect("it starts");
        said(&mut dhcp, "DHCP, IP range").await;
        Self { cable, dhcp }
    }

    fn proxy(&self) -> NetbootConfig {
        NetbootConfig { proxy: true, ..config(&self.cable) }
    }
}

async fn said(child: &mut Child, what: &str) -> String {
    let listening = async {
        loop {
            let line = child.next_line().await.expect("it goes on").text;
            if line.contains(what) {
                return line;
            }
        }
    };
    timeout(PATIENCE, listening).await.unwrap_or_else(|_| panic!("`{what}` was never said"))
}

/// Answers every request with an iPXE script that does nothing, and tells what was asked for.
async fn boot_server() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, asked) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.expect("a request");
                let body = "#!ipxe\nshell\n";
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.expect("an answer");
                let _ = stream.read_to_end(&mut Vec::new()).await; // Until it closes.
                let _ = tell.send(line.trim().to_owned()).await; // The test may have ended.
            });
        }
    });
    (address, asked)
}

/// Says as BIOS firmware `DHCPDISCOVER` and prints who offers what; ends after the site's offer and, if `wanted`, ours.
const FIRMWARE: &str = r"
import socket,struct,sys
mac=bytes.fromhex(sys.argv[1].replace(':','')); wanted=int(sys.argv[2])
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1)
s.setsockopt(socket.SOL_SOCKET,socket.SO_BINDTODEVICE,b'br1'); s.bind(('',68)); s.settimeout(20)
def discover(xid):
    o=b'\x63\x82\x53\x63\x35\x01\x01'+b'\x3c\x20PXEClient:Arch:00000:UNDI:002001'+b'\x5d\x02\x00\x00'+b'\x5e\x03\x01\x02\x01'+b'\x61\x11\x00'+b'\x07'*16+b'\x37\x04\x01\x03\x42\x43'+b'\xff'
    s.sendto(struct.pack('!BBBBIHHIIII',1,1,6,0,xid,0,0x8000,0,0,0,0)+mac+b'\0'*10+b'\0'*192+o,('255.255.255.255',67))
seen={}
for xid in range(1,9):
    discover(xid)
    while len(seen)<wanted:
        try: p,a=s.recvfrom(2048)
        except TimeoutError: break
        if p[0]!=2: continue
        kind='address' if p[16:20]!=b'\0'*4 else 'boot'
        seen[kind]=(socket.inet_ntoa(p[16:20]),socket.inet_ntoa(p[20:24]),p[108:236].split(b'\0')[0].decode())
    if len(seen)>=wanted: break
for k in sorted(seen): print(k,*seen[k])
";

#[tokio::test]
async fn a_proxy_says_what_to_boot_and_nothing_else_and_nothing_to_strangers() {
    let site = Site::new().await;
    let (netboot, mut events) = Netboot::start(site.proxy()).await.expect("it serves");
    netboot.allow(&BTreeSet::from([KNOWN])).await.expect("the list is read");
    // The firmware stands on the same segment, behind a cable of its own.
    let firmware = Cable::new().await;
    ip(&[
        "-n",
        &site.cable.client,
        "link",
        "add",
        "port1",
        "type",
        "veth",
        "peer",
        "name",
        "br1",
        "netns",
        &firmware.client,
    ])
    .await;
    ip(&["-n", &site.cable.client, "link", "set", "port1", "master", "br0", "up"]).await;
    ip(&["-n", &firmware.client, "link", "set", "br1", "up"]).await;
    let asks = async |mac: Mac, wanted: &str| {
        ip(&["-n", &firmware.client, "link", "set", "br1", "address", &mac.to_string()]).await;
        let asking = Cmd::new("python3").args(["-c", FIRMWARE, &mac.to_string(), wanted]);
        let answer = asking.netns(Some(&firmware.client)).timeout(PATIENCE).run_ok().await.expect("python3");
        answer.stdout_text().into_owned()
    };
    let offers = asks(KNOWN, "2").await;
    let (address, boot) = offers.trim().split_once('\n').unwrap_or_else(|| panic!("two offers: {offers}"));
    assert!(address.starts_with("address 10.77.0."), "from the site: {offers}");
    assert!(address.contains(SITE_IP) && !address.contains("kpxe"), "from the site: {offers}");
    assert_eq!(boot, "boot 0.0.0.0 10.77.0.1 undionly.kpxe", "from us");
    // Ours hears a stranger, so that it can be listed, and keeps silent.
    let offers = asks(STRANGER, "1").await;
    assert!(offers.starts_with("address ") && !offers.contains("boot"), "{offers}");
    crate::until(&mut events, |event| *event == assay_netboot::NetbootEvent::Discover { mac: STRANGER })
        .await;
    netboot.stop().await;
}

#[tokio::test]
async fn uefi_firmware_boots_through_a_proxy_up_to_our_script() {
    let mut site = Site::new().await;
    let (server, mut asked) = boot_server().await;
    let listen = SocketAddr::new(SERVER_IP.into(), 8080);
    let relay = Relay::start(Some(&site.cable.server), listen, server).await.expect("it listens");
    let (netboot, mut events) = Netboot::start(site.proxy()).await.expect("it serves");
    netboot.allow(&BTreeSet::from([KNOWN])).await.expect("the list is read");

    let vars = site.cable.folder.path().join("vars.fd");
    std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).expect("ovmf is installed");
    let mut machine = Cmd::new("qemu-system-x86_64")
        .args(["-nodefaults", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512"])
        .args(["-display", "none", "-boot", "menu=off,strict=on", "-monitor", "none", "-serial", "stdio"])
        .args(["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"])
        .args(["-drive", &format!("if=pflash,format=raw,file={}", vars.display())])
        .args(["-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no"])
        // The firmware's own driver and no ROM: it boots like a real UEFI machine, not like iPXE.
        .args(["-device", &format!("virtio-net-pci,netdev=n0,mac={KNOWN},bootindex=1,romfile=")])
        .args(["-device", "virtio-rng-pci"])
        .netns(Some(&site.cable.client))
        .spawn()
        .await
        .expect("QEMU starts");
    let mut console = machine.take_lines().expect("its console");
    tokio::spawn(async move { while console.recv().await.is_some() {} });

    let leased = said(&mut site.dhcp, "DHCPACK(br0)").await;
    assert!(leased.contains(&KNOWN.to_string()), "the address is the site's: {leased}");
    let loader = |event: &assay_netboot::NetbootEvent| matches!(event, assay_netboot::NetbootEvent::TftpSent { file, .. } if file.ends_with("/snponly.efi"));
    let sent = async { while !events.recv().await.is_some_and(|event| loader(&event)) {} };
    timeout(PATIENCE, sent).await.expect("the loader is ours");
    let request = timeout(PATIENCE, asked.recv()).await.expect("in time").expect("a request");
    assert_eq!(request, "GET /boot/52-54-00-00-00-01.ipxe HTTP/1.1");
    machine.stop(Duration::from_secs(5)).await.expect("it stops");
    netboot.stop().await;
    relay.stop().await;
}
