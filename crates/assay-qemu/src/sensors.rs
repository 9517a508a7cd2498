//! A temperature and a power reading that can be set from outside, without any help from the guest.
//!
//! The machine gets two ACPI tables. One is code (`sensors.asl`): a thermal zone and a power meter, which read the
//! other one, and that is nothing but a header and two numbers. Firmware keeps tables where no system puts anything
//! else, so the numbers can be found in the machine's memory by what stands before them, and be changed there.

use std::{fs, io, time::Duration};

use assay_process::Cmd;

use crate::{QemuError, VmFolder, error::io_error, memory::GuestMemory};

const CODE: &str = include_str!("sensors.asl");
const MARK: &[u8; 16] = b"ASSAY LAB VALUES";
const LIMIT: Duration = Duration::from_secs(30);
/// What a machine shows until told otherwise.
const AT_FIRST: Readings = Readings { celsius: 45, watts: 180 };

/// What the sensors show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readings {
    /// The thermal zone's temperature, in °C.
    pub(crate) celsius: u32,
    /// The power meter's reading, in watts.
    pub(crate) watts: u32,
}

/// Writes both tables into a machine's folder.
pub(crate) async fn write_tables(folder: &VmFolder) -> Result<(), QemuError> {
    let [code, readings] = folder.sensor_tables();
    let source = code.with_extension("asl");
    fs::write(&source, CODE).map_err(io_error("writing", &source))?;
    // It appends `.aml` to the prefix by itself.
    let prefix = code.with_extension("");
    Cmd::new("iasl").arg("-p").arg(prefix).arg(&source).timeout(LIMIT).run_ok().await?;
    fs::write(&readings, table(AT_FIRST)).map_err(io_error("writing", &readings))
}

/// Changes what the sensors of a running machine show. Says in how many places.
pub(crate) fn set(memory: &GuestMemory, readings: Readings) -> io::Result<usize> {
    let places = memory.find(MARK)?;
    for place in &places {
        memory.write(place + MARK.len() as u64, &numbers(readings))?;
    }
    Ok(places.len())
}

/// A table that is a header (ACPI 6.5, 5.2.6), a mark and the numbers.
fn table(readings: Readings) -> Vec<u8> {
    const HEADER: usize = 36;
    let body = [&MARK[..], &numbers(readings)].concat();
    let mut table = b"OEM1".to_vec();
    table.extend(((HEADER + body.len()) as u32).to_le_bytes());
    table.extend([1, 0]);
    table.extend(b"ASSAY\0LABVALUE\x01\0\0\0ASAY\x01\0\0\0");
    table.extend(body);
    table[9] = checksum(&table);
    table
}

/// Each number is followed by its opposite, byte for byte, so that the table's checksum holds whatever they are.
fn numbers(readings: Readings) -> Vec<u8> {
    // Tenths of a kelvin, as `_TMP` has them, and milliwatts.
    let raw = [readings.celsius.saturating_mul(10).saturating_add(2732), readings.watts.saturating_mul(1000)];
    raw.map(u32::to_le_bytes)
        .into_iter()
        .flat_map(|bytes| [bytes, bytes.map(u8::wrapping_neg)].concat())
        .collect()
}

fn checksum(table: &[u8]) -> u8 {
    table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tables_are_tables() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = VmFolder::new(folder.path());
        write_tables(&folder).await.expect("iasl is installed");
        for path in folder.sensor_tables() {
            assert_eq!(checksum(&fs::read(&path).expect("read")), 0, "{}", path.display());
        }
        let code = fs::read(&folder.sensor_tables()[0]).expect("read");
        assert_eq!(&code[..4], b"SSDT");
    }

    #[test]
    fn the_checksum_holds_whatever_the_numbers_are() {
        let mut bytes = table(AT_FIRST);
        assert_eq!((checksum(&bytes), bytes.len(), bytes[4]), (0, 68, 68));
        assert_eq!(bytes[52..56], 3182_u32.to_le_bytes());
        bytes[52..68].copy_from_slice(&numbers(Readings { celsius: 97, watts: 950 }));
        assert_eq!(checksum(&bytes), 0);
    }
}
