//! The stage `Network` with the real `iperf3` and the real kernel: two namespaces joined by a pair of virtual ports.
//!
//! Each case runs this test program again inside the namespace of the machine under test, as `ip netns exec` also
//! shows that namespace's `/sys`. Needs root, iproute2 and iperf3.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use assay_model::host::network::{NetworkEvidence, NicTest, Obstacle};
use assay_model::host::order::{ClientAddress, IperfServer};
use assay_model::host::spec::{HostSpec, NicSpec};
use assay_model::{Judgement, Severity, Verdict};
use assay_pipelines::{JudgeInput, host};
use assay_probes::Machine;
use assay_probes::iperf::{Plan, measure};
use assay_process::{Child, Cmd};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PORT: u16 = 5201;
/// Tells the program that it is inside; what to measure.
const INSIDE: &str = "ASSAY_TEST_MEASURE";

/// Two joined namespaces, gone when dropped.
struct Pair {
    runner: String,
    machine: String,
}

impl Pair {
    async fn make(name: &str) -> Self {
        let id = std::process::id();
        let pair = Self { runner: format!("anr-{name}-{id}"), machine: format!("anm-{name}-{id}") };
        ip(&format!("netns add {}", pair.runner)).await;
        ip(&format!("netns add {}", pair.machine)).await;
        let (r, m) = (&pair.runner, &pair.machine);
        ip(&format!("link add lan0 netns {r} type veth peer name eth0 netns {m}")).await;
        ip(&format!("-n {r} addr add {SERVER}/24 dev lan0")).await;
        for up in [
            format!("-n {r} link set lan0 up"),
            format!("-n {m} link set eth0 up"),
            format!("-n {m} link set lo up"),
        ] {
            ip(&up).await;
        }
        pair
    }

    async fn serve(&self) -> Child {
        let mut child = Cmd::new("iperf3")
            .args(["-s", "-B", &SERVER.to_string(), "-p", &PORT.to_string(), "--forceflush"])
            .netns(Some(&self.runner))
            .spawn()
            .await
            .expect("iperf3 is installed");
        while let Some(line) = child.next_line().await {
            if line.text.contains("Server listening") {
                drop(child.take_lines());
                return child;
            }
        }
        panic!("iperf3 ended before it listened");
    }

    /// Measures from inside the machine's namespace.
    async fn measure(&self) -> NicTest {
        let this = std::env::current_exe().expect("a path");
        let file = std::env::temp_dir().join(format!("{}.json", self.machine));
        let output = Cmd::new(this)
            .args(["--exact", "inside", "--nocapture"])
            .env(INSIDE, &file)
            .netns(Some(&self.machine))
            .timeout(Duration::from_mins(1))
            .run_ok()
            .await
            .expect("measured");
        let test = std::fs::read(&file).unwrap_or_else(|_| panic!("{}", output.stdout_text()));
        std::fs::remove_file(&file).expect("removed");
        serde_json::from_slice(&test).expect("evidence")
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in [self.runner.clone(), self.machine.clone()] {
            // Nothing to wait with in a drop: a thread with a runtime of its own.
            let removal = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime
                    .expect("a runtime")
                    .block_on(Cmd::new("ip").args(["netns", "del", &name]).run())
                    .is_ok()
            });
            assert!(removal.join().unwrap_or(false), "a namespace is left behind");
        }
    }
}

async fn ip(words: &str) {
    Cmd::new("ip").args(words.split(' ')).run_ok().await.expect("root and iproute2");
}

/// What the program does inside of the namespace; without being told to, nothing.
#[tokio::test]
async fn inside() {
    let Some(file) = std::env::var_os(INSIDE) else { return };
    let server = IperfServer {
        address: SERVER.into(),
        port: PORT,
        client: Some(ClientAddress { address: IpAddr::from([10, 99, 0, 64]), prefix_len: 24 }),
        link_mbps: None,
    };
    let mut test = NicTest { name: "eth0".into(), expected: true, ..NicTest::default() };
    let patience = Duration::from_secs(1);
    let plan = Plan { reach_wait: patience, server_wait: patience, link_wait: patience, ..Plan::lasting(2) };
    let said = std::sync::Mutex::new(Vec::new());
    let progress = |step: &str| said.lock().expect("not poisoned").push(step.to_owned());
    let files = measure(&Machine::this(), &mut test, &[server], false, plan, &progress).await;
    assert_eq!(files.len(), test.artifacts.len());
    assert!(!said.lock().expect("not poisoned").is_empty());
    // Whatever happened, the port is as it was.
    let addresses =
        Cmd::new("ip").args(["-4", "-o", "addr", "show", "dev", "eth0"]).run_ok().await.expect("ip");
    assert!(!addresses.stdout_text().contains("10.99.0.64"), "the address is left behind");
    let rules = Cmd::new("ip").args(["rule", "show"]).run_ok().await.expect("ip");
    assert!(!rules.stdout_text().contains("5201"), "the rule is left behind");
    std::fs::write(file, serde_json::to_vec(&test).expect("plain data")).expect("written");
}

fn spec(floor_mbps: u32) -> HostSpec {
    let nics = vec![NicSpec { driver: Some("veth".into()), ..NicSpec::default() }];
    let mut spec = HostSpec { nics, ..HostSpec::default() };
    spec.limits.network.throughput_mbps_min = Some(floor_mbps);
    // As long as it is measured here.
    spec.limits.network.seconds = Some(2);
    spec
}

fn judge(test: NicTest, spec: &HostSpec) -> Judgement {
    let evidence = NetworkEvidence { nics: vec![test], servers: 1, ..NetworkEvidence::default() };
    let evidence = serde_json::to_value(evidence).expect("plain data");
    host::judge(host::stage("Network").expect("a stage"), &JudgeInput::new(spec, &evidence))
}

#[tokio::test]
async fn a_good_pair_passes_with_traffic_that_went_through_the_port() {
    let pair = Pair::make("good").await;
    let mut server = pair.serve().await;
    let test = pair.measure().await;
    let (sent, received) = (test.sent.clone().expect("sent"), test.received.clone().expect("received"));
    for way in [&sent, &received] {
        assert!(way.port_bytes.expect("a counter") >= way.bytes, "{way:?}");
        assert!(way.seconds > 1.0 && way.retransmits.is_some());
    }
    // Virtual ports carry 50 Gb/s and lose a few segments in a thousand where two cores do everything.
    let mut spec = spec(100);
    spec.limits.network.retransmits_per_million_max = 20_000;
    let judgement = judge(test, &spec);
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:?}");
    server.stop(Duration::from_secs(1)).await.expect("stopped");
}

#[tokio::test]
async fn a_network_that_is_slow_and_drops_is_red() {
    let pair = Pair::make("slow").await;
    // The queue holds two segments: what is sent faster than the rate is dropped, in the direction to the machine.
    let shape = "qdisc add dev lan0 root tbf rate 40mbit burst 4kb limit 6kb";
    let shaped = Cmd::new("tc").args(shape.split(' ')).netns(Some(&pair.runner)).run_ok().await;
    shaped.expect("tc and its token bucket");
    let mut server = pair.serve().await;
    let test = pair.measure().await;
    let received = test.received.clone().expect("received");
    assert!(received.bits_per_second < 45e6, "{received:?}");
    let judgement = judge(test, &spec(100));
    assert_eq!(judgement.verdict, Verdict::Fail, "{judgement:?}");
    let critical: Vec<_> = judgement
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Critical)
        .map(|f| f.code.as_str())
        .collect();
    assert!(critical.contains(&"NetworkThroughputLow"), "{critical:?}");
    assert!(critical.contains(&"NetworkErrors"), "{received:?}");
    server.stop(Duration::from_secs(1)).await.expect("stopped");
}

#[tokio::test]
async fn a_server_that_refuses_is_an_error_and_not_a_pass() {
    let pair = Pair::make("refused").await;
    let test = pair.measure().await;
    assert!(
        matches!(&test.obstacle, Some(Obstacle::Server(why)) if why.contains("refused")),
        "{:?}",
        test.obstacle
    );
    assert_eq!(judge(test, &spec(1)).verdict, Verdict::Error);
}

#[tokio::test]
async fn a_server_that_is_busy_is_an_error_and_not_a_pass() {
    let pair = Pair::make("busy").await;
    let mut server = pair.serve().await;
    ip(&format!("-n {} link set lo up", pair.runner)).await;
    let mut other = Cmd::new("iperf3")
        .args(["-c", &SERVER.to_string(), "-p", &PORT.to_string(), "-t", "60", "-b", "1M", "--forceflush"])
        .netns(Some(&pair.runner))
        .spawn()
        .await
        .expect("started");
    while let Some(line) = other.next_line().await {
        if line.text.contains("connected to") {
            break;
        }
    }
    let test = pair.measure().await;
    assert!(
        matches!(&test.obstacle, Some(Obstacle::Server(why)) if why.contains("busy")),
        "{:?}",
        test.obstacle
    );
    assert_eq!(judge(test, &spec(1)).verdict, Verdict::Error);
    other.stop(Duration::from_secs(1)).await.expect("stopped");
    server.stop(Duration::from_secs(1)).await.expect("stopped");
}

#[tokio::test]
async fn a_server_on_another_network_is_unverified_and_a_dead_link_fails() {
    let pair = Pair::make("away").await;
    ip(&format!("-n {} addr flush dev lan0", pair.runner)).await;
    let test = pair.measure().await;
    assert!(matches!(&test.obstacle, Some(Obstacle::Unreachable(_))), "{:?}", test.obstacle);
    assert_eq!(judge(test, &spec(1)).verdict, Verdict::Unverified);
    ip(&format!("-n {} link set lan0 down", pair.runner)).await;
    let test = pair.measure().await;
    assert_eq!(test.obstacle, Some(Obstacle::NoLink));
    let judgement = judge(test, &spec(1));
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert!(judgement.findings.iter().any(|f| f.code == "LinkDown"), "{judgement:?}");
}
