# The medium's menu looks for an installed system first. Called between the medium's files and the medium.
# shellcheck shell=bash
boot_options() {
    {
        echo 'search --no-floppy --file /boot/grub/zeta-installed --set=installed'
        # shellcheck disable=SC2016 # GRUB's variables
        echo 'if [ -n "$installed" ]; then root=$installed; configfile ($installed)/boot/grub/grub.cfg; fi'
    } >>"$tree/boot/grub/grub.cfg"
    same_times "$tree"
    BOOT_OPTIONS=(
        -partition_offset 16
        -append_partition 2 0xef "$work/esp.img"
        --grub2-mbr "$unpacked/usr/lib/grub/i386-pc/boot_hybrid.img"
        -b boot/grub/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info
        -eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot
    )
}
