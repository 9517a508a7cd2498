//! The whole crate against the real thing: media from Debian's packages, images from the tools that everybody uses, and
//! those tools' own judgement of what is written here.
//!
//! Needs, as packages: dosfstools, e2fsprogs, xfsprogs, btrfs-progs, exfatprogs, ntfs-3g, squashfs-tools, lvm2, mdadm,
//! cryptsetup-bin, gdisk, fdisk, util-linux, mtools, xorriso, grub-pc-bin, grub-efi-amd64-bin, grub-common, ipxe and
//! memtest86+.

mod hostile;
mod iso;
mod occupy;
mod probe;
mod prove;
mod stage;
mod table;
mod tools;
mod trees;
