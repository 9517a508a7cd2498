# The file systems are all there; what points the firmware at them is not.
# shellcheck shell=bash
boot_options() {
    BOOT_OPTIONS=(-partition_offset 16 -append_partition 2 0xef "$work/esp.img")
}

fill_efi_partition() {
    :
}
