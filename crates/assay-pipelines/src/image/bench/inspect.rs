//! Collects `Inspect`: reads the image's descriptors, its boot catalogue and its list of files.

use assay_media::{BootEntry as Entry, Iso, MediaError, Platform};

use super::{Brought, Test, blocking, brought};
use crate::image::ImageSpec;
use crate::image::evidence::{BootEntry, Inspected};
use crate::image::profile::InspectSpec;

/// The most files that are named for one glob.
const MAX_NAMED: usize = 20;

impl Test {
    pub(super) async fn inspect(&mut self) -> Result<Brought, String> {
        brought(&inspected(&self.spec).await?, Vec::new())
    }
}

/// What the image is made of.
pub(super) async fn inspected(spec: &ImageSpec) -> Result<Inspected, String> {
    let (image, wanted) = (spec.image.clone(), spec.profile.inspect.clone());
    blocking(move || {
        Iso::open(&image).and_then(|iso| look(&iso, &wanted)).unwrap_or_else(|error| unreadable(&error))
    })
    .await
}

fn look(iso: &Iso, wanted: &InspectSpec) -> Result<Inspected, MediaError> {
    let booting = iso.booting()?;
    let mut inspected = Inspected {
        problem: None,
        volume_id: iso.volume().id.clone().unwrap_or_default(),
        said_bytes: iso.volume().bytes,
        bytes: iso.file_bytes(),
        entries: iso.boot_entries().iter().filter_map(entry).collect(),
        stick_bios: booting.stick_bios.works,
        stick_uefi: booting.stick_uefi.works,
        files: iso.files()?.iter().filter(|node| node.is_file()).count() as u64,
        required: std::collections::BTreeMap::new(),
        empty: Vec::new(),
        forbidden: Vec::new(),
    };
    // A way of booting may lack more than its entry: the catalogue's word is not enough.
    for (name, way) in [("BIOS", &booting.cd_bios), ("UEFI", &booting.cd_uefi)] {
        for entry in inspected.entries.iter_mut().filter(|entry| entry.firmware == name) {
            entry.usable &= way.works;
            if !way.works {
                entry.detail.clone_from(&way.because);
            }
        }
    }
    for glob in &wanted.required {
        let found = iso.find(glob)?;
        inspected.empty.extend(found.iter().filter(|node| node.size == 0).map(|node| node.path.clone()));
        let paths = found.into_iter().take(MAX_NAMED).map(|node| node.path).collect();
        inspected.required.insert(glob.clone(), paths);
    }
    for glob in &wanted.forbidden {
        inspected.forbidden.extend(iso.find(glob)?.into_iter().take(MAX_NAMED).map(|node| node.path));
    }
    Ok(inspected)
}

fn entry(entry: &Entry) -> Option<BootEntry> {
    let firmware = match entry.platform {
        Platform::Bios => "BIOS",
        Platform::Efi => "UEFI",
        _ => return None,
    };
    let detail =
        entry.problem.clone().unwrap_or_else(|| format!("{} bytes at block {}", entry.bytes, entry.block));
    Some(BootEntry {
        firmware: firmware.to_owned(),
        usable: entry.is_bootable && entry.problem.is_none(),
        detail,
    })
}

fn unreadable(error: &MediaError) -> Inspected {
    Inspected {
        problem: Some(error.to_string()),
        volume_id: String::new(),
        said_bytes: 0,
        bytes: 0,
        entries: Vec::new(),
        stick_bios: false,
        stick_uefi: false,
        files: 0,
        required: std::collections::BTreeMap::new(),
        empty: Vec::new(),
        forbidden: Vec::new(),
    }
}
