//! The real dnsmasq, asked by a real DHCP client over a real (virtual) cable. Needs root.

mod proxy;
mod relay;
mod support;

use std::{collections::BTreeSet, fs, net::Ipv4Addr, time::Duration};

use assay_model::Mac;
use assay_netboot::{DEFAULT_TFTP_ROOT, Loaders, Netboot, NetbootConfig, NetbootError, NetbootEvent};
use assay_process::Cmd;
use support::{Cable, SERVER_IP};
use tokio::{sync::mpsc, time::timeout};

const BIOS: u16 = 0;
const UEFI: u16 = 7;
const UEFI_TOO: u16 = 9;
const ARM64: u16 = 11;
const KNOWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
/// Only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(cable: &Cable) -> NetbootConfig {
    NetbootConfig {
        interface: "prov0".to_owned(),
        netns: Some(cable.server.clone()),
        address: SERVER_IP,
        prefix_len: 24,
        proxy: false,
        range_start: Ipv4Addr::new(10, 77, 0, 100),
        range_end: Ipv4Addr::new(10, 77, 0, 200),
        lease: Duration::from_mins(10),
        boot_url: "http://10.77.0.1:8080".to_owned(),
        state_dir: cable.folder.path().join("state"),
        tftp_root: DEFAULT_TFTP_ROOT.into(),
        loaders: Loaders::default(),
        search_path: None,
    }
}

async fn until(
    events: &mut mpsc::Receiver<NetbootEvent>,
    what: impl Fn(&NetbootEvent) -> bool,
) -> NetbootEvent {
    let search = async {
        loop {
            let event = events.recv().await.expect("events go on");
            if what(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the event comes")
}

fn dnsmasq_pid(config: &NetbootConfig) -> String {
    fs::read_to_string(config.state_dir.join("dnsmasq.pid")).expect("a pid file").trim().to_owned()
}

#[tokio::test]
async fn a_machine_that_is_allowed_gets_the_loader_for_its_firmware_and_a_stranger_none() {
    let cable = Cable::new().await;
    let (netboot, mut events) = Netboot::start(config(&cable)).await.expect("it serves");
    assert_eq!(events.recv().await, Some(NetbootEvent::Ready));

    assert_eq!(cable.dhcp(KNOWN, BIOS, &[]).await.bootfile, None, "nobody is allowed at first");
    netboot.allow(&BTreeSet::from([KNOWN])).await.expect("the list is read");
    let file = async |arch, more: &'static [&'static str]| cable.dhcp(KNOWN, arch, more).await.bootfile;
    assert_eq!(file(BIOS, &[]).await.as_deref(), Some("undionly.kpxe"));
    assert_eq!(file(UEFI, &[]).await.as_deref(), Some("snponly.efi"));
    assert_eq!(file(UEFI_TOO, &[]).await.as_deref(), Some("snponly.efi"));
    assert_eq!(file(ARM64, &[]).await, None, "a loader of another architecture would hang it");
    let script = Some("http://10.77.0.1:8080/boot/${netX/mac:hexhyp}.ipxe");
    let option_175: &[&str] = &["-x", "0xaf:0101"];
    let user_class: &[&str] = &["-x", "0x4d:69505845"];
    assert_eq!(file(BIOS, option_175).await.as_deref(), script);
    assert_eq!(file(UEFI, user_class).await.as_deref(), script);

    let lease = cable.dhcp(STRANGER, BIOS, &[]).await;
    assert_eq!((lease.bootfile, lease.router), (None, None));
    assert_eq!(cable.dhcp(STRANGER, BIOS, option_175).await.bootfile, None, "its own iPXE changes nothing");
    let ip: Ipv4Addr = lease.ip.parse().expect("an address");
    assert!((100..=200).contains(&ip.octets()[3]));
    until(&mut events, |event| *event == NetbootEvent::Discover { mac: STRANGER }).await;
    until(&mut events, |event| *event == NetbootEvent::Offered { mac: STRANGER, ip }).await;
    until(&mut events, |event| *event == NetbootEvent::Leased { mac: STRANGER, ip }).await;

    netboot.stop().await;
    until(&mut events, |event| *event == NetbootEvent::Stopped).await;
    assert_eq!(events.recv().await, None, "nothing comes after the last event");
}

#[tokio::test]
async fn the_list_changes_under_traffic_and_each_change_is_in_force_when_allow_returns() {
    let cable = Cable::new().await;
    let config = config(&cable);
    let (netboot, _events) = Netboot::start(config.clone()).await.expect("it serves");
    let pid = dnsmasq_pid(&config);
    let (only_known, only_stranger) = (BTreeSet::from([KNOWN]), BTreeSet::from([STRANGER]));
    for _ in 0..3 {
        netboot.allow(&only_known).await.expect("read");
        assert!(cable.dhcp(KNOWN, BIOS, &[]).await.bootfile.is_some());
        netboot.allow(&only_stranger).await.expect("read");
        assert!(cable.dhcp(KNOWN, BIOS, &[]).await.bootfile.is_none());
        assert!(cable.dhcp(STRANGER, UEFI, &[]).await.bootfile.is_some());
    }
    let nobody = BTreeSet::new();
    let (first, second, third) =
        tokio::join!(netboot.allow(&only_known), netboot.allow(&only_stranger), netboot.allow(&nobody));
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert!(cable.dhcp(STRANGER, UEFI, &[]).await.bootfile.is_none(), "the last list counts");
    assert_eq!(dnsmasq_pid(&config), pid, "one dnsmasq served all of it");
    netboot.stop().await;
}

#[tokio::test]
async fn a_loader_is_sent_whole_and_a_missing_file_is_told() {
    let cable = Cable::new().await;
    let (netboot, mut events) = Netboot::start(config(&cable)).await.expect("it serves");
    let sent = cable.tftp("undionly.kpxe").await;
    assert!(sent == fs::read("/usr/lib/ipxe/undionly.kpxe").expect("ipxe is installed"), "the bytes differ");
    let ip = Ipv4Addr::new(10, 77, 0, 50);
    let file = "/usr/lib/ipxe/undionly.kpxe".to_owned();
    until(&mut events, |event| *event == NetbootEvent::TftpSent { file: file.clone(), ip }).await;
    let missing = Cmd::new("busybox")
        .args(["tftp", "-g", "-r", "nope.efi", "-l", "/dev/null", "10.77.0.1"])
        .netns(Some(&cable.client))
        .run()
        .await
        .expect("it runs");
    assert!(!missing.success());
    let file = "/usr/lib/ipxe/nope.efi".to_owned();
    until(&mut events, |event| *event == NetbootEvent::TftpMissing { file: file.clone(), ip }).await;
    netboot.stop().await;
}

#[tokio::test]
async fn a_killed_dnsmasq_is_reported_started_again_and_still_knows_who_is_allowed() {
    let cable = Cable::new().await;
    let config = config(&cable);
    let (netboot, mut events) = Netboot::start(config.clone()).await.expect("it serves");
    netboot.allow(&BTreeSet::from([KNOWN])).await.expect("read");
    until(&mut events, |event| *event == NetbootEvent::Ready).await;
    let pid = dnsmasq_pid(&config);
    Cmd::new("kill").args(["-9", &pid]).run_ok().await.expect("killed");

    let died = until(&mut events, |event| matches!(event, NetbootEvent::Died { .. })).await;
    let NetbootEvent::Died { code, message, restart_in } = died else { unreachable!("it was matched") };
    assert_eq!((code, restart_in), (None, Duration::from_millis(250)));
    assert!(message.contains("signal: 9"), "{message}");
    // Asked between two lives: answered once the next one has read the list.
    netboot.allow(&BTreeSet::from([KNOWN, STRANGER])).await.expect("read");
    until(&mut events, |event| *event == NetbootEvent::Ready).await;
    assert_ne!(dnsmasq_pid(&config), pid);
    assert!(cable.dhcp(KNOWN, BIOS, &[]).await.bootfile.is_some());
    assert!(cable.dhcp(STRANGER, BIOS, &[]).await.bootfile.is_some());
    netboot.stop().await;
}

#[tokio::test]
async fn a_wedged_dnsmasq_is_replaced_when_it_does_not_read_its_list() {
    let cable = Cable::new().await;
    let config = config(&cable);
    let (netboot, mut events) = Netboot::start(config.clone()).await.expect("it serves");
    Cmd::new("kill").args(["-STOP", &dnsmasq_pid(&config)]).run_ok().await.expect("stopped");
    netboot.allow(&BTreeSet::from([KNOWN])).await.expect("the next one reads it");
    let died = until(&mut events, |event| matches!(event, NetbootEvent::Died { .. })).await;
    let NetbootEvent::Died { message, .. } = died else { unreachable!("it was matched") };
    assert!(message.contains("did not read its list"), "{message}");
    assert!(cable.dhcp(KNOWN, BIOS, &[]).await.bootfile.is_some());
    netboot.stop().await;
}

#[tokio::test]
async fn another_server_on_the_segment_is_noticed_before_the_start() {
    let cable = Cable::new().await;
    let (first, _events) = Netboot::start(config(&cable)).await.expect("it serves");
    let second = NetbootConfig { state_dir: cable.folder.path().join("second"), ..config(&cable) };
    let error = Netboot::start(second.clone()).await.expect_err("the port is taken");
    let NetbootError::PortTaken { port, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*port, 67);
    assert!(error.to_string().contains("ss -ulpn 'sport = :67'"), "{error}");
    first.stop().await;
    let (second, _events) = Netboot::start(second).await.expect("now it is free");
    second.stop().await;
}

#[tokio::test]
async fn a_tftp_server_in_the_way_is_noticed_too() {
    let cable = Cable::new().await;
    let rival = Cmd::new("dnsmasq")
        .args(["-k", "-C", "/dev/null", "--port=0", "--user=root", "--pid-file=", "--log-facility=-"])
        .args(["--bind-interfaces", "--interface=prov0", "--enable-tftp", "--tftp-root=/usr/lib/ipxe"])
        .netns(Some(&cable.server));
    let mut rival = rival.spawn().await.expect("it starts");
    let serving = async { while !rival.next_line().await.expect("it serves").text.contains("TFTP root") {} };
    timeout(PATIENCE, serving).await.expect("it serves");
    let error = Netboot::start(config(&cable)).await.expect_err("the port is taken");
    assert!(matches!(error, NetbootError::PortTaken { port: 69, service: "TFTP", .. }), "{error:?}");
    rival.stop(PATIENCE).await.expect("it stops");
}

#[tokio::test]
async fn a_dnsmasq_left_over_from_a_killed_runner_is_replaced() {
    let cable = Cable::new().await;
    let config = config(&cable);
    let (netboot, _events) = Netboot::start(config.clone()).await.expect("it serves");
    netboot.stop().await;
    let conf = config.state_dir.join("dnsmasq.conf");
    let orphan = Cmd::new("dnsmasq").arg("-C").arg(conf).netns(Some(&cable.server));
    let log = cable.folder.path().join("log");
    let orphan = orphan.spawn_detached(&log).await.expect("it starts");
    let serving = async {
        while !fs::read_to_string(&log).expect("a log").contains("read ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, serving).await.expect("it serves");
    let (netboot, _events) = Netboot::start(config).await.expect("it takes over");
    assert!(!orphan.is_alive());
    netboot.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_said_with_its_remedy_before_anything_starts() {
    let cable = Cable::new().await;
    let refused = async |change: &dyn Fn(&mut NetbootConfig)| {
        let mut config = config(&cable);
        change(&mut config);
        let message = Netboot::start(config).await.expect_err("it cannot serve").to_string();
        message.replace(&cable.server, "NS").replace(&*cable.folder.path().to_string_lossy(), "TMP")
    };
    let messages = [
        refused(&|c| c.search_path = Some("/nonexistent".into())).await,
        refused(&|c| c.tftp_root = c.state_dir.clone()).await,
        refused(&|c| c.interface = "prov7".to_owned()).await,
        refused(&|c| c.address = Ipv4Addr::new(10, 77, 0, 2)).await,
        refused(&|c| c.netns = Some("ast-nowhere".to_owned())).await,
        refused(&|c| c.lease = Duration::from_secs(1)).await,
    ];
    insta::assert_snapshot!(messages.join("\n"), @r##"
    `dnsmasq` was not found: install it with `apt-get install dnsmasq-base`
    the boot loader TMP/state/undionly.kpxe is missing: install it with `apt-get install ipxe`, or correct tftp_root
    network interface `prov7` does not exist in network namespace `NS`: `ip link` there lists those that do
    `prov0` in network namespace `NS` has no address 10.77.0.2/24: add it with `ip addr add 10.77.0.2/24 dev prov0`
    network namespace `ast-nowhere` does not exist, so `ip` cannot run in it: create it with `ip netns add ast-nowhere`
    netboot setting `lease` = `1s`: must be at least two minutes
    "##);
}

#[tokio::test]
async fn a_dropped_netboot_takes_dnsmasq_with_it() {
    let cable = Cable::new().await;
    let config = config(&cable);
    let (netboot, mut events) = Netboot::start(config.clone()).await.expect("it serves");
    drop(netboot);
    until(&mut events, |event| *event == NetbootEvent::Stopped).await;
    let (again, _events) = Netboot::start(config).await.expect("the ports are free");
    again.stop().await;
}
