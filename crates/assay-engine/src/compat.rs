//! Does this image work on this machine? What is stored, brought together; the answer itself is [`assay_model::compat`].

use std::collections::{BTreeMap, HashMap};

use assay_model::compat::{
    Cell, Component, Due, Filter, Fingerprint, Grid, Image, Machine, Standing, Trial, cell, current_images,
    due, grid, known_images,
};
use assay_model::host::inventory::Inventory;
use assay_model::{Micros, RunView, Sha256, TargetId, text};
use assay_store::{HostRow, Write};

use crate::{Engine, EngineError};

/// The stages whose evidence is an inventory.
const INVENTORIES: [&str; 2] = ["Inventory", "SpecValidate"];
/// The shortest beginning of a digest that names an image.
const SHORTEST: usize = 8;
/// The digits of a whole digest.
const WHOLE: usize = 64;

/// All that is known of images on machines, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Compat {
    /// The moment.
    pub now: Micros,
    /// Every trial, newest first.
    pub trials: Vec<Trial>,
    /// Every kind of machine: those that were tried, and those of registered hosts.
    pub machines: Vec<Machine>,
    /// Registered hosts, and what each was last seen to be.
    pub hosts: Vec<Standing>,
    /// In which run each was seen, by its name.
    pub seen_in: BTreeMap<String, i64>,
    /// Registered hosts of which that is not known, with the reason.
    pub untold: BTreeMap<String, String>,
    /// Images that virtual machines have tried.
    virtually: Vec<Image>,
}

/// What is known of one image on one host, as the host was last seen to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked<'a> {
    /// The image; without a name when nothing has ever read these bytes.
    pub image: (Sha256, Option<Image>),
    /// What kind of machine the host is.
    pub machine: (Sha256, &'a Fingerprint),
    /// The run that saw it to be that.
    pub seen_in: i64,
    /// Of the machine as a whole.
    pub cell: Cell<'a>,
    /// Of each of its components, on whatever machine.
    pub parts: Vec<(&'a Component, Cell<'a>)>,
}

impl Engine {
    /// Everything that is known.
    pub async fn compat(&self) -> Result<Compat, EngineError> {
        let store = self.store();
        let (trials, virtually) = (store.trials().await?, store.images_on_virtual_machines().await?);
        let mut seen: HashMap<TargetId, _> = HashMap::new();
        for last in store.machines_last_seen().await? {
            seen.insert(last.target, (last.run, last.machine));
        }
        let mut machines: BTreeMap<Sha256, Machine> = BTreeMap::new();
        for (digest, fingerprint) in store.machines_tried().await? {
            machines.insert(digest, Machine { digest, fingerprint, hosts: Vec::new() });
        }
        let (mut hosts, mut seen_in, mut untold) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for host in store.hosts().await? {
            let target = TargetId::from(host.id);
            let last = match seen.remove(&target) {
                Some(last) => Some(last),
                // A run of an older version left no such row, but its inventory may still be there.
                None => self.last_seen(host.id).await?.map(|(run, inventory)| {
                    (run, Fingerprint::of(&inventory).map_err(|lacking| lacking.to_string()))
                }),
            };
            match last {
                None => drop(untold.insert(host.name, "no run has taken an inventory of it".to_owned())),
                Some((_, Err(lacking))) => drop(untold.insert(host.name, lacking)),
                Some((run, Ok(fingerprint))) => {
                    let digest = fingerprint.digest();
                    let new = || Machine { digest, fingerprint: fingerprint.clone(), hosts: Vec::new() };
                    machines.entry(digest).or_insert_with(new).hosts.push(host.name.clone());
                    seen_in.insert(host.name.clone(), run);
                    hosts.push(Standing { host: target, name: host.name, fingerprint });
                }
            }
        }
        let machines = machines.into_values().collect();
        Ok(Compat { now: self.now(), trials, machines, hosts, seen_in, untold, virtually })
    }

    /// What kind of machine a run is on, once a stage has found out.
    pub(crate) async fn machine_seen(
        &self,
        run: &RunView,
        stage: &str,
        evidence: Sha256,
    ) -> Result<Option<Write>, EngineError> {
        if !run.created.has_machine() || !INVENTORIES.contains(&stage) {
            return Ok(None);
        }
        // What does not read as an inventory is the stage's own failure, and says nothing of the machine.
        let inventory = Inventory::from_evidence(&self.json(evidence).await?).ok();
        Ok(inventory.map(|inventory| Write::Machine(Fingerprint::of(&inventory))))
    }
}

impl Compat {
    /// Components against images.
    pub fn grid(&self, filter: &Filter, max_age: Micros) -> Grid<'_> {
        grid(&self.machines, &self.trials, &self.virtually, filter, (self.now, max_age))
    }

    /// What is to be tested again.
    pub fn due(&self, max_age: Micros) -> Vec<Due> {
        due(&self.hosts, &self.trials, &self.virtually, (self.now, max_age))
    }

    /// What kind of machine a fingerprint's digest names.
    pub fn machine(&self, digest: Sha256) -> Option<&Fingerprint> {
        self.machines.iter().find(|machine| machine.digest == digest).map(|machine| &machine.fingerprint)
    }

    /// What is known of an image, named by its name, its digest or the beginning of that, on a host.
    ///
    /// # Errors
    /// When it is not known what the host is, or which image is meant.
    pub fn check(&self, host: &HostRow, image: &str, max_age: Micros) -> Result<Checked<'_>, EngineError> {
        if let Some(why) = self.untold.get(&host.name) {
            return Err(EngineError::Refused(format!(
                "it is not known what {} is: {why}. Have its inventory taken: `assay host vet {} --profile quick`",
                host.name, host.name
            )));
        }
        let standing = self
            .hosts
            .iter()
            .find(|standing| standing.host == TargetId::from(host.id))
            .ok_or_else(|| EngineError::NotFound(format!("host `{}`", host.name)))?;
        let image = self.image(image)?;
        let machine = standing.fingerprint.digest();
        let of_image = || self.trials.iter().filter(|trial| trial.digest == image.0);
        let has = |trial: &Trial, part: &Component| {
            self.machine(trial.machine).is_some_and(|of| {
                of.components.iter().any(|other| (other.kind, &other.name) == (part.kind, &part.name))
            })
        };
        let parts = standing.fingerprint.components.iter().map(|part| {
            let trials = of_image().filter(|trial| has(trial, part));
            (part, cell(trials, self.now, max_age))
        });
        Ok(Checked {
            machine: (machine, &standing.fingerprint),
            seen_in: self.seen_in.get(&host.name).copied().unwrap_or_default(),
            cell: cell(of_image().filter(|trial| trial.machine == machine), self.now, max_age),
            parts: parts.collect(),
            image,
        })
    }

    /// Which image is meant. A name stands for its newest; a whole digest may be one that nobody has tried.
    fn image(&self, wanted: &str) -> Result<(Sha256, Option<Image>), EngineError> {
        let known = known_images(&self.trials, &self.virtually);
        if let Some(image) = current_images(&known).get(wanted) {
            return Ok((image.digest, Some(Image::clone(image))));
        }
        let named = |digest: Sha256| {
            let of_digest = known.iter().filter(|image| image.digest == digest);
            (digest, of_digest.min_by_key(|image| image.run).cloned())
        };
        let digits = wanted.to_lowercase();
        if digits.len() == WHOLE
            && let Ok(digest) = digits.parse()
        {
            return Ok(named(digest));
        }
        let begins =
            |image: &&Image| digits.len() >= SHORTEST && image.digest.to_string().starts_with(&digits);
        let mut found: Vec<Sha256> = known.iter().filter(begins).map(|image| image.digest).collect();
        found.sort();
        found.dedup();
        match found[..] {
            [digest] => Ok(named(digest)),
            [] => Err(EngineError::NotFound(format!(
                "image `{}`: name one by the name in its profile (`assay image list`), or by its whole SHA-256",
                text::clean_to(wanted, 100)
            ))),
            _ => Err(EngineError::Invalid(format!(
                "{} images begin with {digits}: write more of it",
                found.len()
            ))),
        }
    }
}
