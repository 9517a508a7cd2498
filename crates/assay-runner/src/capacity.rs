//! What a runner says that it has room for: slots by pool, as people write them.
//!
//! The control plane takes pools as they come, so that a host's needs and a runner's slots can grow together. That is
//! why a misspelt one has to be caught here: it would make every run that needs the real one wait for ever.

use std::collections::BTreeMap;
use std::str::FromStr;

/// The pools that there are, and what one slot of each stands for.
const POOLS: [(&str, &str); 7] = [
    ("netboot", "machines under test at once"),
    ("vm", "images under test at once, each on a virtual machine"),
    ("swarm", "recipes under test at once, each in a Docker daemon of its own"),
    ("mem_mib", "MiB of this host's memory for runs"),
    ("cpu", "processors of this host for runs"),
    ("io", "tenths of this host's disks for runs"),
    ("kvm", "machines at once that use this host's virtualisation"),
];

/// The disks of a host, in slots of `io`: a recipe says how many of ten it takes.
const WHOLE_DISKS: u64 = 10;

/// The slots of one pool: `netboot=4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Which pool.
    pub pool: String,
    /// How many.
    pub slots: u64,
}

/// Not the slots of a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSlots {
    /// Not of the right shape.
    #[error("expected POOL=N, such as netboot=4")]
    Shape,
    /// Not one of the pools.
    #[error("there is no pool `{pool}`{hint}; there are {}", known())]
    UnknownPool {
        /// What was named.
        pool: String,
        /// What was perhaps meant.
        hint: String,
    },
    /// Not a number of slots.
    #[error("`{slots}` is no number of slots for {pool}: a whole number from 1 to 1000000")]
    Number {
        /// Of which pool.
        pool: String,
        /// What was given.
        slots: String,
    },
    /// The same pool twice.
    #[error("{0} is given more than once; say it once")]
    Twice(String),
}

impl FromStr for Slots {
    type Err = BadSlots;

    fn from_str(text: &str) -> Result<Self, BadSlots> {
        let (pool, slots) = text.split_once('=').ok_or(BadSlots::Shape)?;
        let (pool, slots) = (pool.trim(), slots.trim());
        if !POOLS.iter().any(|(known, _)| *known == pool) {
            return Err(BadSlots::UnknownPool { pool: shown(pool), hint: hint(pool) });
        }
        match slots.parse() {
            Ok(slots @ 1..=1_000_000) => Ok(Self { pool: pool.to_owned(), slots }),
            _ => Err(BadSlots::Number { pool: pool.to_owned(), slots: shown(slots) }),
        }
    }
}

/// All that a runner declares, by pool.
///
/// # Errors
/// When a pool is given twice.
pub fn capacity(slots: &[Slots]) -> Result<BTreeMap<String, u64>, BadSlots> {
    let mut out = BTreeMap::new();
    for Slots { pool, slots } in slots {
        if out.insert(pool.clone(), *slots).is_some() {
            return Err(BadSlots::Twice(pool.clone()));
        }
    }
    Ok(out)
}

/// What a runner declares that tests images or recipes and says nothing else: one for every two processors, all processors,
/// its disks in tenths, four fifths of the memory.
pub(crate) fn for_benches(declared: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut out = declared.clone();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    for pool in ["vm", "swarm"] {
        out.entry(pool.to_owned()).or_insert((processors / 2).max(1));
    }
    for (pool, all) in [("cpu", processors), ("io", WHOLE_DISKS)] {
        out.entry(pool.to_owned()).or_insert(all);
    }
    let memory = rustix::system::sysinfo();
    let bytes = (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit));
    out.entry("mem_mib".to_owned()).or_insert((bytes >> 20) * 4 / 5);
    out
}

fn known() -> String {
    POOLS.map(|(pool, what)| format!("{pool} ({what})")).join(", ")
}

fn hint(pool: &str) -> String {
    let pool = pool.to_lowercase();
    let near = POOLS.iter().map(|(known, _)| (alike(&pool, known), *known)).max();
    match near {
        Some((alike, known)) if alike * 2 >= known.len() || (alike > 2 && known.starts_with(&pool)) => {
            format!("; did you mean `{known}`?")
        }
        _ => String::new(),
    }
}

/// How many letters two words have in common, in order.
fn alike(one: &str, other: &str) -> usize {
    let mut row = vec![0; other.len() + 1];
    for a in one.chars().take(40) {
        let mut diagonal = 0;
        for (place, b) in other.chars().enumerate() {
            let above = row[place + 1];
            row[place + 1] = if a == b { diagonal + 1 } else { above.max(row[place]) };
            diagonal = above;
        }
    }
    row[other.len()]
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Slots>().expect_err("refused").to_string()
    }

    #[test]
    fn slots_are_read_as_people_write_them() {
        let parse = |text: &str| text.parse::<Slots>().expect("reads");
        assert_eq!(parse("netboot=4"), Slots { pool: "netboot".to_owned(), slots: 4 });
        let all = capacity(&[parse("netboot=40"), parse(" mem_mib = 65536 ")]).expect("two pools");
        assert_eq!(all, [("mem_mib".to_owned(), 65_536), ("netboot".to_owned(), 40)].into());
        assert_eq!(capacity(&[]).expect("nothing"), BTreeMap::new(), "the control plane's default stays");
    }

    #[test]
    fn a_misspelt_pool_would_be_waited_for_for_ever() {
        let said = refusal("netbot=4");
        assert!(
            said.starts_with("there is no pool `netbot`; did you mean `netboot`?; there are netboot ("),
            "{said}"
        );
        assert!(refusal("mem=4").contains("did you mean `mem_mib`?"), "{}", refusal("mem=4"));
        assert!(!refusal("licences=4").contains("did you mean"), "{}", refusal("licences=4"));
        assert_eq!(refusal("netboot"), "expected POOL=N, such as netboot=4");
    }

    #[test]
    fn no_slots_and_two_numbers_are_refused() {
        for wrong in ["netboot=0", "netboot=-1", "netboot=many", "netboot=", "netboot=1000001"] {
            assert!(refusal(wrong).contains("no number of slots for netboot"), "{wrong}");
        }
        let four: Slots = "netboot=4".parse().expect("reads");
        assert_eq!(capacity(&[four.clone(), four]), Err(BadSlots::Twice("netboot".to_owned())));
    }
}
