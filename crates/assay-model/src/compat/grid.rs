//! All cells: components by kind, against images.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Cell, ComponentKind, Fingerprint, Trial, cell};
use crate::{Micros, Sha256};

/// Digests of one image that are shown unless that image is asked for.
const PER_IMAGE: usize = 3;
/// Most columns.
const MAX_IMAGES: usize = 50;

/// A kind of machine that is known: from trials, or because a registered host is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The fingerprint's digest.
    pub digest: Sha256,
    /// What it is made of.
    pub fingerprint: Fingerprint,
    /// Registered hosts that were this kind of machine when they were last seen, by name.
    pub hosts: Vec<String>,
}

/// An image: its bytes, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its digest.
    pub digest: Sha256,
    /// The profile's name.
    pub name: String,
    /// Its volume id.
    pub volume: Option<String>,
    /// The first run that read it: of two digests of one name the one that was first read later is the newer. (An old
    /// image that is tested again is not a new one.)
    pub run: i64,
}

/// Which part of the grid is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// An image's name, its digest, or the beginning of that.
    pub image: Option<String>,
    /// Only components of this kind.
    pub kind: Option<ComponentKind>,
    /// Only components with this in their names, upper or lower case; for machines also their hosts' names.
    pub component: Option<String>,
}

/// The grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid<'a> {
    /// The columns: by name, of each name the newest digest first.
    pub images: Vec<Image>,
    /// How many more digests there are, which are not shown.
    pub images_left_out: usize,
    /// The rows: by kind and name.
    pub rows: Vec<Row<'a>>,
}

/// A component with a cell for each image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// What kind of component.
    pub kind: ComponentKind,
    /// Its name; of a machine, its fingerprint's digest.
    pub name: String,
    /// The same as people say it.
    pub spoken: String,
    /// Drivers that the live image had for it.
    pub drivers: Vec<String>,
    /// Registered hosts that have it.
    pub hosts: Vec<String>,
    /// In the order of the images.
    pub cells: Vec<Cell<'a>>,
}

impl Filter {
    /// Whether this image is wanted.
    pub fn takes(&self, name: &str, digest: Sha256) -> bool {
        self.image.as_ref().is_none_or(|wanted| {
            name == wanted || (wanted.len() >= 8 && digest.to_string().starts_with(&wanted.to_lowercase()))
        })
    }
}

/// The grid over these trials. `virtually` are the images of runs on virtual machines: one that is newer than every trial
/// is a column of unknown cells.
pub fn grid<'a>(
    machines: &[Machine],
    trials: &'a [Trial],
    virtually: &[Image],
    filter: &Filter,
    (now, max_age): (Micros, Micros),
) -> Grid<'a> {
    let (images, images_left_out) = columns(trials, virtually, filter);
    // Machine by machine, the components that it has: a trial is one of each.
    let mut having: HashMap<(ComponentKind, String), HashSet<Sha256>> = HashMap::new();
    let mut rows: BTreeMap<(ComponentKind, String), Row<'a>> = BTreeMap::new();
    for machine in machines {
        let whole = (ComponentKind::Machine, machine.digest.to_string(), machine.fingerprint.name(), &[][..]);
        let parts = machine
            .fingerprint
            .components
            .iter()
            .map(|c| (c.kind, c.name.clone(), c.spoken(), c.drivers.as_slice()));
        for (kind, name, spoken, drivers) in std::iter::once(whole).chain(parts) {
            let key = (kind, name.clone());
            having.entry(key.clone()).or_default().insert(machine.digest);
            let row = rows.entry(key).or_insert_with(|| Row {
                kind,
                name,
                spoken,
                drivers: Vec::new(),
                hosts: Vec::new(),
                cells: Vec::new(),
            });
            extend(&mut row.drivers, drivers);
            extend(&mut row.hosts, &machine.hosts);
        }
    }
    let mut by_image: HashMap<Sha256, Vec<&'a Trial>> = HashMap::new();
    for trial in trials {
        by_image.entry(trial.digest).or_default().push(trial);
    }
    let mut rows: Vec<Row<'a>> = rows.into_values().filter(|row| wanted(row, filter)).collect();
    for row in &mut rows {
        let machines = &having[&(row.kind, row.name.clone())];
        row.cells = images
            .iter()
            .map(|image| {
                let of_image = by_image.get(&image.digest).map_or(&[][..], Vec::as_slice);
                cell(of_image.iter().copied().filter(|trial| machines.contains(&trial.machine)), now, max_age)
            })
            .collect();
    }
    Grid { images, images_left_out, rows }
}

fn extend(all: &mut Vec<String>, more: &[String]) {
    let together: BTreeSet<String> = all.drain(..).chain(more.iter().cloned()).collect();
    all.extend(together);
}

fn wanted(row: &Row<'_>, filter: &Filter) -> bool {
    let of_kind = filter.kind.is_none_or(|kind| row.kind == kind);
    let called = filter.component.as_ref().is_none_or(|part| {
        let part = part.to_lowercase();
        let has = |text: &String| text.to_lowercase().contains(&part);
        has(&row.name)
            || has(&row.spoken)
            || (row.kind == ComponentKind::Machine && row.hosts.iter().any(has))
    });
    of_kind && called
}

fn columns(trials: &[Trial], virtually: &[Image], filter: &Filter) -> (Vec<Image>, usize) {
    let all = known_images(trials, virtually);
    let current = current_images(&all);
    let tried: HashSet<Sha256> = trials.iter().map(|trial| trial.digest).collect();
    let names: HashSet<&str> = trials.iter().map(|trial| trial.outcome.image.as_str()).collect();
    // Of those that no machine has seen, the newest of each name is a column. An image that was never meant for a machine is
    // one when it is asked for, and noise otherwise; so is every other that only virtual machines have seen.
    let mut wanted: Vec<Image> = all
        .iter()
        .filter(|image| {
            let newest = current.get(image.name.as_str()).is_some_and(|c| c.digest == image.digest);
            let counts = tried.contains(&image.digest) || newest;
            match &filter.image {
                None => counts && names.contains(image.name.as_str()),
                Some(name) if image.name == *name => counts,
                Some(_) => filter.takes(&image.name, image.digest),
            }
        })
        .cloned()
        .collect();
    wanted.sort_by(|a, b| (&a.name, b.run).cmp(&(&b.name, a.run)));
    let before = wanted.len();
    if filter.image.is_none() {
        let mut shown: HashMap<String, usize> = HashMap::new();
        wanted.retain(|image| {
            let count = shown.entry(image.name.clone()).or_default();
            *count += 1;
            *count <= PER_IMAGE
        });
    }
    wanted.truncate(MAX_IMAGES);
    let left_out = before - wanted.len();
    (wanted, left_out)
}

/// Every image that is known, each digest of a name once: from trials, and from runs on virtual machines.
pub fn known_images(trials: &[Trial], virtually: &[Image]) -> Vec<Image> {
    let mut all: BTreeMap<(String, Sha256), Image> = BTreeMap::new();
    let of_trials = trials.iter().map(|trial| Image {
        digest: trial.digest,
        name: trial.outcome.image.clone(),
        volume: trial.volume.clone(),
        run: trial.number,
    });
    for image in of_trials.chain(virtually.iter().cloned()) {
        let key = (image.name.clone(), image.digest);
        match all.get_mut(&key) {
            Some(known) if known.run <= image.run => {}
            Some(known) => *known = image,
            None => drop(all.insert(key, image)),
        }
    }
    all.into_values().collect()
}

/// What each name stands for now: of its digests the one that was first read last.
pub fn current_images(known: &[Image]) -> BTreeMap<&str, &Image> {
    let mut current: BTreeMap<&str, &Image> = BTreeMap::new();
    for image in known {
        let newest = current.entry(&image.name).or_insert(image);
        if newest.run < image.run {
            *newest = image;
        }
    }
    current
}

#[cfg(test)]
#[path = "grid_tests.rs"]
mod tests;
