//! What a container can see and take of this machine that nobody has allowed anything: a daemon of a run's own is root here, and its
//! containers are not.

use std::{net::TcpListener, path::Path, time::Duration};

use assay_process::Cmd;

use crate::world::{World, restarted, service, stack};

/// The most that one container's log has on the disk, with what stands around it.
const LOG: u64 = 72 << 20;
/// What it says: more than that, and no line has an end.
const SAID: u64 = 120 << 20;

/// Looks for everything that it should not find. `{folder}` has another run's files, and somebody listens on `{port}`.
const LOOKS: &str = "
looked=0
found() { echo \"FOUND $1\"; }
for path in {folder} /host /var/run/docker.sock /dev/sda /dev/vda /dev/kvm /dev/mem /dev/fuse /dev/loop-control; do
    [ -e $path ] && found $path
done
while read -r name value; do
    case $name in CapEff: | CapBnd:) echo \"$name $value\" ;; esac
done </proc/self/status
for process in /proc/[0-9]*; do
    case $(cat $process/cmdline 2>/dev/null | busybox tr '\\0' ' ') in *[d]ockerd* | *[c]ontainerd*) found $process ;; esac
done
(echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && found 'a setting of the kernel'
busybox mount -t tmpfs none /tmp 2>/dev/null && found 'a mount'
for host in 127.0.0.1 10.77.0.1 172.17.0.1 192.0.2.1; do
    (busybox timeout 3 bash -c \"exec 3<>/dev/tcp/$host/{port}\") 2>/dev/null && found \"somebody at $host\"
done
echo 'looked at everything'
";

/// Makes processes until it is refused one, and counts them.
const FORKS: &str = "busybox sh -c 'n=0; while sleep 1000 & do n=$((n+1)); echo $n; done'; exit 0";

#[tokio::test]
async fn a_container_sees_nothing_of_this_machine_and_takes_no_more_of_it_than_it_may() {
    let world = World::start().await;
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("password"), "correct-horse-battery-staple").unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let looks = LOOKS.replace("{folder}", &other.path().display().to_string()).replace("{port}", &port);
    let once = |line: &str| restarted("none", service(line));

    let compose = stack([("looks", once(&looks)), ("forks", once(FORKS))]);
    world.up("greedy", &compose).await;
    for service in ["looks", "forks"] {
        until_ended(&world, "greedy", service).await;
    }
    let logs = world.swarm().logs_of("greedy").await.unwrap();
    let seen = &logs["greedy_looks"];
    assert!(seen.contains("looked at everything") && !seen.contains("FOUND"), "{seen}");
    // Docker's own few, which no privileged thing can be done with.
    assert!(seen.contains("CapEff: 00000000a80425fb") && seen.contains("CapBnd: 00000000a80425fb"), "{seen}");
    assert!(listener.accept().is_err(), "nobody came");
    let forks = &logs["greedy_forks"];
    let most: u64 = forks.lines().filter_map(|line| line.parse().ok()).max().unwrap_or_default();
    assert!(forks.contains("can't fork") && (3000..4096).contains(&most), "{most} processes: {forks}");

    let says = once(&format!("busybox head -c {SAID} /dev/zero | busybox tr '\\0' x; exit 0"));
    world.up("talks", &stack([("app", says)])).await;
    until_ended(&world, "talks", "app").await;
    let kept = logs_in(&world.daemon.folder().join("data/containers"));
    assert!((LOG / 3..LOG).contains(&kept), "{kept} bytes of logs");
    let told = tokio::time::timeout(Duration::from_secs(30), world.swarm().logs_of("talks")).await;
    let told = told.expect("it is read in time").unwrap();
    assert!(told["talks_app"].len() < 1 << 20, "{} bytes", told["talks_app"].len());
    world.daemon.stop().await.unwrap();
}

/// Waits for the end of a service's one container.
async fn until_ended(world: &World, stack: &str, service: &str) {
    // One that has ended meanwhile is no container of the service's any more.
    let Ok(container) = world.swarm().container_of(stack, &format!("{stack}_{service}")).await else {
        return;
    };
    let socket = format!("unix://{}", world.daemon.socket().display());
    let ended = Cmd::new("docker").args(["--host", &socket, "wait", &container]);
    ended.timeout(Duration::from_mins(2)).run_ok().await.unwrap();
}

/// Bytes of what containers said.
fn logs_in(containers: &Path) -> u64 {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let files = entries(containers).flat_map(|container| entries(&container.path()).collect::<Vec<_>>());
    let logs = files.filter(|file| file.file_name().to_string_lossy().contains("-json.log"));
    logs.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
