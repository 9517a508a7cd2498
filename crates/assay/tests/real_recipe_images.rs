//! `assay recipe test` with images from a registry: a recipe of one service, whose image nobody but an upstream registry has. Needs
//! root.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use assay_model::Sha256;
use assay_process::{Child, Cmd, Output, find_program};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_mins(5);

/// What the registry is called in the recipe: its name is all that a recipe knows.
const COMPOSE: &str = r#"version: "3.8"
services:
  app:
    image: reg.example/shop/web:1.0
    command: ["httpd", "-f", "-p", "80", "-h", "/www"]
    networks: [proxy]
    healthcheck:
      test: ["CMD", "/bin/busybox", "true"]
      interval: 2s
    deploy:
      labels:
        - "traefik.enable=true"
        - "traefik.http.services.${STACK_NAME}.loadbalancer.server.port=80"
        - "traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)"
        - "coop-cloud.${STACK_NAME}.version=1.0.0+1.0"
networks:
  proxy:
    external: true
"#;

#[tokio::test]
async fn an_image_comes_from_its_registry_once_and_from_the_cache_ever_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut upstream = upstream(folder.path()).await;
    let recipe = folder.path().join("web");
    std::fs::create_dir(&recipe).expect("made");
    std::fs::write(recipe.join("compose.yml"), COMPOSE).expect("written");
    std::fs::write(recipe.join(".env.sample"), "TYPE=web\nDOMAIN=web.example.com\n").expect("written");

    let first = test(folder.path(), &upstream, "first").await;
    assert_eq!(first.code(), Some(0), "{}", said(&first));
    let image = image(&folder.path().join("first"));
    assert_eq!(image["from"], "registry");
    let digest = image["digests"][0].as_str().expect("a digest");
    assert!(digest.starts_with("reg.example/shop/web@sha256:"), "{image}");
    assert!(image["fetched"]["blob_bytes"].as_u64() > Some(100_000), "{image}");

    let second = test(folder.path(), &upstream, "second").await;
    assert_eq!(second.code(), Some(0), "{}", said(&second));
    let again = self::image(&folder.path().join("second"));
    assert_eq!(again["digests"], image["digests"]);
    let fetched = &again["fetched"];
    assert_eq!((&fetched["blob_bytes"], &fetched["manifest_bytes"]), (&json!(0), &json!(0)), "{again}");
    assert_eq!(fetched["requests"], 1, "whether the tag still means it");

    // Nobody is there any more: what is kept serves, and what is not is nobody's verdict.
    upstream.0.stop(Duration::from_secs(5)).await.expect("it stops");
    let third = test(folder.path(), &upstream, "third").await;
    assert_eq!(third.code(), Some(0), "{}", said(&third));
    let kept = self::image(&folder.path().join("third"));
    assert!(
        kept["from"].as_str().is_some_and(|from| from.starts_with("cache, as the registry had it")),
        "{kept}"
    );

    std::fs::write(recipe.join("compose.yml"), COMPOSE.replace("web:1.0", "web:2.0")).expect("written");
    let unknown = test(folder.path(), &upstream, "unknown").await;
    assert_eq!(unknown.code(), Some(4), "{}", said(&unknown));
    assert!(said(&unknown).contains("could not be reached"), "{}", said(&unknown));
}

/// What a failed expectation shows.
fn said(output: &Output) -> String {
    format!("{}\n{}", output.stdout_text(), output.stderr_text())
}

async fn test(folder: &Path, upstream: &(Child, u16), out: &str) -> Output {
    Cmd::new(env!("CARGO_BIN_EXE_assay"))
        .args(["recipe", "test", "--quick"])
        .arg(folder.join("web"))
        .arg("--registry")
        .arg(format!("reg.example=http://127.0.0.1:{}", upstream.1))
        .arg("--image-cache")
        .arg(folder.join("cache"))
        .arg("--out")
        .arg(folder.join(out))
        .timeout(LIMIT)
        .run()
        .await
        .expect("it ran")
}

/// The one image in the evidence of a run, which is an artifact in its bundle.
fn image(out: &Path) -> Value {
    let mut bundle = tar::Archive::new(std::fs::File::open(out.join("bundle.tar")).expect("a bundle"));
    for entry in bundle.entries().expect("it reads") {
        let mut text = String::new();
        if entry.expect("it reads").read_to_string(&mut text).is_err() || !text.contains("\"fetched\"") {
            continue;
        }
        // A journal has lines; the evidence is one value.
        let Ok(evidence) = serde_json::from_str::<Value>(&text) else { continue };
        let images = evidence.pointer("/what/images").or_else(|| evidence.pointer("/images"));
        if let Some(image) = images.and_then(|images| images.get(0)) {
            return image.clone();
        }
    }
    panic!("no evidence in {} names what was fetched", out.display())
}

/// A registry with one image: Debian's busybox and a page.
async fn upstream(folder: &Path) -> (Child, u16) {
    let settings = json!({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": folder.join("upstream")}},
        "http": {"addr": "127.0.0.1:0"},
    });
    let path = folder.join("upstream.json");
    std::fs::write(&path, settings.to_string()).expect("written");
    let mut child = Cmd::new("docker-registry").arg("serve").arg(path).spawn().await.expect("it starts");
    let port = loop {
        let line = child.next_line().await.expect("the registry serves").text;
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            break rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a port");
        }
    };
    let archive = folder.join("web.tar");
    write_archive(&archive);
    Cmd::new("skopeo")
        .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("docker://127.0.0.1:{port}/shop/web:1.0"))
        .run_ok()
        .await
        .expect("it is filled");
    (child, port)
}

fn write_archive(path: &Path) {
    let busybox = std::fs::read(find_program("busybox").expect("busybox-static")).expect("it reads");
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "bin/busybox", 0o755, &busybox);
    add(&mut layer, "www/index.html", 0o644, b"<h1>a shop</h1>\n");
    let layer = layer.into_inner().expect("packed");
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", Sha256::of(&layer))]},
        "history": [{"created": "2024-01-01T00:00:00Z"}],
    });
    let table = json!([{"Config": "config.json", "RepoTags": ["shop/web:1.0"], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(std::fs::File::create(path).expect("made"));
    add(&mut archive, "config.json", 0o644, config.to_string().as_bytes());
    add(&mut archive, "layer.tar", 0o644, &layer);
    add(&mut archive, "manifest.json", 0o644, table.to_string().as_bytes());
    archive.finish().expect("packed");
}

fn add<W: std::io::Write>(builder: &mut tar::Builder<W>, name: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    builder.append_data(&mut header, name, content).expect("packed");
}
