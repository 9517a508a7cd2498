# shellcheck shell=dash
partition_disks() {
    say "partitioned /dev/$boot_disk"
}

format_disks() {
    say "formatted $(partition "$boot_disk" 3) as nixos"
}

copy_system() {
    say "copied 43 MiB"
}

personalize_system() {
    :
}

install_bootloader() {
    say "boot loader on /dev/$boot_disk for BIOS and UEFI"
}

verify_installation() {
    say "read back 91 files from /dev/$boot_disk"
}

keep_preview() {
    :
}
