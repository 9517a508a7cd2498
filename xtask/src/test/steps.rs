//! The steps of `cargo xtask test`, in order: what is quick and says most comes early.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::chore::chore;
use crate::{assets, boundaries, demo, live_image, place, providers, schemas, setup, tool};

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Takes minutes, root and an emulator; `--fast` leaves it out.
    pub(super) boots_machines: bool,
    pub(super) run: fn() -> Result<()>,
}

pub(super) static STEPS: [Step; 21] = [
    Step {
        name: "setup",
        what: "install what is missing",
        boots_machines: false,
        run: || chore::<setup::Setup>(&[], setup::run),
    },
    Step {
        name: "assets",
        what: "style and script of the pages",
        boots_machines: false,
        run: || chore::<assets::Assets>(&[], assets::run),
    },
    Step {
        name: "providers",
        what: "what recipes under test may depend on",
        boots_machines: false,
        run: || chore::<providers::Providers>(&[], providers::run),
    },
    Step {
        name: "fmt",
        what: "the code is formatted",
        boots_machines: false,
        run: || cargo(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "boundaries",
        what: "no crate depends on one that it must not know",
        boots_machines: false,
        run: boundaries::run,
    },
    Step {
        name: "deny",
        what: "bans, licences, sources (not advisories: those need the network)",
        boots_machines: false,
        run: deny,
    },
    Step {
        name: "machete",
        what: "no dependency is declared and unused",
        boots_machines: false,
        run: || cargo(&["machete"]),
    },
    Step { name: "clippy", what: "lints, with warnings as errors", boots_machines: false, run: clippy },
    Step {
        name: "build",
        what: "every program and every test",
        boots_machines: false,
        // With the tests, so that what follows shares one set of dependencies' features and builds nothing twice.
        run: || cargo(&["build", "--workspace", "--all-targets"]),
    },
    Step {
        name: "schemas",
        what: "the published schemas are those of the types",
        boots_machines: false,
        run: || chore::<schemas::Schemas>(&["--check"], schemas::run),
    },
    Step {
        name: "nextest",
        what: "every test that boots nothing",
        boots_machines: false,
        run: || nextest("not binary(/^real_/)", &[]),
    },
    Step {
        name: "doctest",
        what: "the examples in the documentation",
        boots_machines: false,
        run: || cargo(&["test", "--doc", "--workspace"]),
    },
    Step { name: "doc", what: "the documentation has no broken links", boots_machines: false, run: doc },
    Step {
        name: "live-image",
        what: "build the live image, or take the one that is current",
        boots_machines: true,
        run: || chore::<live_image::LiveImage>(&[], live_image::run),
    },
    Step {
        name: "live-check",
        what: "the live image drives the hardware that it must",
        boots_machines: true,
        run: || chore::<live_image::LiveImage>(&["--check"], live_image::run),
    },
    Step {
        name: "guest-image",
        what: "build the system that strangers' recipes are tested in, or take the one that is current",
        boots_machines: true,
        run: || chore::<live_image::GuestImage>(&[], live_image::run_guest),
    },
    Step {
        name: "api-server",
        what: "build the Kubernetes API server that registrations are applied to, or take the one that is there",
        boots_machines: true,
        run: api_server,
    },
    Step {
        name: "app-images",
        what: "build the images of the recipes that are tested, or take their layers from the cache",
        boots_machines: true,
        run: app_images,
    },
    Step {
        name: "e2e",
        what: "tests against the real thing: QEMU, dnsmasq, a Kubernetes API server, Docker daemons, a browser",
        boots_machines: true,
        run: e2e,
    },
    Step {
        name: "prove",
        what: "a fault of every kind is seen red, a healthy machine green, and a muted check is missed",
        boots_machines: true,
        run: prove,
    },
    Step {
        name: "demo",
        what: "one machine passes and one is held, by the whole product",
        boots_machines: true,
        run: || chore::<demo::Demo>(&["--exit", "--built"], demo::run),
    },
];

/// The check that the proof catalogue must miss when it is switched off, and the entries to see that with: its
/// own, which must fail then, and another, which must not.
const MUTED: &str = "NvmeCriticalWarning";
const MUTED_ENTRIES: [&str; 2] = ["failing-nvme", "missing-dimm"];

/// The archives of the recipes' images.
const APP_IMAGES: &str = "target/recipe-images";

fn cargo(args: &[&str]) -> Result<()> {
    tool::run(cargo_command(args))
}

fn cargo_command(args: &[&str]) -> Command {
    let mut cargo = Command::new(place::cargo());
    cargo.args(args).current_dir(place::repository());
    eprintln!("$ {}", tool::show(&cargo));
    cargo
}

fn clippy() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn deny() -> Result<()> {
    cargo(&["deny", "--all-features", "--locked", "check", "bans", "licenses", "sources"])?;
    eprintln!(
        "deny: advisories were not checked, since they need the network: `cargo deny check advisories`"
    );
    Ok(())
}

fn doc() -> Result<()> {
    let mut doc = cargo_command(&["doc", "--no-deps", "--workspace", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    tool::run(doc)
}

fn api_server() -> Result<()> {
    let mut build = Command::new(place::repository().join("examples/images/kube-apiserver/build"));
    build.current_dir(place::repository());
    eprintln!("$ {}", tool::show(&build));
    tool::run(build)
}

/// Where `prove` looks for them. Tests build their own from the same layers.
fn app_images() -> Result<()> {
    let mut build = Command::new(place::repository().join("examples/recipes/images/build"));
    build.arg("--out").arg(place::repository().join(APP_IMAGES)).current_dir(place::repository());
    eprintln!("$ {}", tool::show(&build));
    tool::run(build)
}

/// Test binaries that wait for swarms and hold no emulated machine: beside each other they take a third of the time.
const WAITING: &str = "binary(/^real_(recipe|forge$|backup$|registry$|upstreams$|swarm$)/)";

/// First what emulates machines, two of them at a time, then what mostly waits.
fn e2e() -> Result<()> {
    let machines = nextest(&format!("binary(/^real_/) and not {WAITING}"), &["--test-threads", "2"]);
    let waiting = nextest(WAITING, &["--test-threads", "3"]);
    machines.and(waiting)
}

fn nextest(filter: &str, more: &[&str]) -> Result<()> {
    let mut nextest = cargo_command(&["nextest", "run", "--workspace", "--no-fail-fast", "-E", filter]);
    nextest.args(more);
    // A test that disagrees with its snapshot fails; it writes nothing beside it.
    nextest.env("INSTA_UPDATE", "no");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![setup::python_tools::programs()];
    folders.extend(std::env::split_paths(&path));
    nextest.env("PATH", std::env::join_paths(folders)?);
    tool::run(nextest)
}

fn prove() -> Result<()> {
    if !place::is_root() {
        bail!("proofs switch simulated machines, which needs root: sudo -E cargo xtask test --only prove");
    }
    let image = place::repository().join("target/live-image");
    if !image.join("manifest.json").is_file() {
        bail!("there is no live image; run `cargo xtask test --only live-image` first");
    }
    let evidence = place::repository().join("target/proofs");
    fs::create_dir_all(&evidence)?;
    let app_images = place::repository().join(APP_IMAGES);
    let prove = |name: &str, which: &str, more: &[&str]| {
        let mut prove = Command::new(place::debug_builds().join("assay"));
        prove.args(["prove", which, "--live-image"]).arg(&image).args(more);
        prove.arg("--json").arg(evidence.join(format!("{name}.jsonl"))).current_dir(place::repository());
        eprintln!("$ {}", tool::show(&prove));
        tool::run(prove)
    };
    prove("image", "image", &["--smoke", "--jobs", "2"])?;
    prove("recipe", "recipe", &["--smoke", "--app-images", &app_images.display().to_string()])?;
    prove("host", "host", &["--smoke", "--jobs", "2"])?;
    let mut muted = vec!["--mute", MUTED];
    for entry in &MUTED_ENTRIES {
        muted.extend(["--only", entry]);
    }
    prove("host-muted", "host", &muted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_muted_check_has_an_entry_in_the_catalogue() {
        let read = |name: &str| {
            fs::read_to_string(place::repository().join(format!("lab/faults/{name}.toml"))).expect("an entry")
        };
        let code = format!("code = \"{MUTED}\"");
        let with: Vec<bool> = MUTED_ENTRIES.iter().map(|name| read(name).contains(&code)).collect();
        assert_eq!(with, [true, false], "one entry must fail without the check, and one must not");
    }
}
