//! Reading and writing a spec as YAML, with errors that a person can act on at once: line, column, the line itself,
//! what was expected, and the nearest known key.

use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

use super::HostSpec;
use crate::text;

/// Longest spec that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A spec that cannot be used. `message` is complete: it says where and what, over several lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// For people, several lines.
    pub message: String,
    /// Line, from 1; 0 when it concerns the whole.
    pub line: u64,
    /// Column, from 1; 0 when it concerns the whole.
    pub column: u64,
}

impl HostSpec {
    /// Reads a spec.
    pub fn from_yaml(yaml: &str) -> Result<Self, SpecError> {
        if yaml.len() > MAX_BYTES {
            return Err(error_at(
                yaml,
                (0, 0),
                &format!("the spec has {} bytes; at most {MAX_BYTES} are read", yaml.len()),
            ));
        }
        let spec: Self = serde_saphyr::from_str(yaml).map_err(|error| explain(yaml, &error))?;
        // The same text a second time, for where its list items stand.
        let places: Places = serde_saphyr::from_str(yaml).map_err(|error| explain(yaml, &error))?;
        check(yaml, &spec, &places)?;
        Ok(spec)
    }

    /// Writes it as YAML that [`HostSpec::from_yaml`] reads back as the same spec.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("a spec is plain data, which always serialises")
    }
}

/// Where the items of lists stand. Unknown keys were refused before this is read.
#[derive(Deserialize)]
struct Places {
    #[serde(default)]
    memory: MemoryPlaces,
    #[serde(default)]
    disks: Vec<Spanned<IgnoredAny>>,
    #[serde(default)]
    nics: Vec<Spanned<IgnoredAny>>,
    #[serde(default)]
    pci: Vec<Spanned<IgnoredAny>>,
    #[serde(default)]
    gpus: Vec<Spanned<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
struct MemoryPlaces {
    #[serde(default)]
    dimms: Vec<Spanned<IgnoredAny>>,
}

/// What the types alone cannot say: an entry must name something, and no two entries the same thing.
fn check(yaml: &str, spec: &HostSpec, places: &Places) -> Result<(), SpecError> {
    let mut seen = Vec::new();
    for (index, dimm) in spec.memory.dimms.iter().enumerate() {
        let at = place(&places.memory.dimms, index);
        if dimm.locator.is_none() && dimm.serial.is_none() {
            return Err(error_at(yaml, at, "a memory module needs its `locator` (slot) or its `serial`"));
        }
        if dimm.locator.is_some() {
            once(
                yaml,
                at,
                &mut seen,
                "memory slot",
                format!("{:?} {:?}", dimm.bank, dimm.locator),
                dimm.locator.as_deref(),
            )?;
        }
        // Cheap modules share a serial number, so it has to be unique only where it is all there is.
        if dimm.locator.is_none() {
            once(
                yaml,
                at,
                &mut seen,
                "memory module serial",
                format!("{:?}", dimm.serial),
                dimm.serial.as_deref(),
            )?;
        }
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        let at = place(&places.disks, index);
        let described = disk.model.is_some()
            || disk.class.is_some()
            || disk.min_size_gb.is_some()
            || disk.size_bytes.is_some();
        if disk.serial.is_none() && disk.wwn.is_none() && !described {
            return Err(error_at(
                yaml,
                at,
                "a disk needs its `serial` or `wwn`, or at least a `model`, `class`, `min_size_gb` or `size_bytes`",
            ));
        }
        // Namespaces of one NVMe disk share its serial number: then the WWN tells them apart.
        if let Some(wwn) = &disk.wwn {
            once(yaml, at, &mut seen, "disk WWN", wwn.to_lowercase(), Some(wwn))?;
        } else if let Some(serial) = &disk.serial {
            once(yaml, at, &mut seen, "disk serial", serial.to_lowercase(), Some(serial))?;
        }
    }
    for (index, nic) in spec.nics.iter().enumerate() {
        let at = place(&places.nics, index);
        match &nic.mac {
            Some(mac) => {
                let plain = plain_mac(mac).ok_or_else(|| {
                    error_at(
                        yaml,
                        at,
                        &format!(
                            "`{}` is not a hardware address such as `52:54:00:12:34:56`",
                            text::clean(mac)
                        ),
                    )
                })?;
                once(yaml, at, &mut seen, "hardware address", plain, Some(mac))?;
            }
            None if nic.driver.is_none() => {
                return Err(error_at(yaml, at, "a network port needs its `mac`, or at least a `driver`"));
            }
            None => {}
        }
    }
    let pci = spec.pci.iter().enumerate().map(|(index, pci)| (place(&places.pci, index), &pci.id, pci.count));
    let gpus =
        spec.gpus.iter().enumerate().map(|(index, gpu)| (place(&places.gpus, index), &gpu.id, gpu.count));
    for (at, id, count) in pci.chain(gpus) {
        if !is_pci_id(id) {
            let problem = format!(
                "`{}` is not a PCI id: vendor and device in hex, such as `8086:10d3`",
                text::clean(id)
            );
            return Err(error_at(yaml, at, &problem));
        }
        if count == 0 {
            return Err(error_at(yaml, at, "`count` is how many there must be at least: 1 or more"));
        }
    }
    Ok(())
}

fn once(
    yaml: &str,
    at: (u64, u64),
    seen: &mut Vec<(&'static str, String)>,
    what: &'static str,
    key: String,
    shown: Option<&str>,
) -> Result<(), SpecError> {
    let entry = (what, key);
    if seen.contains(&entry) {
        let shown = text::clean(shown.unwrap_or_default());
        return Err(error_at(yaml, at, &format!("{what} `{shown}` is listed twice")));
    }
    seen.push(entry);
    Ok(())
}

/// Lower case with colons, whatever separators were used; `None` when it is not an address.
fn plain_mac(mac: &str) -> Option<String> {
    let digits: String =
        mac.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect::<String>().to_lowercase();
    (digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digits)
}

fn is_pci_id(id: &str) -> bool {
    let hex4 = |part: &str| part.len() == 4 && part.bytes().all(|b| b.is_ascii_hexdigit());
    id.split_once(':').is_some_and(|(vendor, device)| hex4(vendor) && hex4(device))
}

fn place(items: &[Spanned<IgnoredAny>], index: usize) -> (u64, u64) {
    items.get(index).map_or((0, 0), |item| (item.referenced.line(), item.referenced.column()))
}

fn explain(yaml: &str, error: &serde_saphyr::Error) -> SpecError {
    let error = error.without_snippet();
    let at = error.location().map_or((0, 0), |location| (location.line(), location.column()));
    let problem = match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            let hint = text::did_you_mean(field, expected);
            format!("unknown key `{}`{hint}\nknown keys here: {}", text::clean(field), expected.join(", "))
        }
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
            let hint = text::did_you_mean(variant, expected);
            format!(
                "`{}` is not known here{hint}\nexpected one of: {}",
                text::clean(variant),
                expected.join(", ")
            )
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            let hint = if *field == "format" { "; a spec begins with `format: 1`" } else { "" };
            format!("`{field}` is missing{hint}")
        }
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            format!("`{}` is given twice", text::clean(key.as_deref().unwrap_or("this key")))
        }
        serde_saphyr::Error::Message { msg, .. } => msg.clone(),
        other => plainly(&text::clean_to(&without_position(&other.to_string()), 600)),
    };
    error_at(yaml, at, &problem)
}

/// The library's words for what was expected, in an operator's.
fn plainly(message: &str) -> String {
    let plain = match message {
        "unexpected end of input" => "there is nothing here; a spec begins with `format: 1`",
        "invalid u64" | "invalid u32" => "expected a whole number, 0 or more",
        "invalid bool" | "invalid boolean" => "expected true or false",
        "expected sequence start" => "expected a list",
        "expected mapping start" => "expected keys with values (`key: value`)",
        "expected string scalar" => "expected a text",
        other => other,
    };
    plain.to_owned()
}

/// The library ends some messages with the position, which stands in front of ours.
fn without_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

fn error_at(yaml: &str, (line, column): (u64, u64), problem: &str) -> SpecError {
    let (first, rest) = problem.split_once('\n').unwrap_or((problem, ""));
    let mut message = match line {
        0 => format!("spec: {first}"),
        _ => format!("spec, line {line}, column {column}: {first}"),
    };
    let source = usize::try_from(line).ok().and_then(|line| yaml.lines().nth(line.checked_sub(1)?));
    if let Some(source) = source {
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let before = usize::try_from(column).unwrap_or(1).saturating_sub(1).min(160);
        // Not `clean`, which trims: the caret must stay below its column.
        let source: String = source.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = write!(
            message,
            "\n{gutter} |\n{number} | {}\n{gutter} | {}^",
            source.trim_end(),
            " ".repeat(before)
        );
    }
    for line in rest.lines() {
        let _ = write!(message, "\n{line}");
    }
    SpecError { message, line, column }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
