# Reads the whole installation back from the disks before anybody says that it succeeded. What is still in memory
# proves nothing, so file systems are unmounted, caches dropped and everything mounted again read-only.
# shellcheck shell=dash

verify_installation() {
    unmount_target
    for disk in $boot_disk $data_disks; do
        blockdev --flushbufs "/dev/$disk" || die "/dev/$disk does not take its data"
    done
    echo 3 >/proc/sys/vm/drop_caches
    number=1
    for device in $(longhorn_devices); do
        [ "$(blkid -p -s LABEL -o value "$device")" = "longhorn$number" ] || die "$device does not read back as longhorn$number"
        mount_read_only "$device" || die "$device cannot be mounted"
        umount "$TARGET"
        number=$((number + 1))
    done
    mount_target ro
    verify_files "$RUN/medium/zeta/manifest.sha256"
    verify_files "$RUN/written.sha256"
    verify_bootloader
    unmount_target
    say "read back $(cat "$RUN/medium/zeta/manifest.sha256" "$RUN/written.sha256" | wc -l) files from /dev/$boot_disk"
}

verify_files() {
    (cd "$TARGET" && sha256sum -c -s "$1") ||
        die "files read back different: $(cd "$TARGET" && sha256sum -c "$1" 2>/dev/null | grep -v ': OK$' | head -n 3 | tr '\n' ' ')"
}
