//! The trivial recipe with an image of a gigabyte: what size alone costs.
//!
//! The image is the small one with a layer of noise on top, which nothing can compress or share.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Bench, finished, remove, stages};
use crate::bench::{Figure, Goal};
use crate::tool;

const BYTES: u64 = 1 << 30;
const IMAGE: &str = "static-web-1.0.tar";

pub(super) fn measure(bench: &Bench) -> Result<Figure> {
    let images = bench.folder.join("large");
    make(&bench.images.join(IMAGE), &images).context("making an image of a gigabyte")?;
    let mut test = Command::new(&bench.assay);
    test.args(["recipe", "test", "--json"]).arg(bench.checkout("static-site")?).arg("--images").arg(&images);
    test.arg("--out").arg(bench.folder.join("large-out"));
    test.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let tested = finished(test.spawn().context("cannot start assay")?, began, "static-site", "pass")?;
    remove(&images)?;
    let note = stages(&tested.report);
    Ok(Figure {
        name: "trivial recipe with an image of 1 GiB, all stages".to_owned(),
        value: tested.seconds,
        unit: "s",
        peer: None,
        peer_value: None,
        ratio: None,
        goal: Goal::None,
        ok: true,
        command: String::new(),
        note,
    })
}

/// Writes the archive at `small` with one more layer into the folder `images`.
fn make(small: &Path, images: &Path) -> Result<()> {
    let tree = images.join("tree");
    fs::create_dir_all(&tree)?;
    tar(&["--extract", "--file"], small, &tree, &[])?;
    let layer = tree.join("noise.tar");
    noise(&images.join("noise"))?;
    let mut pack = Command::new("tar");
    pack.args(["--create", "--file"]).arg(&layer).arg("--directory").arg(images).arg("noise");
    tool::run(pack)?;
    fs::remove_file(images.join("noise"))?;
    let manifest = tree.join("manifest.json");
    let mut said: Value = serde_json::from_slice(&fs::read(&manifest)?)?;
    let configuration = tree.join(said[0]["Config"].as_str().context("a manifest without a configuration")?);
    let mut config: Value = serde_json::from_slice(&fs::read(&configuration)?)?;
    let digest = format!("sha256:{}", digest(&layer)?);
    config["rootfs"]["diff_ids"].as_array_mut().context("no layers")?.push(digest.into());
    if let Some(history) = config["history"].as_array_mut() {
        history.push(serde_json::json!({ "created": "2024-01-01T00:00:00Z", "created_by": "noise" }));
    }
    said[0]["Layers"].as_array_mut().context("no layers")?.push("noise.tar".into());
    fs::write(&configuration, serde_json::to_vec(&config)?)?;
    // The name is its digest; whoever checks that has to find it so.
    let renamed = format!("{}.json", hex::encode(Sha256::digest(serde_json::to_vec(&config)?)));
    fs::rename(&configuration, tree.join(&renamed))?;
    said[0]["Config"] = renamed.into();
    fs::write(&manifest, serde_json::to_vec(&said)?)?;
    // By their names: `./manifest.json` is not found by those who read archives.
    let names = fs::read_dir(&tree)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    tar(&["--create", "--file"], &images.join(IMAGE), &tree, &names)?;
    remove(&tree)
}

fn noise(path: &Path) -> Result<()> {
    let mut random = File::open("/dev/urandom")?.take(BYTES);
    let mut file = File::create(path)?;
    std::io::copy(&mut random, &mut file)?;
    Ok(file.flush()?)
}

fn digest(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&block[..read]),
        }
    }
}

fn tar(how: &[&str], archive: &Path, folder: &Path, what: &[OsString]) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(how).arg(archive).arg("--directory").arg(folder).args(what);
    tool::run(tar)
}
