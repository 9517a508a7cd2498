# Lays out the disks and puts the system on them. The names of partitions and file systems are contract: a later
# install recognises its own disks by the former, and the outside finds what it wants to look at by the latter.
#
# BOOT: zeta-bios (GRUB's second stage) | zeta-esp, FAT "boot" | zeta-root, ext4 "nixos" | zeta-longhorn1, ext4 "longhorn1"
# DATA: zeta-longhornN, ext4 "longhornN", N from 2
# shellcheck shell=dash

BIOS_BOOT=21686148-6449-6E6F-744E-656564454649
EFI_SYSTEM=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
LINUX=0FC63DAF-8483-4772-8E79-3D69D8477DE4

partition_disks() {
    # 1 MiB before the first partition and 1 MiB behind the last belong to the partition table.
    root_mib=$(($(size_of "$boot_disk") / 1048576 - 3 - ESP_MIB - LONGHORN1_MIB))
    write_table "$boot_disk" "size=1MiB, type=$BIOS_BOOT, name=zeta-bios
size=${ESP_MIB}MiB, type=$EFI_SYSTEM, name=zeta-esp
size=${root_mib}MiB, type=$LINUX, name=zeta-root
type=$LINUX, name=zeta-longhorn1"
    number=2
    for disk in $data_disks; do
        write_table "$disk" "type=$LINUX, name=zeta-longhorn$number"
        number=$((number + 1))
    done
}

# write_table DISK PARTITIONS. Signatures of what was there before go too.
write_table() {
    printf 'label: gpt\n%s\n' "$2" |
        sfdisk --quiet --wipe always --wipe-partitions always "/dev/$1" >"$RUN/sfdisk.log" 2>&1 ||
        die "partition table of /dev/$1: $(tail -n 1 "$RUN/sfdisk.log")"
    say "partitioned /dev/$1"
}

format_disks() {
    format fat boot "$(partition "$boot_disk" 2)"
    format ext4 nixos "$(partition "$boot_disk" 3)"
    format ext4 longhorn1 "$(partition "$boot_disk" 4)"
    number=2
    for disk in $data_disks; do
        format ext4 "longhorn$number" "$(partition "$disk" 1)"
        number=$((number + 1))
    done
}

# format TYPE LABEL DEVICE
format() {
    [ -b "$3" ] || sleep 2 # the kernel announces new partitions in its own time
    case $1 in
    # By path: this shell would take its own programs of the same names.
    fat) /usr/sbin/mkfs.fat -F 32 -n "$2" "$3" ;;
    ext4) /usr/sbin/mke2fs -q -t ext4 -F -E nodiscard -L "$2" "$3" ;;
    esac >"$RUN/format.log" 2>&1 || die "file system $2 on $3: $(tail -n 1 "$RUN/format.log")"
    say "formatted $3 as $2"
}

copy_system() {
    mount_target rw
    cp -a "$RUN/lower/." "$TARGET/" || die "the system does not fit on /dev/$boot_disk or cannot be written"
    cp "$RUN/medium/boot/vmlinuz" "$RUN/medium/boot/initrd" "$TARGET/boot/" || die "kernel cannot be written"
    say "copied $(du -sm "$TARGET" | cut -f 1) MiB"
}

# mount_target ro|rw: the installed root with its EFI system partition.
mount_target() {
    mount -t ext4 -o "$1" "$(partition "$boot_disk" 3)" "$TARGET" || die "root file system cannot be mounted"
    [ "$1" = ro ] || mkdir -p "$TARGET/boot/efi"
    mount -t vfat -o "$1" "$(partition "$boot_disk" 2)" "$TARGET/boot/efi" || die "EFI system partition cannot be mounted"
}

unmount_target() {
    sync
    { umount "$TARGET/boot/efi" && umount "$TARGET"; } || die "file systems of the installed system stay busy"
}

# What makes the copy this node. All files go through put, so that they can be read back later.
personalize_system() {
    node=$(cat "$RUN/hostname")
    : >"$RUN/written.sha256"
    mkdir -p "$TARGET/etc/zeta" "$TARGET/root/.ssh" "$TARGET/var/lib"
    chmod 700 "$TARGET/root/.ssh"
    mv "$TARGET/etc/inittab.installed" "$TARGET/etc/inittab" || die "init's table cannot be written"
    put etc/hostname "$node"
    put etc/zeta/cluster-node-id "$node"
    put etc/hosts "127.0.0.1 localhost
127.0.1.1 $node"
    put etc/fstab "$(write_fstab)"
    put etc/zeta/node.conf "$(for key in role operator control_plane; do echo "$key=$(setting $key)"; done)"
    put_staged root/.ssh/authorized_keys zeta-authorized-keys.pub
    put_staged etc/zeta/ca.pem zeta-ca.pem
    put_staged etc/zeta/join-token zeta-join-token
}

# put FILE TEXT: a file below the target, remembered with its digest.
put() {
    printf '%s\n' "$2" >"$TARGET/$1" || die "/$1 cannot be written"
    (cd "$TARGET" && sha256sum "./$1") >>"$RUN/written.sha256"
}

# put_staged FILE STAGED_FILE: for root alone, before there is anything in it.
put_staged() {
    [ -s "$STAGED/$2" ] || return 0
    (umask 077 && : >"$TARGET/$1") || die "/$1 cannot be written"
    put "$1" "$(cat "$STAGED/$2")"
}

write_fstab() {
    echo "UUID=$(uuid_of "$(partition "$boot_disk" 3)") / ext4 defaults 0 1"
    echo "UUID=$(uuid_of "$(partition "$boot_disk" 2)") /boot/efi vfat defaults 0 2"
    number=1
    for device in $(longhorn_devices); do
        mkdir -p "$TARGET/var/lib/longhorn-disk$number"
        echo "UUID=$(uuid_of "$device") /var/lib/longhorn-disk$number ext4 defaults 0 2"
        number=$((number + 1))
    done
}

# The partitions longhorn1, longhorn2, … in that order.
longhorn_devices() {
    partition "$boot_disk" 4
    for disk in $data_disks; do partition "$disk" 1; done
}

uuid_of() {
    blkid -p -s UUID -o value "$1"
}
