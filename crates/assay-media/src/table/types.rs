//! What partition types are called: the UAPI group's Discoverable Partitions Specification, the UEFI specification,
//! and the list that `fdisk` prints.

use uuid::{Uuid, uuid};

/// EFI system partition.
pub const TYPE_ESP: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// Where GRUB puts its core image on a GPT disk that BIOS boots.
pub const TYPE_BIOS_BOOT: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");
/// Linux file system.
pub const TYPE_LINUX: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");
/// Linux swap.
pub const TYPE_LINUX_SWAP: Uuid = uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
/// Microsoft basic data: any FAT, exFAT or NTFS that is not an EFI system partition.
pub const TYPE_MICROSOFT_BASIC: Uuid = uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");

pub(super) fn guid_name(guid: &Uuid) -> &'static str {
    GUIDS.iter().find(|(known, _)| known == guid).map_or("unknown", |(_, name)| name)
}

pub(super) fn byte_name(byte: u8) -> &'static str {
    BYTES.iter().find(|(known, _)| *known == byte).map_or("unknown", |(_, name)| name)
}

const GUIDS: &[(Uuid, &str)] = &[
    (TYPE_ESP, "EFI system partition"),
    (TYPE_BIOS_BOOT, "BIOS boot"),
    (TYPE_LINUX, "Linux file system"),
    (TYPE_LINUX_SWAP, "Linux swap"),
    (TYPE_MICROSOFT_BASIC, "Microsoft basic data"),
    (uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"), "Linux root (x86-64)"),
    (uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"), "Linux root (ARM64)"),
    (uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"), "Linux root verity (x86-64)"),
    (uuid!("8484680c-9521-48c6-9c11-b0720656f69e"), "Linux /usr (x86-64)"),
    (uuid!("77ff5f63-e7b6-4633-acf4-1565b864c0e6"), "Linux /usr verity (x86-64)"),
    (uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172"), "Linux extended boot"),
    (uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915"), "Linux /home"),
    (uuid!("3b8f8425-20e0-4f3b-907f-1a25a76f98e8"), "Linux /srv"),
    (uuid!("4d21b016-b534-45c2-a9fb-5c16e091fd2d"), "Linux /var"),
    (uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928"), "Linux LVM"),
    (uuid!("a19d880f-05fc-4d3b-a006-743f0f84911e"), "Linux RAID"),
    (uuid!("ca7d7ccb-63ed-4c53-861c-1742536059cc"), "Linux LUKS"),
    (uuid!("8da63339-0007-60c0-c436-083ac8230908"), "Linux reserved"),
    (uuid!("6a898cc3-1dd2-11b2-99a6-080020736631"), "ZFS (Solaris /usr)"),
    (uuid!("6a945a3b-1dd2-11b2-99a6-080020736631"), "ZFS reserved (Solaris)"),
    (uuid!("4fbd7e29-9d25-41b8-afd0-062c0ceff05d"), "Ceph OSD"),
    (uuid!("45b0969e-9b03-4f30-b4c6-b4b80ceff106"), "Ceph journal"),
    (uuid!("cafecafe-9b03-4f30-b4c6-b4b80ceff106"), "Ceph block"),
    (uuid!("e3c9e316-0b5c-4db8-817d-f92df00215ae"), "Microsoft reserved"),
    (uuid!("de94bba4-06d1-4d40-a16a-bfd50179d6ac"), "Windows recovery"),
    (uuid!("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"), "Windows LDM metadata"),
    (uuid!("af9b60a0-1431-4f62-bc68-3311714a69ad"), "Windows LDM data"),
    (uuid!("aa31e02a-400f-11db-9590-000c2911d1b8"), "VMware VMFS"),
    (uuid!("9d275380-40ad-11db-bf97-000c2911d1b8"), "VMware vmkcore"),
    (uuid!("48465300-0000-11aa-aa11-00306543ecac"), "Apple HFS+"),
    (uuid!("7c3457ef-0000-11aa-aa11-00306543ecac"), "Apple APFS"),
    (uuid!("516e7cb4-6ecf-11d6-8ff8-00022d09712b"), "FreeBSD data"),
    (uuid!("83bd6b9d-7f41-11dc-be0b-001560b84f0f"), "FreeBSD boot"),
];

const BYTES: &[(u8, &str)] = &[
    (0x00, "empty"),
    (0x01, "FAT12"),
    (0x04, "FAT16 (under 32 MiB)"),
    (0x05, "extended"),
    (0x06, "FAT16"),
    (0x07, "HPFS, NTFS or exFAT"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32 (LBA)"),
    (0x0e, "FAT16 (LBA)"),
    (0x0f, "extended (LBA)"),
    (0x17, "hidden HPFS or NTFS"),
    (0x27, "Windows recovery"),
    (0x82, "Linux swap"),
    (0x83, "Linux"),
    (0x85, "Linux extended"),
    (0x8e, "Linux LVM"),
    (0xa5, "FreeBSD"),
    (0xaf, "Apple HFS"),
    (0xbf, "Solaris"),
    (0xcd, "CD-ROM image"),
    (0xea, "Linux extended boot"),
    (0xee, "GPT protective"),
    (0xef, "EFI system partition"),
    (0xfb, "VMware VMFS"),
    (0xfd, "Linux RAID autodetect"),
];
