# shellcheck shell=dash
install_node() {
    phase plan plan_disks &&
        phase identity choose_identity &&
        phase countdown countdown &&
        phase partition partition_disks &&
        phase format format_disks &&
        phase copy copy_system &&
        phase bootloader install_bootloader &&
        phase personalize personalize_system &&
        phase verify verify_installation &&
        success_banner
}

install_bootloader() {
    bios=$(partition "$boot_disk" 1)
    mkdir -p "$TARGET/boot/efi/EFI/BOOT" "$TARGET/boot/grub"
    cp $LOADER/BOOTX64.EFI "$TARGET/boot/efi/EFI/BOOT/BOOTX64.EFI"
    write_menu >"$TARGET/boot/grub/grub.cfg"
    cp "$TARGET/etc/inittab.installed" "$TARGET/etc/inittab"
    : >"$TARGET/boot/grub/zeta-installed"
    dd if=$LOADER/core.img of="$bios" bs=64k 2>/dev/null
    dd if=$LOADER/boot.img of="/dev/$boot_disk" bs=440 count=1 conv=notrunc 2>/dev/null
    sync
    say "boot loader on /dev/$boot_disk for BIOS and UEFI"
    sleep 5
}
