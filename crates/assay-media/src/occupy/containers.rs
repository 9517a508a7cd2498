//! The headers of what holds other things: volume managers, arrays, encryption, and the disks of storage systems.

use std::io;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::SliceReader;
use crate::bytes::{crc32_raw, put};
use crate::stage::derived;

const MIB: u64 = 1 << 20;

/// A physical volume in no group: label, header, and an empty area for metadata. Source: LVM2's
/// `lib/format_text/layout.h` and `lib/label/label.h`.
pub(super) fn lvm(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    /// What LVM's checksums start with (`INITIAL_CRC`).
    const START: u32 = 0xf597_a6cf;
    let mut label = vec![0; 512];
    put(&mut label, 0, b"LABELONE");
    put(&mut label, 8, &1_u64.to_le_bytes());
    put(&mut label, 20, &32_u32.to_le_bytes());
    put(&mut label, 24, b"LVM2 001");
    // Thirty-two letters or digits; those of a UUID are some.
    put(&mut label, 32, identity.simple().to_string().as_bytes());
    // The size, then where data begin (to the end), then where metadata are; each list ends with zeros.
    for (at, value) in [(64, disk.length()), (72, MIB), (104, 4096), (112, MIB - 4096)] {
        put(&mut label, at, &value.to_le_bytes());
    }
    put(&mut label, 136, &2_u32.to_le_bytes());
    let crc = crc32_raw(START, &label[20..]);
    put(&mut label, 16, &crc.to_le_bytes());
    disk.write_all_at(&label, 512)?;
    let mut area = vec![0; 512];
    put(&mut area, 4, b" LVM2 x[5A%r0N*>");
    put(&mut area, 20, &1_u32.to_le_bytes());
    put(&mut area, 24, &4096_u64.to_le_bytes());
    put(&mut area, 32, &(MIB - 4096).to_le_bytes());
    let crc = crc32_raw(START, &area[4..]);
    put(&mut area, 0, &crc.to_le_bytes());
    disk.write_all_at(&area, 4096)
}

/// A mirror of two, of which this is the first, metadata 1.2. Source: the kernel's `include/uapi/linux/raid/md_p.h`
/// (`struct mdp_superblock_1`).
pub(super) fn md(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    const DEVICES: usize = 2;
    let mut raw = vec![0; 256 + 2 * DEVICES];
    let sectors = disk.length() / 512 - 2048;
    let words = [(0, 0xa92b_4efc), (4, 1), (72, 1), (92, DEVICES as u32), (220, DEVICES as u32)];
    for (at, value) in words {
        put(&mut raw, at, &value.to_le_bytes());
    }
    put(&mut raw, 16, identity.as_bytes());
    put(&mut raw, 32, b"data:0");
    for (at, value) in [(64, 1_700_000_000), (80, sectors), (128, 2048), (136, sectors), (144, 8)] {
        put(&mut raw, at, &value.to_le_bytes());
    }
    put(&mut raw, 168, &derived(&[identity.as_bytes(), b"member"]).into_bytes());
    put(&mut raw, 258, &1_u16.to_le_bytes());
    // The sum of its 32-bit words, with the carries added again.
    let words = raw.chunks_exact(4).map(|word| u64::from(crate::bytes::le32(word, 0)));
    let sum: u64 = words.sum();
    let checksum = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    put(&mut raw, 216, &checksum.to_le_bytes());
    disk.write_all_at(&raw, 4096)
}

/// A LUKS2 header, twice, with a segment and no key. Source: "LUKS2 On-Disk Format Specification" 1.1.
pub(super) fn luks2(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    /// Bytes of one header with its JSON.
    const HEADER: usize = 16 << 10;
    let json = br#"{"keyslots":{},"tokens":{},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},"digests":{"0":{"type":"pbkdf2","keyslots":[],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"YXNzYXk6IG5vYm9keSBjYW4gb3BlbiB0aGlzLi4uLi4=","digest":"YXNzYXk6IGFuZCBub2JvZHkgZXZlciBjb3VsZC4uLi4="}},"config":{"json_size":"12288","keyslots_size":"16744448"}}"#;
    for (magic, at) in [(b"LUKS\xba\xbe", 0), (b"SKUL\xba\xbe", HEADER)] {
        let mut raw = vec![0; HEADER];
        put(&mut raw, 0, magic);
        put(&mut raw, 6, &2_u16.to_be_bytes());
        put(&mut raw, 8, &(HEADER as u64).to_be_bytes());
        put(&mut raw, 16, &1_u64.to_be_bytes());
        put(&mut raw, 24, b"data");
        put(&mut raw, 72, b"sha256");
        put(&mut raw, 104, &Sha256::digest([identity.as_bytes(), &magic[..]].concat()));
        put(&mut raw, 168, identity.to_string().as_bytes());
        put(&mut raw, 256, &(at as u64).to_be_bytes());
        put(&mut raw, 4096, json);
        let digest = Sha256::digest(&raw);
        put(&mut raw, 448, &digest);
        disk.write_all_at(&raw, at as u64)?;
    }
    Ok(())
}

/// Four labels, each with the pool's name and a ring of überblocks. Source: "ZFS On-Disk Specification", chapter 1.
pub(super) fn zfs(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    const LABEL: u64 = 256 << 10;
    let number =
        |from: usize| u64::from_be_bytes(identity.as_bytes()[from..from + 8].try_into().unwrap_or_default());
    let mut list = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    pair(&mut list, "version", Value::Number(5000));
    pair(&mut list, "name", Value::Text("data"));
    pair(&mut list, "state", Value::Number(0));
    pair(&mut list, "txg", Value::Number(4));
    pair(&mut list, "pool_guid", Value::Number(number(0)));
    pair(&mut list, "top_guid", Value::Number(number(8)));
    pair(&mut list, "guid", Value::Number(number(8)));
    list.extend([0; 8]);
    let size = disk.length() / LABEL * LABEL;
    for label in [0, LABEL, size - 2 * LABEL, size - LABEL] {
        disk.write_all_at(&list, label + (16 << 10))?;
        for slot in 0..16_u64 {
            // Mark, version, transaction, sum of identities, time.
            let words = [0x00ba_b10c, 5000, 4 + slot, number(0).wrapping_add(number(8)), 1_700_000_000];
            let block: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
            disk.write_all_at(&block, label + (128 << 10) + slot * 1024)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Text(&'a str),
}

/// A name and its value in XDR: both sizes, the name, the type, the count, the value.
fn pair(list: &mut Vec<u8>, name: &str, value: Value<'_>) {
    let text = |into: &mut Vec<u8>, text: &str| {
        into.extend((text.len() as u32).to_be_bytes());
        into.extend_from_slice(text.as_bytes());
        into.resize(into.len().next_multiple_of(4), 0);
    };
    let mut body = Vec::new();
    text(&mut body, name);
    match value {
        Value::Number(number) => {
            body.extend([8_u32, 1].into_iter().flat_map(u32::to_be_bytes));
            body.extend(number.to_be_bytes());
        }
        Value::Text(value) => {
            body.extend([9_u32, 1].into_iter().flat_map(u32::to_be_bytes));
            text(&mut body, value);
        }
    }
    list.extend((body.len() as u32 + 8).to_be_bytes());
    // The size in memory, which nobody reads; what libnvpair would say for these.
    list.extend((body.len() as u32 + 16).to_be_bytes());
    list.extend(body);
}

/// The label of an OSD's main device. Source: Ceph's `src/os/bluestore/BlueStore.cc` (`_write_bdev_label`).
pub(super) fn ceph(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    disk.write_all_at(format!("bluestore block device\n{identity}\n").as_bytes(), 0)
}
