//! What hooks, tests and browsers of a recipe get to see and to take of this machine, and that they end with the run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use assay_process::{Cmd, Signal};

use crate::world::{World, critical, report, stage};

/// How long the last process may live after its runner was killed. A machine that is busy with other things takes most of it.
const GONE: Duration = Duration::from_secs(5);
/// How long a hook may take to begin.
const BEGINS: Duration = Duration::from_mins(3);
/// Written where programs must not find it.
const SECRET: &str = "correct-horse-battery-staple";

/// Looks at everything that it should not see. `{port}` is where somebody listens on this machine, `{root}` a folder in root's home.
const LOOK: &str = r#"#!/usr/bin/env python3
# assay-context: 1
import ctypes, errno, json, os, socket, subprocess, sys
from pathlib import Path

looked = 0
def see(what, ok):
    global looked
    looked += 1
    if not ok:
        sys.exit(f"{what}")

def refused(what, work, *errors):
    try:
        work()
    except OSError as error:
        return see(f"{what}: {error}", error.errno in errors)
    see(f"{what} was done", False)

context = json.load(open(os.environ["ASSAY_CONTEXT"]))
work = Path(context["paths"]["work"])
run = work.parent
see("another working folder", Path.cwd() == work)
see(f"more of the run than its own: {sorted(os.listdir(run))}",
    not {"d", "hosts", "dockerd.log", "store"} & set(os.listdir(run)))
see(f"others beside the run: {os.listdir(run.parent)}", os.listdir(run.parent) == [run.name])
see("root's home", os.listdir("/root") == [] and not Path("{root}").exists())
see("homes", os.listdir("/home") == [])
see(f"sockets: {os.listdir('/run')}", not [name for name in os.listdir("/run") if name != "systemd"])
refused("passwords", lambda: open("/etc/shadow"), errno.EACCES, errno.ENOENT)
see("no settings", Path("/etc/passwd").read_text().startswith("root:"))

known = {"ASSAY_CONTEXT", "CURL_CA_BUNDLE", "HOME", "LC_ALL", "LC_CTYPE", "NODE_EXTRA_CA_CERTS", "PATH", "PWD", "OLDPWD", "PYTHONPATH",
         "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "TMPDIR", "SHLVL", "_"}
see(f"variables: {sorted(set(os.environ) - known)}", set(os.environ) <= known)
for name in filter(str.isdigit, os.listdir("/proc")):
    environment = Path("/proc", name, "environ").read_bytes() if name == str(os.getpid()) else b""
    see("a variable of the runner's", b"{secret}" not in environment)
processes = [name for name in os.listdir("/proc") if name.isdigit()]
see(f"processes of others: {processes}", len(processes) <= 3)

status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]:
    see(f"capabilities: {name} {status[name]}", int(status[name], 16) == 0)
see("new privileges", status["NoNewPrivs"].strip() == "1")
see("another user's namespace", subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode != 0)
libc = ctypes.CDLL(None, use_errno=True)
see("a mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == -1)

for place in ["/usr", "/etc", "/", "/dev", str(run), str(Path(__file__).parent), "/home", "/root"]:
    refused(f"writing to {place}", lambda: Path(place, "mine").write_text("x"), errno.EROFS, errno.EACCES)
refused("a setting of the kernel", lambda: open("/proc/sys/kernel/core_pattern", "w"), errno.EROFS, errno.EACCES)
for place in [work, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]:
    (place / "mine").write_text("x")

# In the run's network nobody is at home but the run.
refused("this machine", lambda: socket.create_connection(("127.0.0.1", {port}), 5), errno.ECONNREFUSED)
refused("the world", lambda: socket.create_connection(("192.0.2.1", 80), 5), errno.ENETUNREACH)
try:
    socket.getaddrinfo("example.com", 80)
    sys.exit("a name of the world's is known")
except socket.gaierror:
    pass
see("the app's name", socket.gethostbyname(context["domain"]).startswith("10."))
print(f"looked at {looked} things")
"#;

/// The hook that prepares the installation changes the checkout.
const PREPARE: &str = "#!/bin/sh
# assay-context: 1
set -eu
test -f compose.yml
echo changed >made-by-the-hook
echo \"LABEL=$(pwd)\" >>.env.sample
";

#[tokio::test]
async fn a_test_sees_the_app_and_nothing_of_this_machine() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let home = tempfile::tempdir_in("/root").expect("a folder");
    std::fs::write(home.path().join("password"), SECRET).expect("written");
    let data = world.path("data");
    let other = data.join("runner/swarms/other");
    std::fs::create_dir_all(&other).expect("a folder");
    std::fs::write(other.join("password"), SECRET).expect("written");
    let script = LOOK
        .replace("{port}", &port)
        .replace("{root}", &home.path().display().to_string())
        .replace("{secret}", SECRET);
    put(&recipe, "functional/look", &script);
    put(&recipe, "hooks/install_steps", PREPARE);
    put(&recipe, "hooks/pre_install", "#!/bin/sh\nset -eu\ntest ! -e made-by-the-hook\necho kept >note\n");
    put(&recipe, "functional/note", "#!/bin/sh\nset -eu\ntest \"$(cat note)\" = kept\n");
    let data = data.display().to_string();
    let command =
        |command: Cmd| command.args(["--quick", "--data", &data]).env("ASSAY_CANARY_SECRET", SECRET);
    let tested = world.test_with(&recipe, command).await;
    let said = std::fs::read_to_string(tested.out.join("artifacts/functional-look.log")).unwrap_or_default();
    assert_eq!(tested.code, Some(0), "{said}\n{}", tested.said);
    assert!(said.starts_with("looked at 3"), "{said}");
    assert!(!recipe.join("made-by-the-hook").exists(), "the owner's folder is not the run's checkout");
    let traces = world.traces();
    assert!(traces.is_none(), "{traces:#?}");
}

/// What takes too much, and what is said of it.
const GREEDY: [(&str, &str, &str); 4] = [
    (
        "hooks/pre_install",
        "#!/usr/bin/env python3
import os, signal, sys
first = os.getpid()
while True:
    try:
        os.fork()
    except OSError as error:
        if os.getpid() == first:
            sys.exit(str(error))
        signal.pause()
",
        "it was refused more processes: 1024 of them",
    ),
    (
        "hooks/pre_install",
        "#!/bin/sh\nset -eu\nhead -c 2G /dev/zero >filler\n",
        "its disk was full: 1 GiB for the work folder and /tmp",
    ),
    (
        "hooks/install_steps",
        "#!/bin/sh\nset -eu\nhead -c 2G /dev/zero >filler\n",
        "its disk was full: 1 GiB for the work folder and /tmp",
    ),
    (
        "hooks/pre_install",
        "#!/usr/bin/env python3\nimport sys\nsys.exit(len(b'x' * (4 << 30)))\n",
        "a process was killed for want of memory: 3 GiB",
    ),
];

#[tokio::test]
async fn a_hook_that_takes_too_much_fails_and_says_of_what() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    for (hook, script, words) in GREEDY {
        put(&recipe, hook, script);
        // Everything is taken away in the end, and `test` looks.
        let tested = world.test(&recipe, &["--stages", "Lint"]).await;
        std::fs::remove_file(recipe.join("tests").join(hook)).expect("it is there");
        assert_eq!(tested.code, Some(1), "{words}: {}", tested.said);
        let report = tested.report();
        assert_eq!(critical(&report), ["Install HookFailed"], "{words}");
        let message = &stage(&report, "Install").message;
        assert!(message.contains(words), "{message}");
    }
}

/// Says that it is there, and stays for as long as it may. What it writes to is closed by its end, whoever ends it.
const STAY: &str = "#!/bin/sh
# assay-context: 1
set -eu
exec 9>\"{gate}\"
echo here >&9
sleep 600
";

/// As `STAY`, with a page open in a browser.
const STAY_WITH_BROWSER: &str = r#"#!/usr/bin/env python3
# assay-context: 1
import json, os, time, urllib.request

context = json.load(open(os.environ["ASSAY_CONTEXT"]))
driver = context["browser"]
body = json.dumps({"capabilities": {"alwaysMatch": driver["capabilities"]}}).encode()
request = urllib.request.Request(driver["webdriver_url"] + "/session", body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=120).read()[:80])
gate = open("{gate}", "w")
print("here", file=gate, flush=True)
time.sleep(600)
"#;

#[tokio::test]
async fn hooks_tests_and_browsers_end_with_a_runner_that_is_killed() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let data = world.path("data").display().to_string();
    for (name, script) in
        [("hooks/pre_install", STAY), ("functional/stay", STAY), ("browser/stay", STAY_WITH_BROWSER)]
    {
        // A name that discovery leaves alone.
        let gate = recipe.join("tests/functional/_gate");
        Cmd::new("mkfifo").arg(&gate).run_ok().await.expect("a pipe with a name");
        put(&recipe, name, &script.replace("{gate}", &gate.display().to_string()));
        let mut running = world.start(&recipe, &["--quick", "--data", &data]).await;
        let (here, gone) = gate_of(&gate);
        let here = tokio::time::timeout(BEGINS, here);
        tokio::select! {
            here = here => assert_eq!(here.expect("it begins").expect("it is read"), "here\n", "{name}"),
            () = running.says("no such line") => {}
        }
        let traces = world.traces();
        assert!(!traces.processes.is_empty(), "{name}");
        running.signal(Signal::KILL);
        let killed = Instant::now();
        assert_eq!(running.ended().await, None, "{name}");
        tokio::time::timeout(GONE, gone).await.expect("in time").expect("it is closed");
        // Browsers are in the same network, and hold nothing of this test's.
        assert!(all_ended(&traces, killed), "{name}: {:#?}", world.traces());
        eprintln!("{name}: all were gone {:?} after the runner", killed.elapsed());
        for file in [recipe.join("tests").join(name), gate] {
            std::fs::remove_file(file).expect("it is there");
        }
    }
    let last = world.test_with(&recipe, |command| command.args(["--quick", "--data", &data])).await;
    assert_eq!(last.code, Some(0), "{}", last.said);
    assert!(report(&last.out).is_some());
    let left: Vec<_> = std::fs::read_dir(world.path("data/runner/swarms")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
    let traces = world.traces();
    assert!(traces.is_none(), "{traces:#?}");
}

type Heard = std::pin::Pin<Box<dyn Future<Output = std::io::Result<String>> + Send>>;

/// What a pipe is told first, and its end: nobody has it open for writing any more.
fn gate_of(gate: &Path) -> (Heard, Heard) {
    use std::io::{BufRead as _, Read as _};
    let gate = gate.to_owned();
    let (told, line) = tokio::sync::oneshot::channel();
    let rest = tokio::task::spawn_blocking(move || {
        // Opening waits for somebody who writes.
        let mut pipe = std::io::BufReader::new(std::fs::File::open(gate)?);
        let mut first = String::new();
        pipe.read_line(&mut first)?;
        let _ = told.send(first);
        let mut rest = String::new();
        pipe.read_to_string(&mut rest)?;
        Ok(rest)
    });
    let line = async move { line.await.map_err(std::io::Error::other) };
    let rest = async move { rest.await.map_err(std::io::Error::other)? };
    (Box::pin(line), Box::pin(rest))
}

/// Whether all processes that a run had end in time. Its control groups are taken away by the next one.
fn all_ended(traces: &crate::traces::Traces, killed: Instant) -> bool {
    let mut traces = traces.clone();
    traces.control_groups.clear();
    traces.still_there().is_empty() && killed.elapsed() < GONE
}

fn put(recipe: &Path, name: &str, script: &str) {
    let path = recipe.join("tests").join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}
