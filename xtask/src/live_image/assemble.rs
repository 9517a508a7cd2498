//! Puts the pieces together: installed base, kernel modules, firmware and our own files become a squashfs; that,
//! a static busybox and microcode become `base.initrd`. The squashfs is not compressed a second time: unpacking
//! would cost every boot more than it saves on the wire.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use walkdir::WalkDir;

use super::Paths;
use super::base::verify_installed;
use super::command::{output, tool};
use super::config::Image;
use super::cpio::Writer;
use super::fetch;
use super::glob;
use super::lock::{Lock, Package, Usage};
use super::manifest::{Manifest, inputs_digest};
use super::modules::{Module, Modules, copy_firmware};

/// Whose processors, the package, and its folder below `lib/firmware`.
const MICROCODE: [(&str, &str, &str); 2] =
    [("AuthenticAMD", "amd64-microcode", "amd-ucode"), ("GenuineIntel", "intel-microcode", "intel-ucode")];

/// Builds the files from the base and returns their manifest.
pub(crate) fn assemble(paths: &Paths, image: &Image, lock: &Lock, base: &Path) -> Result<Manifest> {
    let inputs = inputs_digest(paths, lock)?;
    clear(&paths.work)?;
    let root = paths.work.join("root");
    fs::create_dir_all(&root)?;
    eprintln!("live-image: assembling the root");
    // Everything belongs to root in the squashfs, so owners need not survive here and no privilege is needed.
    output(
        tool("tar")
            .args([
                "--extract",
                "--no-same-owner",
                "--preserve-permissions",
                "--exclude=./dev/*",
                "--directory",
            ])
            .arg(&root)
            .arg("--file")
            .arg(base),
    )?;
    verify_installed(&root, lock, image)?;
    drop_paths(&root, &image.root.drop)?;

    let unpacked = unpack(paths, lock)?;
    let kernel = Kernel::find(&unpacked)?;
    let modules = Modules::read(&kernel.modules)?;
    let selected = modules.select(&image.modules)?;
    install_modules(&kernel, &selected, &root)?;
    let absent = copy_firmware(
        &selected,
        &image.firmware.also,
        &firmware_folders(&unpacked),
        &root.join("usr/lib/firmware"),
    )?;
    let mut listed = String::new();
    for (module, file) in &absent {
        writeln!(listed, "{module} {file}")?;
    }
    fs::write(paths.out.join("firmware-absent.txt"), listed)?;

    lay_over(&paths.source.join("root"), &root)?;
    mask(&root, &image.root.mask)?;
    depmod(&root, &kernel.release)?;
    let identity = serde_json::json!({ "format": 1, "inputs_digest": inputs, "kernel": kernel.release });
    fs::create_dir_all(root.join("usr/lib/assay"))?;
    fs::write(root.join("usr/lib/assay/image.json"), format!("{identity}\n"))?;

    for folder in ["usr/lib/modules", "usr/lib/firmware", "usr/lib/assay", "etc/systemd/system"] {
        // An image for machines without firmware files or without systemd has no such folder.
        if root.join(folder).is_dir() {
            plain_modes(&root.join(folder))?;
        }
    }

    eprintln!("live-image: {} modules; compressing", selected.len());
    let squashfs = paths.work.join("root.squashfs");
    squash(&root, &squashfs, image)?;
    let initrd = paths.work.join("base.initrd");
    let loaded = modules.load_order(&image.modules.initrd);
    if loaded.len() < image.modules.initrd.len() {
        bail!("image.toml: the kernel has no module for one of initrd = {:?}", image.modules.initrd);
    }
    write_initrd(paths, &initrd, &unpacked, &kernel, &loaded, &squashfs)?;
    fs::rename(&initrd, paths.out.join("base.initrd"))?;
    fs::copy(&kernel.image, paths.out.join("vmlinuz"))?;
    let manifest = Manifest::describe(
        &paths.out,
        &["vmlinuz", "base.initrd"],
        &kernel.release,
        lock.packages.len(),
        inputs,
    )?;
    manifest.save(&paths.out)?;
    clear(&paths.work)?;
    Ok(manifest)
}

/// A package that was taken apart, and where.
struct Unpacked {
    name: String,
    folder: PathBuf,
}

/// The kernel among them.
struct Kernel {
    release: String,
    modules: PathBuf,
    image: PathBuf,
}

impl Kernel {
    fn find(unpacked: &[Unpacked]) -> Result<Self> {
        let package = unpacked
            .iter()
            .find(|package| package.name.starts_with("linux-image-"))
            .context("packages.lock has no linux-image-… package")?;
        let release = package.name.trim_start_matches("linux-image-").to_owned();
        let modules = package.folder.join("lib/modules").join(&release);
        let image = package.folder.join(format!("boot/vmlinuz-{release}"));
        if !modules.is_dir() || !image.is_file() {
            bail!("{} does not hold lib/modules/{release} and boot/vmlinuz-{release}", package.name);
        }
        Ok(Self { release, modules, image })
    }
}

fn unpack(paths: &Paths, lock: &Lock) -> Result<Vec<Unpacked>> {
    let mut unpacked = Vec::new();
    for package in lock.used(Usage::Unpack) {
        let folder = paths.work.join("unpacked").join(&package.name);
        fs::create_dir_all(&folder)?;
        let deb: PathBuf = fetch::folder(paths).join(Package::file(package));
        output(tool("dpkg-deb").arg("--extract").arg(deb).arg(&folder))?;
        unpacked.push(Unpacked { name: package.name.clone(), folder });
    }
    Ok(unpacked)
}

/// Removes what the patterns match. A pattern that matches nothing is a mistake: what it meant to remove is still there.
fn drop_paths(root: &Path, patterns: &[String]) -> Result<()> {
    let mut used = vec![false; patterns.len()];
    let mut walk = WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter();
    while let Some(found) = walk.next() {
        let found = found?;
        let below = found.path().strip_prefix(root)?.to_string_lossy().into_owned();
        let mut hit = false;
        for (index, pattern) in patterns.iter().enumerate() {
            if glob::matches(pattern, &below) {
                used[index] = true;
                hit = true;
            }
        }
        if hit && found.file_type().is_dir() {
            walk.skip_current_dir();
            fs::remove_dir_all(found.path())?;
        } else if hit {
            fs::remove_file(found.path())?;
        }
    }
    let idle: Vec<&str> =
        patterns.iter().zip(used).filter(|(_, used)| !used).map(|(pattern, _)| pattern.as_str()).collect();
    if !idle.is_empty() {
        bail!(
            "image.toml: nothing matches these of [root] drop; correct or remove them: {}",
            idle.join(", ")
        );
    }
    Ok(())
}

fn install_modules(kernel: &Kernel, selected: &[&Module], root: &Path) -> Result<()> {
    let to = root.join("usr/lib/modules").join(&kernel.release);
    for module in selected {
        let target = to.join(&module.path);
        fs::create_dir_all(target.parent().context("a module without a folder")?)?;
        fs::copy(kernel.modules.join(&module.path), &target)?;
    }
    for index in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(kernel.modules.join(index), to.join(index))
            .with_context(|| format!("the kernel package has no {index}"))?;
    }
    Ok(())
}

fn firmware_folders(unpacked: &[Unpacked]) -> Vec<PathBuf> {
    let candidates = unpacked
        .iter()
        .flat_map(|package| ["lib/firmware", "usr/lib/firmware"].map(|at| package.folder.join(at)));
    candidates.filter(|folder| folder.is_dir()).collect()
}

/// Copies our own files over the root; replaces what is there.
fn lay_over(from: &Path, root: &Path) -> Result<()> {
    for found in WalkDir::new(from).min_depth(1).sort_by_file_name() {
        let found = found?;
        let target = root.join(found.path().strip_prefix(from)?);
        if found.file_type().is_dir() {
            if !target.is_dir() {
                fs::create_dir(&target)?;
                fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
            }
            continue;
        }
        if fs::symlink_metadata(&target).is_ok() {
            fs::remove_file(&target)?;
        }
        if found.path_is_symlink() {
            symlink(fs::read_link(found.path())?, &target)?;
        } else {
            fs::copy(found.path(), &target)?;
            let run = fs::metadata(found.path())?.permissions().mode() & 0o100 != 0;
            fs::set_permissions(&target, fs::Permissions::from_mode(if run { 0o755 } else { 0o644 }))?;
        }
    }
    Ok(())
}

fn mask(root: &Path, units: &[String]) -> Result<()> {
    let folder = root.join("etc/systemd/system");
    fs::create_dir_all(&folder)?;
    for unit in units {
        let target = folder.join(unit);
        if fs::symlink_metadata(&target).is_ok() {
            fs::remove_file(&target)?;
        }
        symlink("/dev/null", &target)?;
    }
    Ok(())
}

/// Gives files and folders that were made here the modes that they would have anywhere: the builder's umask is no
/// input of the image.
fn plain_modes(folder: &Path) -> Result<()> {
    for found in WalkDir::new(folder) {
        let found = found?;
        let mode = if found.file_type().is_dir() { 0o755 } else { 0o644 };
        if !found.path_is_symlink() {
            fs::set_permissions(found.path(), fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Indexes the modules with the image's own kmod, run by the image's own loader: the build machine may have none,
/// or one that writes another format.
fn depmod(root: &Path, release: &str) -> Result<()> {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    output(
        tool(libraries.join("ld-linux-x86-64.so.2"))
            .args(["--argv0", "depmod", "--library-path"])
            .arg(&libraries)
            .arg(root.join("usr/bin/kmod"))
            .arg("--basedir")
            .arg(root)
            .args(["--errsyms", release]),
    )?;
    Ok(())
}

fn squash(root: &Path, out: &Path, image: &Image) -> Result<()> {
    output(
        tool("mksquashfs")
            .arg(root)
            .arg(out)
            .args(["-comp", "zstd", "-Xcompression-level", &image.squashfs.level.to_string()])
            .args(["-b", &format!("{}K", image.squashfs.block_kib)])
            .args([
                "-all-root",
                "-all-time",
                "0",
                "-mkfs-time",
                "0",
                "-no-xattrs",
                "-noappend",
                "-no-progress",
                "-quiet",
            ])
            // It refuses this variable beside the options above.
            .env_remove("SOURCE_DATE_EPOCH"),
    )?;
    Ok(())
}

/// Two archives in one file: microcode, which the kernel looks for before it unpacks anything, then the rest. An image whose
/// declaration has no microcode (that of a virtual machine) is the rest alone.
fn write_initrd(
    paths: &Paths,
    out: &Path,
    unpacked: &[Unpacked],
    kernel: &Kernel,
    loaded: &[&Module],
    squashfs: &Path,
) -> Result<()> {
    let mut writer = Writer::create(out)?;
    let declared = |package: &str| unpacked.iter().any(|unpacked| unpacked.name == package);
    if MICROCODE.iter().any(|(_, package, _)| declared(package)) {
        for folder in ["kernel", "kernel/x86", "kernel/x86/microcode"] {
            writer.folder(folder)?;
        }
        for (vendor, package, folder) in MICROCODE {
            writer.bytes(
                &format!("kernel/x86/microcode/{vendor}.bin"),
                0o644,
                &microcode(unpacked, package, folder)?,
            )?;
        }
        writer.end()?;
    }

    for folder in ["bin", "modules"] {
        writer.folder(folder)?;
    }
    let busybox = folder_of(unpacked, "busybox-static")?.join("bin/busybox");
    writer.file("bin/busybox", 0o755, &busybox)?;
    let mut order = String::new();
    for module in loaded {
        let file = module.path.rsplit('/').next().unwrap_or_default();
        writer.file(&format!("modules/{file}"), 0o644, &kernel.modules.join(&module.path))?;
        order.push_str(file);
        order.push('\n');
    }
    writer.bytes("modules/order", 0o644, order.as_bytes())?;
    writer.file("init", 0o755, &paths.source.join("initrd/init"))?;
    writer.file("root.squashfs", 0o644, squashfs)?;
    writer.end()?;
    writer.finish()
}

/// All updates of a vendor in one blob, as the kernel's early loader reads it.
fn microcode(unpacked: &[Unpacked], package: &str, folder: &str) -> Result<Vec<u8>> {
    let below = folder_of(unpacked, package)?;
    let mut blob = Vec::new();
    for place in ["lib/firmware", "usr/lib/firmware"] {
        for found in WalkDir::new(below.join(place).join(folder)).sort_by_file_name() {
            let Ok(found) = found else { continue };
            let ends_otherwise =
                found.path().extension().is_some_and(|extension| extension != "bin" && extension.len() > 2);
            if found.file_type().is_file() && !ends_otherwise {
                fs::File::open(found.path())?.read_to_end(&mut blob)?;
            }
        }
    }
    if blob.is_empty() {
        bail!("{package} has no {folder}; the image would run processors without their fixes");
    }
    Ok(blob)
}

fn folder_of<'a>(unpacked: &'a [Unpacked], name: &str) -> Result<&'a Path> {
    let package = unpacked.iter().find(|package| package.name == name);
    Ok(&package.with_context(|| format!("image.toml: [packages] unpack must have {name}"))?.folder)
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_removes_what_matches_and_refuses_idle_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/share/doc/fio")).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/share/doc/fio/README"), "").unwrap();
        fs::write(root.join("usr/bin/fio"), "").unwrap();
        symlink("fio", root.join("usr/bin/perl5")).unwrap();
        drop_paths(root, &["usr/share/doc/*".into(), "usr/bin/perl*".into()]).unwrap();
        assert!(root.join("usr/share/doc").is_dir() && root.join("usr/bin/fio").exists());
        assert!(
            !root.join("usr/share/doc/fio").exists()
                && fs::symlink_metadata(root.join("usr/bin/perl5")).is_err()
        );
        let error =
            drop_paths(root, &["usr/bin/fio".into(), "usr/bin/pearl*".into()]).unwrap_err().to_string();
        assert!(error.contains("usr/bin/pearl*") && !error.contains("usr/bin/fio"), "{error}");
    }

    #[test]
    fn our_files_and_masks_replace_what_the_packages_brought() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, root) = (folder.path().join("ours"), folder.path().join("root"));
        fs::create_dir_all(ours.join("etc/systemd/system")).unwrap();
        fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
        symlink("/somewhere", root.join("etc/hostname")).unwrap();
        fs::write(root.join("etc/systemd/system/swap.target"), "[Unit]").unwrap();
        fs::write(ours.join("etc/hostname"), "assay").unwrap();
        symlink("multi-user.target", ours.join("etc/systemd/system/default.target")).unwrap();
        lay_over(&ours, &root).unwrap();
        mask(&root, &["swap.target".into(), "getty@.service".into()]).unwrap();
        assert_eq!(fs::read_to_string(root.join("etc/hostname")).unwrap(), "assay");
        let link = |name: &str| fs::read_link(root.join("etc/systemd/system").join(name)).unwrap();
        assert_eq!(link("default.target"), Path::new("multi-user.target"));
        assert_eq!((link("swap.target"), link("getty@.service")), ("/dev/null".into(), "/dev/null".into()));
    }

    #[test]
    fn modes_do_not_depend_on_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let (sub, file) = (folder.path().join("sub"), folder.path().join("sub/file"));
        fs::create_dir(&sub).unwrap();
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&sub, fs::Permissions::from_mode(0o700)).unwrap();
        symlink("/nowhere", folder.path().join("link")).unwrap();
        plain_modes(folder.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&sub), mode(&file)), (0o755, 0o644));
    }
}
