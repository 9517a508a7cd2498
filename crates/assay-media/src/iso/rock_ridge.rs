//! Rock Ridge: POSIX names, modes, owners and links in the system use area of each record.

use std::collections::BTreeSet;

use super::BLOCK;
use crate::bytes::{be32, holds, le32};
use crate::source::Source as _;
use crate::{MediaError, SliceReader};

/// Continuation areas of one record.
const MAX_AREAS: usize = 32;
/// The longest name and the longest link target that are kept, in bytes.
const MAX_TEXT: usize = 4096;
const WHAT: &str = "the Rock Ridge part of the ISO image";

/// What Rock Ridge says of one record.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) name: Option<String>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) target: Option<String>,
    /// The block of a folder that was too deep for ISO 9660 and lies elsewhere.
    pub(super) moved_to: Option<u64>,
    /// Whether this is such a folder in the place that it was moved to.
    pub(super) is_moved: bool,
    pub(super) is_compressed: bool,
}

/// A field: its two letters and what stands behind its head of four bytes.
struct Field {
    name: [u8; 2],
    data: Vec<u8>,
}

/// Whether the root's first record announces Rock Ridge; then how many bytes to skip in each system use area.
pub(super) fn announced(file: &SliceReader, system_use: &[u8]) -> Result<Option<usize>, MediaError> {
    if !holds(system_use, 0, b"SP\x07\x01\xbe\xef") {
        return Ok(None);
    }
    let skip = usize::from(system_use.get(6).copied().unwrap_or_default());
    let fields = fields(file, system_use)?;
    let is = |field: &Field| match &field.name {
        // Only named by its extension record, or used without one.
        b"ER" => field.data.windows(4).any(|part| part == b"RRIP" || part == b"IEEE"),
        b"PX" | b"RR" | b"NM" => true,
        _ => false,
    };
    Ok(fields.iter().any(is).then_some(skip))
}

/// Reads the system use area of a record.
pub(super) fn read(file: &SliceReader, system_use: &[u8]) -> Result<Attributes, MediaError> {
    let mut attributes = Attributes::default();
    let (mut name, mut target): (Option<Vec<u8>>, Option<LinkTarget>) = (None, None);
    for Field { name: letters, data } in fields(file, system_use)? {
        match &letters {
            b"NM" if data.first().is_some_and(|flags| flags & 6 == 0) => {
                let name = name.get_or_insert_default();
                name.extend_from_slice(&data[1..]);
                limit(name.len())?;
            }
            b"PX" if data.len() >= 32 => {
                attributes.mode = Some(le32(&data, 0));
                attributes.uid = Some(le32(&data, 16));
                attributes.gid = Some(le32(&data, 24));
            }
            b"SL" => target.get_or_insert_default().add(&data)?,
            b"CL" if data.len() >= 8 => {
                if le32(&data, 0) != be32(&data, 4) {
                    return Err(MediaError::damaged(WHAT, "a moved folder has two places"));
                }
                attributes.moved_to = Some(u64::from(le32(&data, 0)));
            }
            b"RE" => attributes.is_moved = true,
            b"ZF" => attributes.is_compressed = true,
            _ => {}
        }
    }
    attributes.name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
    attributes.target = target.map(|target| String::from_utf8_lossy(&target.text).into_owned());
    Ok(attributes)
}

/// All fields, those in continuation areas among them.
fn fields(file: &SliceReader, system_use: &[u8]) -> Result<Vec<Field>, MediaError> {
    let (mut fields, mut seen) = (Vec::new(), BTreeSet::new());
    let mut area = system_use.to_vec();
    loop {
        let mut next = None;
        let mut rest = area.as_slice();
        while let [first, second, length, _version, ..] = *rest {
            let length = usize::from(length);
            if length < 4 || length > rest.len() {
                // Padding, or something that is not SUSP; what came before still counts, as the kernel has it.
                break;
            }
            let data = &rest[4..length];
            match &[first, second] {
                b"ST" => break,
                b"CE" if data.len() >= 24 => {
                    next =
                        Some((u64::from(le32(data, 0)), u64::from(le32(data, 8)), u64::from(le32(data, 16))));
                }
                _ => fields.push(Field { name: [first, second], data: data.to_vec() }),
            }
            rest = &rest[length..];
        }
        let Some((block, offset, length)) = next else { return Ok(fields) };
        if !seen.insert((block, offset)) || seen.len() > MAX_AREAS || length > BLOCK * 4 {
            return Err(MediaError::damaged(WHAT, format!("the continuation in block {block} does not end")));
        }
        area = file.piece(WHAT, block * BLOCK + offset, length)?;
    }
}

/// The target of a symbolic link, which comes in components.
#[derive(Default)]
struct LinkTarget {
    text: Vec<u8>,
    /// Whether the last component goes on in the next one.
    goes_on: bool,
}

impl LinkTarget {
    fn add(&mut self, data: &[u8]) -> Result<(), MediaError> {
        let mut rest = data.get(1..).unwrap_or_default();
        while let [flags, length, ..] = *rest {
            let Some(name) = rest.get(2..2 + usize::from(length)) else {
                return Err(MediaError::damaged(WHAT, "a symbolic link is cut off"));
            };
            let part: &[u8] = match flags & 0x0e {
                2 => b".",
                4 => b"..",
                8 => b"",
                _ => name,
            };
            if flags & 8 != 0 {
                self.text = b"/".to_vec();
            } else {
                if !self.goes_on && !self.text.is_empty() && !self.text.ends_with(b"/") {
                    self.text.push(b'/');
                }
                self.text.extend_from_slice(part);
            }
            limit(self.text.len())?;
            self.goes_on = flags & 1 != 0;
            rest = &rest[2 + usize::from(length)..];
        }
        Ok(())
    }
}

fn limit(length: usize) -> Result<(), MediaError> {
    if length > MAX_TEXT {
        return Err(MediaError::damaged(WHAT, format!("a name has more than {MAX_TEXT} bytes")));
    }
    Ok(())
}
