//! Memory slots as firmware tables (SMBIOS structures of type 16 and 17).
//!
//! QEMU's own `-smbios type=17` cannot describe modules: it cuts memory into equal pieces and gives all of them
//! the same text. But it leaves out its own structures of every type for which a `-smbios file=` was given, so
//! both types are made here, one file per structure, an array and then a device for every slot, empty ones with
//! size 0 ("No Module Installed"). The handles are the ones QEMU would have used, because its type 19 (which
//! addresses the array serves) refers to the array as 0x1000.
//!
//! Layout: DMTF DSP0134 (SMBIOS 2.8), sections 7.17 and 7.18.

use crate::Dimm;

const ARRAY_HANDLE: u16 = 0x1000;
const FIRST_DEVICE_HANDLE: u16 = 0x1100;
const NO_ERROR_INFORMATION: u16 = 0xfffe;
const UNKNOWN_WIDTH: u16 = 0xffff;

/// One structure, ready for `-smbios file=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTable {
    /// A file name for it.
    pub file_name: String,
    /// The structure with its strings.
    pub bytes: Vec<u8>,
}

/// The array structure and one device structure per slot.
pub fn memory_tables(dimms: &[Dimm]) -> Vec<MemoryTable> {
    let array = MemoryTable { file_name: "smbios-16.bin".to_owned(), bytes: array(dimms) };
    let device = |(slot, dimm)| MemoryTable {
        file_name: format!("smbios-17-{slot}.bin"),
        bytes: device(slot as u16, dimm),
    };
    std::iter::once(array).chain(dimms.iter().enumerate().map(device)).collect()
}

fn array(dimms: &[Dimm]) -> Vec<u8> {
    let largest = dimms.iter().map(|dimm| u64::from(dimm.size_mib)).max().unwrap_or(0);
    let capacity_kib = largest * 1024 * dimms.len() as u64;
    let mut table = Structure::new(16, ARRAY_HANDLE);
    table.byte(3); // location: system board
    table.byte(3); // use: system memory
    table.byte(3); // error correction: none, as QEMU's memory has none
    // 0x8000_0000 says that the capacity is in the 64-bit field.
    table.dword(u32::try_from(capacity_kib).ok().filter(|kib| *kib < 0x8000_0000).unwrap_or(0x8000_0000));
    table.word(NO_ERROR_INFORMATION);
    table.word(dimms.len() as u16);
    table.qword(if capacity_kib < 0x8000_0000 { 0 } else { capacity_kib * 1024 });
    table.finish()
}

fn device(slot: u16, dimm: &Dimm) -> Vec<u8> {
    let installed = dimm.size_mib > 0;
    let width = if installed { 64 } else { UNKNOWN_WIDTH };
    let mut table = Structure::new(17, FIRST_DEVICE_HANDLE + slot);
    table.word(ARRAY_HANDLE);
    table.word(NO_ERROR_INFORMATION);
    table.word(width); // total width
    table.word(width); // data width
    // 0x7fff says that the size is in the extended field.
    let small = u16::try_from(dimm.size_mib).ok().filter(|size| *size < 0x7fff);
    table.word(small.unwrap_or(0x7fff));
    table.byte(9); // form factor: DIMM
    table.byte(0); // no set
    table.string(&dimm.locator);
    table.string(&dimm.bank);
    table.byte(if installed { 0x1a } else { 2 }); // DDR4, or unknown
    table.word(if installed { 0x80 } else { 4 }); // synchronous, or unknown
    table.word(dimm.speed);
    table.string(&dimm.manufacturer);
    table.string(&dimm.serial);
    table.string(""); // asset tag
    table.string(&dimm.part);
    table.byte(u8::from(installed)); // rank
    table.dword(if small.is_none() { dimm.size_mib } else { 0 });
    table.word(dimm.speed); // configured speed
    for _voltage in ["minimum", "maximum", "configured"] {
        table.word(if installed { 1200 } else { 0 });
    }
    table.finish()
}

/// A structure under construction: the formatted area, then its strings.
struct Structure {
    formatted: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let mut formatted = vec![kind, 0];
        formatted.extend(handle.to_le_bytes());
        Self { formatted, strings: Vec::new(), count: 0 }
    }

    fn byte(&mut self, value: u8) {
        self.formatted.push(value);
    }

    fn word(&mut self, value: u16) {
        self.formatted.extend(value.to_le_bytes());
    }

    fn dword(&mut self, value: u32) {
        self.formatted.extend(value.to_le_bytes());
    }

    fn qword(&mut self, value: u64) {
        self.formatted.extend(value.to_le_bytes());
    }

    /// A reference to a string by its number; 0 is "not specified".
    fn string(&mut self, text: &str) {
        if text.is_empty() {
            return self.byte(0);
        }
        self.count += 1;
        self.byte(self.count);
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
    }

    /// The length is that of the formatted area; the strings end with an empty one, and none are two zeros.
    fn finish(mut self) -> Vec<u8> {
        self.formatted[1] = self.formatted.len() as u8;
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        self.strings.push(0);
        self.formatted.extend(self.strings);
        self.formatted
    }
}

#[cfg(test)]
mod tests {
    use super::memory_tables;
    use crate::Dimm;

    fn dimm(locator: &str, size_mib: u32) -> Dimm {
        let filled = |text: &str| {
            if size_mib > 0 { text.to_owned() } else { String::new() }
        };
        Dimm {
            locator: locator.to_owned(),
            bank: "BANK 0".to_owned(),
            manufacturer: filled("Samsung"),
            part: filled("M393"),
            serial: filled("S1"),
            size_mib,
            speed: if size_mib > 0 { 2666 } else { 0 },
        }
    }

    #[test]
    fn an_array_and_a_device_per_slot() {
        let tables = memory_tables(&[dimm("A1", 1024), dimm("A2", 0)]);
        let names: Vec<_> = tables.iter().map(|table| table.file_name.as_str()).collect();
        assert_eq!(names, ["smbios-16.bin", "smbios-17-0.bin", "smbios-17-1.bin"]);
        // Array: 23 bytes formatted, handle 0x1000, capacity 2 × 1 GiB in KiB, two devices, no strings.
        let array = &tables[0].bytes;
        assert_eq!((array[0], array[1], array.len()), (16, 23, 25));
        assert_eq!(array[7..11], 0x0020_0000_u32.to_le_bytes());
        assert_eq!(array[13], 2);
        // Installed: 40 bytes formatted, size in MiB, then five strings.
        let installed = &tables[1].bytes;
        assert_eq!((installed[0], installed[1]), (17, 40));
        assert_eq!(installed[12..14], 1024_u16.to_le_bytes());
        assert_eq!(installed[40..], *b"A1\0BANK 0\0Samsung\0S1\0M393\0\0");
        // Empty: size 0 and only the slot's own strings.
        let empty = &tables[2].bytes;
        assert_eq!(empty[12..14], [0, 0]);
        assert_eq!(empty[40..], *b"A2\0BANK 0\0\0");
    }

    #[test]
    fn a_module_of_32_gib_and_more_uses_the_extended_size() {
        let bytes = &memory_tables(&[dimm("A1", 65_536)])[1].bytes;
        assert_eq!(bytes[12..14], 0x7fff_u16.to_le_bytes());
        assert_eq!(bytes[0x1c..0x20], 65_536_u32.to_le_bytes());
    }
}
