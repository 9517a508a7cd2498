//! What this crate makes of compose files, held against what Docker makes of them.
//!
//! `docker stack config` reads, fills in and merges files as `docker stack deploy` does, without asking a daemon, and prints
//! one file. Read again, that has to come to the same as the files themselves.

use std::path::{Path, PathBuf};

use assay_process::Cmd;
use assay_recipe::{
    Recipe,
    compose::{Sources, load, model::Compose},
};
use indexmap::IndexMap;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Whether there is a `docker` that can be asked. Debian 12's own (20.10) has no `stack config` yet; without one, what was
/// seen to agree stands in the snapshots of the other tests.
async fn is_there_a_peer() -> bool {
    let help = Cmd::new("docker").args(["stack", "config", "--help"]).run().await;
    let is_there = help.is_ok_and(|help| help.success() && help.stdout_text().contains("stack config"));
    if !is_there {
        eprintln!("no docker with `stack config` is installed: nothing was compared with it");
    }
    is_there
}

/// What Docker prints, or why it refuses.
async fn docker(
    folder: &Path,
    files: &[String],
    variables: &IndexMap<String, String>,
) -> Result<String, String> {
    let mut command =
        Cmd::new("docker").args(["stack", "config"]).cwd(folder).env("DOCKER_HOST", "unix:///dev/null");
    for file in files {
        command = command.args(["--compose-file", file]);
    }
    for (name, value) in variables {
        command = command.env(name, value);
    }
    let output = command.run().await.expect("the docker command is installed");
    if output.success() { Ok(output.stdout_text().into_owned()) } else { Err(output.last_words()) }
}

/// Without what Docker's print cannot keep: the order of names and of what is sorted, notes, the files' folder.
fn comparable(mut compose: Compose, folder: &Path) -> Compose {
    compose.notes.clear();
    let below = format!("{}/", folder.canonicalize().unwrap().display());
    for object in compose.secrets.values_mut().chain(compose.configs.values_mut()) {
        object.file = object.file.take().map(|file| {
            let file = file.strip_prefix(&below).unwrap_or(&file);
            file.strip_prefix("./").unwrap_or(file).to_owned()
        });
    }
    for service in compose.services.values_mut() {
        service.host_reach.clear();
        service.ports.sort_by_key(|port| (port.published, port.target));
        service.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        service.secrets.sort_by(|a, b| a.source.cmp(&b.source));
        service.configs.sort_by(|a, b| a.source.cmp(&b.source));
    }
    compose
}

fn read_back(text: &str) -> Compose {
    // It is filled in already, so no `$` in it means anything.
    let files = vec![("docker.yml".to_owned(), text.replace('$', "$$"))];
    // It has read those files, and still names them.
    let env_file = |_: &str| Ok(String::new());
    load(&Sources { files, variables: &IndexMap::new(), env_file: &env_file }).unwrap().compose
}

#[tokio::test]
async fn recipes_are_read_as_docker_reads_them() {
    if !is_there_a_peer().await {
        return;
    }
    let mut compared = 0;
    for name in ["custom-html", "bonfire", "ghost", "keycloak", "lasuite-drive", "plausible"] {
        let recipe = Recipe::open(&tests().join("recipes").join(name)).unwrap();
        let sample = recipe.sample.clone().unwrap().unwrap();
        let mut variables = recipe.variables(&sample.values_with_offered(), "a_b");
        // Not set there, as a shell would have to.
        variables.insert("HEALTH_INTERVAL".to_owned(), "30s".to_owned());
        for files in sample.combinations() {
            let printed = docker(&recipe.folder, &files, &variables).await.unwrap();
            let ours = recipe.load(&files, &variables).unwrap().compose;
            let theirs = comparable(read_back(&printed), &recipe.folder);
            similar(&comparable(ours, &recipe.folder), &theirs, &format!("{name} {files:?}"));
            compared += 1;
        }
    }
    assert_eq!(compared, 11);
}

#[tokio::test]
async fn files_are_merged_as_docker_merges_them() {
    if !is_there_a_peer().await {
        return;
    }
    let folder = tests().join("merge");
    let files = ["base.yml".to_owned(), "over.yml".to_owned()];
    let variables = IndexMap::new();
    let printed = docker(&folder, &files, &variables).await.unwrap();
    let texts = files
        .iter()
        .map(|file| (file.clone(), std::fs::read_to_string(folder.join(file)).unwrap()))
        .collect();
    let env_file = |_: &str| Err("none".to_owned());
    let ours = load(&Sources { files: texts, variables: &variables, env_file: &env_file }).unwrap();
    assert_eq!(
        ours.compose.notes.iter().map(|note| note.path.as_str()).collect::<Vec<_>>(),
        ["services.app.healthcheck.test"],
        "docker appends a second test, which is noted"
    );
    similar(&comparable(ours.compose, &folder), &comparable(read_back(&printed), &folder), "merged");
}

#[tokio::test]
async fn what_we_say_that_docker_refuses_it_refuses() {
    if !is_there_a_peer().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (what, fields, said) in [
        ("a boolean", "environment: {A: true}", "must be a string, number or null"),
        ("group_add", "group_add: [video]", "Additional property group_add is not allowed"),
        ("an alternative", "environment: [\"A=${X:+y}\"]", "invalid interpolation format"),
        ("a dollar", "environment: [\"A=$5\"]", "invalid interpolation format"),
        ("a forbidden key", "mem_limit: 1G", "forbidden properties"),
        ("a duration", "stop_grace_period: ten", "duration"),
        ("a port", "ports: [\"http:80\"]", "format 'ports'"),
    ] {
        std::fs::write(folder.path().join("x.yml"), format!("services: {{app: {{image: x, {fields}}}}}\n"))
            .unwrap();
        let refused = docker(folder.path(), &["x.yml".to_owned()], &IndexMap::new()).await;
        let refused = refused.expect_err(what);
        assert!(refused.to_lowercase().contains(&said.to_lowercase()), "{what}: {refused}");
    }
    // The forms that it reads otherwise, of which a remark tells.
    let text = "services: {app: {image: x, environment: [\"A=$X-rest\", \"B=${X:-a${X}b}\"]}}\n";
    std::fs::write(folder.path().join("x.yml"), text).unwrap();
    let variables = IndexMap::from([("X".to_owned(), "1".to_owned())]);
    let printed = docker(folder.path(), &["x.yml".to_owned()], &variables).await.unwrap();
    let environment = &read_back(&printed).services["app"].environment;
    assert_eq!(environment["A"].as_deref(), Some("1"), "the rest was taken for a default");
    assert_eq!(environment["B"].as_deref(), Some("1b}"), "the first brace ended it");
}

/// Field by field: what Docker takes is read to the same; what it refuses is refused or noted here.
#[tokio::test]
async fn forms_are_read_as_docker_reads_them() {
    if !is_there_a_peer().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for field in LATER {
        let text = format!("version: \"3.8\"\nservices:\n  app:\n    image: x\n    {field}\n");
        let sources = Sources {
            files: vec![("x.yml".to_owned(), text)],
            variables: &IndexMap::new(),
            env_file: &|_| Ok(String::new()),
        };
        assert!(load(&sources).is_err(), "{field}");
    }
    for field in FORMS {
        let text = format!("version: \"3.8\"\nservices:\n  app:\n    image: x\n    {field}\n");
        std::fs::write(folder.path().join("x.yml"), &text).unwrap();
        let files = vec![("x.yml".to_owned(), text)];
        let variables = IndexMap::new();
        let ours = load(&Sources { files, variables: &variables, env_file: &|_| Err("none".to_owned()) });
        match (docker(folder.path(), &["x.yml".to_owned()], &variables).await, ours) {
            (Ok(printed), Ok(ours)) => {
                let ours = comparable(ours.compose, folder.path());
                let theirs = comparable(read_back(&printed), folder.path());
                wrong.extend(difference(&ours, &theirs).map(|how| format!("{field}: {how}")));
            }
            (Ok(_), Err(problems)) => wrong.push(format!("{field}: docker takes it, and here {problems}")),
            (Err(refused), Ok(ours)) if ours.compose.notes.is_empty() => {
                wrong.push(format!("{field}: docker refuses it: {refused}"));
            }
            (Err(_), _) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Values without quotes stay as written here; a note says what Docker makes of each, where that is something else.
#[tokio::test]
async fn numbers_without_quotes_are_noted() {
    if !is_there_a_peer().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let values = [
        "0.10",
        "1e3",
        "0x10",
        "1_000",
        "12345678901234567890",
        "1.0",
        ".5",
        "010",
        "08",
        "-0",
        "0o17",
        "1e30",
        "1.5e-7",
        "+3",
        "0b11",
        "1.",
        "12",
        "v1",
        "1.2.3",
        "0",
        "3.14",
        "100000000000000000000000",
        "1e21",
        "123456789.123",
        "0.00001",
    ];
    let fields: Vec<String> =
        values.iter().enumerate().map(|(index, value)| format!("V{index}: {value}")).collect();
    let text = format!("services: {{app: {{image: x, environment: {{{}}}}}}}\n", fields.join(", "));
    std::fs::write(folder.path().join("x.yml"), &text).unwrap();
    let printed = docker(folder.path(), &["x.yml".to_owned()], &IndexMap::new()).await.unwrap();
    let theirs = read_back(&printed);
    let sources = Sources {
        files: vec![("x.yml".to_owned(), text)],
        variables: &IndexMap::new(),
        env_file: &|_| Ok(String::new()),
    };
    let ours = load(&sources).unwrap().compose;
    let mut wrong = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let name = format!("V{index}");
        let of = |compose: &Compose| compose.services["app"].environment[&name].clone().unwrap();
        assert_eq!(of(&ours), *value);
        let docker = of(&theirs);
        let path = format!("services.app.environment.{name}");
        let note = ours.notes.iter().find(|note| note.path == path).map(|note| note.message.as_str());
        let told = note.is_some_and(|note| note.contains(&format!("makes `{docker}`")));
        if told != (docker != *value) || (note.is_some() && !told) {
            wrong.push(format!("{value}: docker makes {docker}, and the note is {note:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `docker stack config` lets through and the engine refuses when it is deployed: refused here at once.
const LATER: &[&str] = &[
    "ports: [{published: 80}]",
    "ports: [{target: 80, mode: other}]",
    "volumes: [relative]",
    "restart: sometimes",
    "deploy: {mode: swarm}",
    "deploy: {restart_policy: {condition: always}}",
];

const FORMS: &[&str] = &[
    "command: sh -c \"echo 'a b' | cat\"",
    "command: 'printf \"%s\\n\" \"a\\\"b\"'",
    "command: a\\ b c",
    "command: run # not a comment for a shell",
    "command: 'run a#b \"#c\"'",
    "command: \"\"",
    "command: []",
    "command: [a, 1, true]",
    "command: \"it's\"",
    "command: \"line one\\nline two\"",
    "entrypoint: /entrypoint.sh",
    "stop_grace_period: 1m30s",
    "stop_grace_period: 1.5h",
    "stop_grace_period: 500ms",
    "stop_grace_period: 10",
    "stop_grace_period: \"10\"",
    "stop_grace_period: 1d",
    "healthcheck: {test: \"NONE\"}",
    "healthcheck: {test: [NONE]}",
    "healthcheck: {test: [CMD-SHELL, \"curl -f localhost || exit 1\"], interval: 1m, retries: 3}",
    "healthcheck: {disable: true}",
    "healthcheck: {disable: false, test: x}",
    "ports: [80, \"8080:80\", \"53:53/udp\"]",
    "ports: [\"8000-8002:80-82\"]",
    "ports: [\"8000-8001:80-82\"]",
    "ports: [\"8000-8005:80\"]",
    "ports: [\"3000-3002\"]",
    "ports: [\"127.0.0.1:80:80\"]",
    "ports: [\"0:80\"]",
    "ports: [\"70000:80\"]",
    "ports: [{target: 80, published: 8080, mode: host, protocol: udp}]",
    "ports: [{target: 80}]",
    "ports: 80",
    "volumes: [\"/data\", \"/etc/x:/etc/x:ro\", \"/a:/b:rshared\"]",
    "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1024}}]",
    "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 64M}}]",
    "volumes: [{type: bind, source: /a, target: /b, bind: {propagation: slave}}]",
    "volumes: [{type: bind, target: /b}]",
    "volumes: [{target: /b}]",
    "volumes: [\"/a:/b:what\"]",
    "environment: [A=1, B=, C, \"D=x=y\", \"E= \"]",
    "environment: {A: 1, B: \"\", C: , D: \"yes\", E: x=y}",
    "environment: {A: [1]}",
    "environment: just text",
    "labels: [a=1, b, \"c=\"]",
    "labels: {a: 1, b: , c: \"\"}",
    "ulimits: {nofile: 10, nproc: {soft: 1, hard: 2}}",
    "ulimits: {nproc: {soft: 1}}",
    "extra_hosts: [\"a:1.2.3.4\", \"b:::1\"]",
    "extra_hosts: {a: 1.2.3.4}",
    "dns: 1.1.1.1",
    "dns: [1.1.1.1, 8.8.8.8]",
    "sysctls: [a=1]",
    "sysctls: {a: 1}",
    "init: true",
    "tty: true",
    "tty: 1",
    "user: \"33:33\"",
    "read_only: true",
    "cap_drop: [ALL]",
    "restart: always",
    "logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}",
    "deploy: {mode: global}",
    "deploy: {mode: replicated-job, replicas: 3}",
    "deploy: {replicas: two}",
    "deploy: {replicas: -1}",
    "deploy: {endpoint_mode: dnsrr}",
    "deploy: {resources: {limits: {cpus: \"0.5\", memory: 512M, pids: 10}, reservations: {memory: 1.5g}}}",
    "deploy: {resources: {limits: {cpus: 0.5}}}",
    "deploy: {resources: {limits: {memory: lots}}}",
    "deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 2m}}",
    "deploy: {update_config: {parallelism: 0, order: start-first, failure_action: rollback, max_failure_ratio: 0.2}}",
    "deploy: {update_config: {order: sideways}}",
    "deploy: {rollback_config: {failure_action: rollback}}",
    "deploy: {placement: {constraints: [a == b], preferences: [{spread: x}], max_replicas_per_node: 2}}",
    "deploy: {labels: {a: b, c: 1}}",
    "deploy: {what: ever}",
    "x-own: {any: thing}",
    "what: ever",
    "networks: [a]\nnetworks: {a: {driver: overlay, attachable: true, internal: true, ipam: {config: [{subnet: 10.0.0.0/8}]}}}",
    "networks: {a: {aliases: [b, c]}}\nnetworks: {a: }",
    "secrets: [a, {source: a, target: t, uid: \"1\", gid: \"2\", mode: 0440}]\nsecrets: {a: {external: true}}",
    "secrets: [a]\nsecrets: {a: {external: {name: old}}}",
    "secrets: [a]\nsecrets: {a: {external: true, name: n}}",
    "configs: [{source: a, mode: 0o555}]\nconfigs: {a: {external: true}}",
    "volumes: [\"data:/d:nocopy\"]\nvolumes: {data: {driver: local, driver_opts: {o: x}, labels: [a=b], name: n}}",
    "volumes: [\"data:/d\"]\nvolumes: {data: {external: true, driver: x}}",
    "command: 'sh -c \"a \\$b \\\\ c\"'",
    "command: [a, \"1\", \"true\"]",
    "cap_add: [1]",
    "deploy: {resources: {limits: {cpus: \"0.5\", memory: 512M}}}",
];

fn similar(ours: &Compose, theirs: &Compose, what: &str) {
    assert_eq!(difference(ours, theirs), None, "{what}");
}

/// What is not equal, but for the order of names.
fn difference(ours: &Compose, theirs: &Compose) -> Option<String> {
    let show = |compose: &Compose| {
        let mut value = serde_json::to_value(compose).unwrap();
        sorted(&mut value);
        serde_json::to_string_pretty(&value).unwrap()
    };
    let (ours, theirs) = (show(ours), show(theirs));
    let mut differing = ours.lines().zip(theirs.lines()).filter(|(ours, theirs)| ours != theirs);
    let (our, their) = differing.next()?;
    Some(format!("ours {}, docker's {}", our.trim(), their.trim()))
}

fn sorted(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.sort_keys();
            map.values_mut().for_each(sorted);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(sorted),
        _ => {}
    }
}
