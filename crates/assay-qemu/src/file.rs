//! Machine files: TOML, one machine each, named by the file.
//!
//! A file is either a whole machine or a variation of one:
//!
//! ```toml
//! base = "healthy-bios"
//! unit = "12"
//! description = "One DIMM fewer than ordered"
//!
//! [fault.dimms.DIMM_A2]
//! missing = true
//! ```
//!
//! `{unit}` in the base's text becomes the unit's two hexadecimal digits, so that a variation has MAC addresses,
//! serials and a UUID of its own and can run beside its base. What was ordered and what is there thereby have the
//! same identity, which is the point: the fault is the only difference between them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Bmc, BmcKind, Fault, Firmware, Machine, QemuError, error::io_error, machine::id_problem};

/// A machine of the lab: what was ordered, what is different, and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabMachine {
    /// The file's name without `.toml`.
    pub name: String,
    /// One line for lists.
    pub description: String,
    /// The healthy machine: what an expected spec describes.
    pub ordered: Machine,
    /// The difference.
    pub fault: Fault,
    /// The machine that is started.
    pub actual: Machine,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeFile {
    description: String,
    /// Read before, to fill the text in; here it is only checked.
    #[serde(rename = "unit")]
    _unit: Unit,
    // Flattening would lose `deny_unknown_fields`, so the machine's fields are repeated.
    firmware: Firmware,
    cpus: u16,
    #[serde(default)]
    power_on: crate::PowerOn,
    rtc: Option<String>,
    smbios: crate::Smbios,
    dimms: Vec<crate::Dimm>,
    #[serde(default)]
    disks: Vec<crate::Disk>,
    #[serde(default)]
    nics: Vec<crate::Nic>,
    #[serde(default)]
    bench: crate::TestBench,
    #[serde(default)]
    oem_strings: Vec<String>,
    bmc: Option<BmcKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariationFile {
    base: String,
    description: String,
    unit: Unit,
    firmware: Option<Firmware>,
    bmc: Option<BmcKind>,
    #[serde(default)]
    fault: Fault,
}

/// Two lower-case hexadecimal digits.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Unit(String);

impl LabMachine {
    /// Reads the machine `name` from the folder of machine files.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such file or it does not describe a machine that can be built.
    pub fn load(folder: &Path, name: &str) -> Result<Self, QemuError> {
        let path = path_of(folder, name)?;
        let text = read(folder, name, &path)?;
        let table: toml::Table = parse(&path, &text)?;
        if table.contains_key("base") {
            return Self::load_variation(folder, name, &path, &text);
        }
        let unit = table.get("unit").and_then(toml::Value::as_str).unwrap_or_default();
        let (description, machine) = whole(&path, &text, unit)?;
        machine.check(name)?;
        Ok(Self {
            name: name.to_owned(),
            description,
            ordered: machine.clone(),
            fault: Fault::default(),
            actual: machine,
        })
    }

    /// The same machine with another fault, in place of its own.
    ///
    /// # Errors
    /// [`QemuError::Invalid`] when the fault does not fit the machine.
    pub fn with_fault(mut self, fault: Fault) -> Result<Self, QemuError> {
        self.actual = fault.apply(&self.name, &self.ordered)?;
        self.fault = fault;
        Ok(self)
    }

    fn load_variation(folder: &Path, name: &str, path: &Path, text: &str) -> Result<Self, QemuError> {
        let file: VariationFile = parse(path, text)?;
        let base_path = path_of(folder, &file.base)?;
        let base_text = read(folder, &file.base, &base_path)?;
        if parse::<toml::Table>(&base_path, &base_text)?.contains_key("base") {
            return Err(QemuError::MachineFile {
                path: path.to_owned(),
                problem: format!("base `{}` has a base itself; name that one", file.base),
            });
        }
        let (_, mut ordered) = whole(&base_path, &base_text, &file.unit.0)?;
        if let Some(firmware) = file.firmware {
            ordered.firmware = firmware;
        }
        if let Some(kind) = file.bmc {
            ordered.bmc = Some(Bmc::new(kind, file.unit.number()));
        }
        ordered.check(name)?;
        Ok(Self {
            name: name.to_owned(),
            description: file.description,
            actual: file.fault.apply(name, &ordered)?,
            fault: file.fault,
            ordered,
        })
    }
}

impl Unit {
    fn number(&self) -> u8 {
        // It was checked when it was read.
        u8::from_str_radix(&self.0, 16).unwrap_or_default()
    }
}

impl TryFrom<String> for Unit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 2 && text.chars().all(digit) {
            return Ok(Self(text));
        }
        Err(format!("`{text}` must be two lower-case hexadecimal digits, such as \"1f\""))
    }
}

/// The names of all machine files in `folder`, sorted.
pub(crate) fn machine_names(folder: &Path) -> Result<Vec<String>, QemuError> {
    let entries = fs::read_dir(folder).map_err(io_error("listing the machine files in", folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("listing the machine files in", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

fn whole(path: &Path, text: &str, unit: &str) -> Result<(String, Machine), QemuError> {
    let file: WholeFile = parse(path, &text.replace("{unit}", unit))?;
    let WholeFile {
        description,
        _unit,
        firmware,
        cpus,
        power_on,
        rtc,
        smbios,
        dimms,
        disks,
        nics,
        bench,
        oem_strings,
        bmc,
    } = file;
    let bmc = bmc.map(|kind| Bmc::new(kind, Unit(unit.to_owned()).number()));
    let machine =
        Machine { firmware, cpus, power_on, rtc, smbios, dimms, disks, nics, bench, bmc, oem_strings };
    Ok((description, machine))
}

fn path_of(folder: &Path, name: &str) -> Result<PathBuf, QemuError> {
    match id_problem(name) {
        None => Ok(folder.join(format!("{name}.toml"))),
        Some(problem) => {
            Err(QemuError::Invalid { machine: name.to_owned(), field: "name".to_owned(), problem })
        }
    }
}

fn read(folder: &Path, name: &str, path: &Path) -> Result<String, QemuError> {
    if path.exists() {
        return fs::read_to_string(path).map_err(io_error("reading", path));
    }
    let names = machine_names(folder)?;
    let nearest = names.iter().map(|known| (distance(name, known), known)).min();
    let hint = match nearest {
        None => "the folder has no machine files".to_owned(),
        Some((distance, known)) if distance <= 3 => format!("did you mean `{known}`?"),
        Some(_) => format!("there are {}", names.join(", ")),
    };
    Err(QemuError::NoSuchMachine { name: name.to_owned(), folder: folder.to_owned(), hint })
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, QemuError> {
    toml::from_str(text)
        .map_err(|error| QemuError::MachineFile { path: path.to_owned(), problem: error.to_string() })
}

/// Edits between two short names (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
