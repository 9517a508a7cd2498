//! Which files of a repository decide what its image does on hardware: kernel, initramfs, firmware, the choice of disks.
//!
//! A file in the repository names them, so that CI can ask whether a change is one that only a real machine can judge.
//! That needs neither a server nor a token.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::ui;

/// Where the file is unless another one is named.
pub(super) const FILE: &str = "hardware-paths.toml";
/// The version of the format that is read.
const FORMAT: u32 = 1;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    /// What it is about → patterns of paths, from the repository's root.
    paths: BTreeMap<String, Vec<String>>,
}

/// The same, ready to be asked.
#[derive(Debug)]
struct HardwarePaths(Vec<(String, String, GlobMatcher)>);

/// A changed file that a pattern names.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Hit {
    path: String,
    about: String,
    pattern: String,
}

/// Exit 1 when any of these paths is named by the file.
pub(super) fn run(file: &Path, changed: &[String], json: bool) -> Result<Exit> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read {}; name the file with --paths, or write one (docs/guide/compatibility.md)",
            file.display()
        )
    })?;
    let paths = HardwarePaths::read(&text).with_context(|| format!("{}", file.display()))?;
    let hits = paths.hits(changed);
    let exit = if hits.is_empty() { Exit::Ok } else { Exit::Fail };
    if json {
        ui::json(&serde_json::json!({ "due": !hits.is_empty(), "changed": hits }))?;
        return Ok(exit);
    }
    for hit in &hits {
        ui::line(&format!("{}: {} ({})", hit.about, hit.path, hit.pattern));
    }
    if hits.is_empty() {
        ui::line("nothing that decides what the image does on hardware has changed");
    } else {
        ui::line("next: test the image on a machine: `assay image test FILE --profile PROFILE --on HOST`");
    }
    Ok(exit)
}

impl HardwarePaths {
    fn read(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        if file.format != FORMAT {
            bail!("format = {}: this Assay reads format {FORMAT}", file.format);
        }
        let mut all = Vec::new();
        for (about, patterns) in file.paths {
            for pattern in patterns {
                let plain = pattern.trim_start_matches("./");
                if plain.is_empty() || plain.starts_with('/') {
                    bail!(
                        "paths.{about} = {pattern:?}: write a path from the repository's root, such as `kernel/**`"
                    );
                }
                // A folder is everything in it.
                let whole = if plain.ends_with('/') { format!("{plain}**") } else { plain.to_owned() };
                let glob = GlobBuilder::new(&whole)
                    .literal_separator(true)
                    .build()
                    .with_context(|| format!("paths.{about} = {pattern:?}"))?;
                all.push((about.clone(), pattern, glob.compile_matcher()));
            }
        }
        if all.is_empty() {
            bail!("[paths] names nothing, so that no change would ever be tested on hardware");
        }
        Ok(Self(all))
    }

    /// Of each changed file the first pattern that names it.
    fn hits(&self, changed: &[String]) -> Vec<Hit> {
        let hit = |path: &String| {
            let plain = path.trim().trim_start_matches("./");
            let (about, pattern, _) = self.0.iter().find(|(_, _, glob)| glob.is_match(plain))?;
            Some(Hit { path: path.clone(), about: about.clone(), pattern: pattern.clone() })
        };
        changed.iter().filter_map(hit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: &str = "format = 1\n[paths]\ndisks = [\"installer/choose-disk*.sh\"]\nfirmware = [\"firmware/\"]\n\
        kernel = [\"./kernel/**\", \"*.config\"]\n";

    fn hits(changed: &[&str]) -> Vec<String> {
        let paths = HardwarePaths::read(PATHS).expect("it reads");
        let changed: Vec<String> = changed.iter().map(|path| (*path).to_owned()).collect();
        paths.hits(&changed).into_iter().map(|hit| format!("{} {}", hit.about, hit.path)).collect()
    }

    #[test]
    fn a_pattern_names_exactly_what_it_says() {
        assert_eq!(
            hits(&["kernel/a.c", "./kernel/deep/er/b.c"]),
            ["kernel kernel/a.c", "kernel ./kernel/deep/er/b.c"]
        );
        assert_eq!(
            hits(&["firmware/x.bin", "firmware/a/b"]),
            ["firmware firmware/x.bin", "firmware firmware/a/b"]
        );
        assert_eq!(hits(&["installer/choose-disk-by-size.sh"]), ["disks installer/choose-disk-by-size.sh"]);
        // A star stays within its folder, and nothing is named by its end alone.
        assert_eq!(
            hits(&["docs/x.config", "installer/choose-disk/x.sh", "old/kernel/a.c", "kernels", ""]),
            [""; 0]
        );
        assert_eq!(hits(&["x.config"]), ["kernel x.config"]);
        assert_eq!(hits(&[]), [""; 0]);
    }

    #[test]
    fn a_file_that_would_never_ask_for_a_test_is_refused() {
        let problem = |text: &str| format!("{:#}", HardwarePaths::read(text).expect_err("refused"));
        assert!(problem("format = 1\n[paths]\n").contains("names nothing"));
        assert!(problem("format = 1\n[paths]\nkernel = []\n").contains("names nothing"));
        assert!(problem("format = 2\n[paths]\nkernel = [\"a\"]\n").contains("reads format 1"));
        assert!(problem("format = 1\n[paths]\nkernel = [\"/etc/x\"]\n").contains("repository's root"));
        assert!(problem("format = 1\n[paths]\nkernel = [\"a[\"]\n").contains("paths.kernel"));
        assert!(problem("format = 1\n[path]\nkernel = [\"a\"]\n").contains("unknown field"));
    }
}
