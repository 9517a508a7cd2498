# shellcheck shell=dash
install_bootloader() {
    say "boot loader on /dev/$boot_disk for BIOS and UEFI"
}

verify_bootloader() {
    :
}
