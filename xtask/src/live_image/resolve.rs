//! Turns the declared packages into exact ones, with apt's own resolver over an empty system, so that neither the
//! build machine's sources nor what is installed on it matter.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Paths;
use super::command::{text, tool};
use super::config::Image;
use super::lock::{Lock, Package, Usage};

/// Asks the mirror what the declared packages are today.
pub(crate) fn resolve(paths: &Paths, image: &Image) -> Result<Lock> {
    eprintln!("live-image: resolving packages");
    let apt = Apt::new(paths, image)?;
    text(apt.command("apt-get").arg("update").arg("--error-on=any"))
        .context("the package index cannot be fetched")?;

    let installed = text(
        apt.command("apt-get")
            .args(["install", "--yes", "--print-uris"])
            .arg("?and(?essential, ?not(?exact-name(apt)))")
            .args(&image.packages.install),
    )
    .context("the declared packages cannot be installed together")?;
    let unpacked = text(
        apt.command("apt-get")
            .args(["download", "--print-uris"])
            .arg(apt.kernel(&image.packages.kernel)?)
            .args(&image.packages.unpack),
    )?;
    let mut packages = parse_uris(&installed, Usage::Install, &apt.mirrors)?;
    packages.extend(parse_uris(&unpacked, Usage::Unpack, &apt.mirrors)?);
    eprintln!("live-image: {} packages", packages.len());
    Lock::new(image.packages_digest(), packages)
}

struct Apt {
    config: PathBuf,
    /// (archive, base URL)
    mirrors: Vec<(&'static str, String)>,
}

impl Apt {
    fn new(paths: &Paths, image: &Image) -> Result<Self> {
        let dir = paths.cache.join("apt");
        for sub in ["state/lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let debian = &image.debian;
        // The longer URL first: `…/debian` is a prefix of `…/debian-security`.
        let mirrors = vec![("security", debian.mirror_of("security")?), ("main", debian.mirror_of("main")?)];
        let mut sources = String::new();
        for (archive, url) in &mirrors {
            let suites = if *archive == "main" { &debian.suites } else { &debian.security_suites };
            for suite in suites {
                writeln!(
                    sources,
                    "deb [signed-by={}] {url} {suite} {}",
                    debian.keyring,
                    debian.components.join(" ")
                )?;
            }
        }
        fs::write(dir.join("sources.list"), sources)?;
        let mut status = String::new();
        for name in &image.packages.placeholders {
            write!(status, "Status: install ok installed\n{}\n", placeholder_control(name))?;
        }
        fs::write(dir.join("status"), status)?;
        let config = dir.join("apt.conf");
        let at = dir.display();
        fs::write(
            &config,
            format!(
                r#"Dir "{at}"; Dir::State "{at}/state"; Dir::State::status "{at}/status"; Dir::Cache "{at}/cache";
Dir::Etc "{at}/etc"; Dir::Etc::sourcelist "{at}/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::parts "/dev/null";
Dir::Etc::preferencesparts "/dev/null"; APT::Architecture "amd64"; APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::ForceHash "SHA256";
Acquire::Retries "3";
"#
            ),
        )?;
        Ok(Self { config, mirrors })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tool(program);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// The kernel package that the metapackage stands for today.
    fn kernel(&self, metapackage: &str) -> Result<String> {
        let depends = text(self.command("apt-cache").args(["depends", "--important", metapackage]))?;
        depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| {
                format!(
                    "{metapackage} depends on no linux-image-…; image.toml's kernel must be a metapackage"
                )
            })
    }
}

/// The control stanza of an empty package; also what the resolver is told is installed.
pub(crate) fn placeholder_control(name: &str) -> String {
    format!(
        "Package: {name}\nVersion: 99\nArchitecture: amd64\nMulti-Arch: allowed\nMaintainer: Assay <nobody@localhost>\n\
         Description: empty stand-in, see live-image/image.toml\n"
    )
}

/// Reads `apt-get --print-uris`: `'URL' FILE BYTES SHA256:HEX`.
fn parse_uris(listing: &str, usage: Usage, mirrors: &[(&'static str, String)]) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for line in listing.lines().filter(|line| line.starts_with('\'')) {
        let bad = || format!("apt printed a line that is not understood: {line}");
        let (url, rest) = line[1..].split_once("' ").with_context(bad)?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let [file, bytes, hash] = fields[..] else { bail!(bad()) };
        let (archive, path) = mirrors
            .iter()
            .find_map(|(archive, base)| Some((*archive, url.strip_prefix(base.as_str())?.strip_prefix('/')?)))
            .with_context(|| format!("{url} is at no mirror of image.toml"))?;
        let (name, rest) = file.split_once('_').with_context(bad)?;
        let (version, _) = rest.rsplit_once('_').with_context(bad)?;
        packages.push(Package {
            name: name.to_owned(),
            version: version.replace("%3a", ":"),
            path: path.to_owned(),
            archive: archive.to_owned(),
            usage,
            bytes: bytes.parse().with_context(bad)?,
            sha256: hash.strip_prefix("SHA256:").with_context(bad)?.to_owned(),
        });
    }
    if packages.is_empty() {
        bail!("apt resolved no packages:\n{listing}");
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors() -> Vec<(&'static str, String)> {
        vec![("security", "http://m/debian-security".into()), ("main", "http://m/debian".into())]
    }

    #[test]
    fn apts_listing_becomes_packages() {
        let sha = "0a".repeat(32);
        let listing = format!(
            "NOTE: some text\n'http://m/debian/pool/main/s/sed/sed_4.9-1_amd64.deb' sed_4.9-1_amd64.deb 329092 SHA256:{sha}\n\
             'http://m/debian-security/pool/updates/main/u/ul/mount_2.38.1-5%2bdeb12u3_amd64.deb' mount_1%3a2.38.1-5+deb12u3_amd64.deb 1 SHA256:{sha}\n"
        );
        let packages = parse_uris(&listing, Usage::Install, &mirrors()).unwrap();
        let seen: Vec<_> = packages
            .iter()
            .map(|p| (p.name.as_str(), p.version.as_str(), p.archive.as_str(), p.path.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("sed", "4.9-1", "main", "pool/main/s/sed/sed_4.9-1_amd64.deb"),
                (
                    "mount",
                    "1:2.38.1-5+deb12u3",
                    "security",
                    "pool/updates/main/u/ul/mount_2.38.1-5%2bdeb12u3_amd64.deb"
                ),
            ]
        );
    }

    #[test]
    fn a_weaker_hash_an_unknown_mirror_or_nothing_at_all_is_refused() {
        for listing in [
            "'http://m/debian/pool/a_1_amd64.deb' a_1_amd64.deb 1 MD5Sum:00".to_owned(),
            format!("'http://other/pool/a_1_amd64.deb' a_1_amd64.deb 1 SHA256:{}", "0a".repeat(32)),
            "Reading package lists...".to_owned(),
        ] {
            assert!(parse_uris(&listing, Usage::Install, &mirrors()).is_err(), "{listing}");
        }
    }
}
