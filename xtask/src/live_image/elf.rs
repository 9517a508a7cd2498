//! Reads the `.modinfo` section of a kernel module: its dependencies and the firmware it asks for. The build
//! machine may have no `modinfo`, and calling one for each of 2,000 modules would take longer than the rest.

use anyhow::{Context as _, Result, bail};

/// The `key=value` strings of `.modinfo`, in order.
pub(crate) fn modinfo(module: &[u8]) -> Result<Vec<(String, String)>> {
    if module.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file (is it compressed?)");
    }
    let table = number(module, 0x28, 8)?;
    let (size, count, names_index) =
        (number(module, 0x3a, 2)?, number(module, 0x3c, 2)?, number(module, 0x3e, 2)?);
    let section = |index: usize| -> Result<(usize, usize, usize)> {
        let at = index
            .checked_mul(size)
            .and_then(|offset| offset.checked_add(table))
            .context("the section table is damaged")?;
        Ok((number(module, at, 4)?, number(module, at + 0x18, 8)?, number(module, at + 0x20, 8)?))
    };
    let (_, names, _) = section(names_index)?;
    for index in 0..count {
        let (name, offset, length) = section(index)?;
        let start = names.checked_add(name).context("a section's name is damaged")?;
        if module.get(start..).is_some_and(|rest| rest.starts_with(b".modinfo\0")) {
            let end = offset.checked_add(length).context(".modinfo is damaged")?;
            let content = module.get(offset..end).context(".modinfo lies beyond the file's end")?;
            return Ok(content
                .split(|byte| *byte == 0)
                .filter_map(|text| {
                    let text = String::from_utf8_lossy(text);
                    let (key, value) = text.split_once('=')?;
                    Some((key.to_owned(), value.to_owned()))
                })
                .collect());
        }
    }
    bail!("no .modinfo section")
}

fn number(bytes: &[u8], at: usize, width: usize) -> Result<usize> {
    let end = at.checked_add(width).context("the header is damaged")?;
    let field = bytes.get(at..end).context("the file is cut short")?;
    Ok(field.iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A minimal module: ELF header, `.modinfo`, section names, section table.
    pub(crate) fn module(info: &[&str]) -> Vec<u8> {
        let content: Vec<u8> = info.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect();
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0_u8; 0x40];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let info_at = elf.len() as u64;
        elf.extend(&content);
        let names_at = elf.len() as u64;
        elf.extend(names);
        let table = elf.len() as u64;
        for (name, offset, length) in
            [(0_u32, 0, 0), (1, info_at, content.len() as u64), (10, names_at, names.len() as u64)]
        {
            let mut section = [0_u8; 0x40];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[0x18..0x20].copy_from_slice(&u64::to_le_bytes(offset));
            section[0x20..0x28].copy_from_slice(&u64::to_le_bytes(length));
            elf.extend(section);
        }
        elf[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        elf[0x3a..0x40].copy_from_slice(&[0x40, 0, 3, 0, 2, 0]);
        elf
    }

    #[test]
    fn reads_what_a_module_says_of_itself() {
        let elf = module(&["license=GPL", "firmware=tigon/tg3.bin", "depends=libphy,ptp", "flag"]);
        let expected = [("license", "GPL"), ("firmware", "tigon/tg3.bin"), ("depends", "libphy,ptp")];
        let seen = modinfo(&elf).unwrap();
        assert_eq!(seen.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn refuses_what_is_no_whole_module() {
        let elf = module(&["license=GPL"]);
        assert!(modinfo(b"\x28\xb5\x2f\xfd").is_err());
        for length in 0..elf.len() - 1 {
            // Wherever it is cut, reading must end in an error or in nothing, never in a panic.
            if let Ok(info) = modinfo(&elf[..length]) {
                assert_eq!(info.len(), 1, "cut at {length}");
            }
        }
        let mut nameless = elf.clone();
        let at = nameless.windows(9).position(|bytes| bytes == b".modinfo\0").unwrap();
        nameless[at + 1] = b'x';
        assert!(modinfo(&nameless).unwrap_err().to_string().contains("no .modinfo"));
    }
}
