# Makes the boot disk bootable, for BIOS and for UEFI, whichever booted the installer: a disk moves between machines.
# GRUB's images were made when the medium was built and need no tool here: the BIOS boot partition is always at the same
# sector, and the prefix "(,gpt3)/boot/grub" means partition 3 of the disk that the firmware started.
# shellcheck shell=dash
LOADER=/usr/lib/zeta/bootloader

install_bootloader() {
    bios=$(partition "$boot_disk" 1)
    mkdir -p "$TARGET/boot/efi/EFI/BOOT" "$TARGET/boot/grub"
    put boot/grub/grub.cfg "$(write_menu)"
    dd if=$LOADER/core.img of="$bios" bs=64k 2>/dev/null || die "boot loader in $bios"
    # What the firmware starts comes last: before it, a cut in power leaves a disk with nothing to boot.
    sync
    cp $LOADER/BOOTX64.EFI "$TARGET/boot/efi/EFI/BOOT/BOOTX64.EFI" || die "boot loader for UEFI"
    # 440 bytes of code; the partition table of the same sector stays.
    dd if=$LOADER/boot.img of="/dev/$boot_disk" bs=440 count=1 conv=notrunc 2>/dev/null || die "boot sector of /dev/$boot_disk"
    say "boot loader on /dev/$boot_disk for BIOS and UEFI"
}

write_menu() {
    cat <<END
set timeout=0
if [ "\$grub_platform" = pc ]; then
    serial --unit=0 --speed=115200
    terminal_input console serial
    terminal_output console serial
fi
menuentry "Zeta cluster node" {
    echo "zeta grub: loading the installed system"
    linux /boot/vmlinuz console=tty0 console=ttyS0,115200 loglevel=6 zeta.root=$(uuid_of "$(partition "$boot_disk" 3)")
    initrd /boot/initrd
}
END
}

# Reads it back. Fails with the part that is wrong.
verify_bootloader() {
    dd if="/dev/$boot_disk" bs=440 count=1 2>/dev/null | cmp -s -n 440 - $LOADER/boot.img || die "boot sector reads back different"
    cmp -s -n "$(wc -c <$LOADER/core.img)" "$(partition "$boot_disk" 1)" $LOADER/core.img || die "boot loader reads back different"
    cmp -s $LOADER/BOOTX64.EFI "$TARGET/boot/efi/EFI/BOOT/BOOTX64.EFI" || die "boot loader for UEFI reads back different"
}
