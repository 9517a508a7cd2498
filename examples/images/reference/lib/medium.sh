# Boot loaders and the medium itself. Sourced by build.
# shellcheck shell=bash

BIOS_MODULES="biosdisk part_msdos part_gpt iso9660 ext2 normal linux configfile search search_fs_file serial terminal echo test"
UEFI_MODULES="part_msdos part_gpt iso9660 ext2 fat normal linux configfile search search_fs_file serial terminal echo test efi_gop"
VOLUME=ZETA_INSTALLER
ESP_MIB=8 # room for staged files; 16-bit FAT with one sector per cluster

# GRUB four times: {medium, installed disk} × {BIOS, UEFI}. On the medium it looks for the file that names this
# revision, because a CD and a stick call their devices differently. On a disk it stays on the disk it came from.
make_loaders() {
    mkdir -p "$work/disk" "$work/medium"
    {
        echo "search --no-floppy --set=root --file /zeta/revision-$revision"
        # shellcheck disable=SC2016 # GRUB's variable
        echo 'set prefix=($root)/boot/grub'
    } >"$work/search.cfg"
    # shellcheck disable=SC2086 # one module per word
    {
        mkimage i386-pc-eltorito "$work/medium/eltorito.img" /boot/grub "$work/search.cfg" $BIOS_MODULES
        mkimage x86_64-efi "$work/medium/BOOTX64.EFI" /boot/grub "$work/search.cfg" $UEFI_MODULES
        mkimage i386-pc "$work/disk/core.img" '(,gpt3)/boot/grub' '' $BIOS_MODULES
        mkimage x86_64-efi "$work/disk/BOOTX64.EFI" '(,gpt3)/boot/grub' '' $UEFI_MODULES
    }
    cp "$unpacked/usr/lib/grub/i386-pc/boot.img" "$work/disk/boot.img"
    # What grub-bios-setup would write: where the second stage begins (boot.img, byte 0x5c), and where that one's
    # own rest begins (core.img, byte 0x1f4). The installer puts it at sector 2048.
    put_sector "$work/disk/boot.img" 0x5c 2048
    put_sector "$work/disk/core.img" 0x1f4 2049
}

# mkimage FORMAT OUTPUT PREFIX EARLY_CONFIGURATION MODULE…
mkimage() {
    local format=$1 output=$2 prefix=$3 early=$4
    shift 4
    grub-mkimage --directory "$unpacked/usr/lib/grub/${format%-eltorito}" --format "$format" --output "$output" \
        --prefix "$prefix" ${early:+--config "$early"} "$@" || fail "GRUB's $format image cannot be made"
}

# put_sector FILE OFFSET NUMBER: 64 bits, little end first. The numbers here fit into the first two bytes.
put_sector() {
    # shellcheck disable=SC2059 # the format is the bytes
    printf "$(printf '\\x%02x\\x%02x\\0\\0\\0\\0\\0\\0' $(($3 & 255)) $(($3 >> 8)))" |
        dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none
}

# The EFI system partition: GRUB, and room for the files an operator stages. It is appended behind the ISO file
# system, so that it is a partition of its own, writable, when the image is written onto a stick.
make_efi_partition() {
    local image=$work/esp.img
    truncate -s "${ESP_MIB}M" "$image"
    mkfs.fat -F 16 -s 1 -n ZETA_ESP -i 5a455441 --invariant "$image" >/dev/null
    fill_efi_partition "$image"
}

fill_efi_partition() {
    same_times "$work/medium"
    mmd -i "$1" ::/EFI ::/EFI/BOOT
    mcopy -m -i "$1" "$work/medium/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
}

make_medium() {
    local tree=$work/iso
    mkdir -p "$tree/boot/grub" "$tree/zeta"
    cp "$unpacked/boot/vmlinuz-$kernel_version" "$tree/boot/vmlinuz"
    cp "$work/initrd" "$tree/boot/initrd"
    cp "$work/medium/eltorito.img" "$tree/boot/grub/"
    sed -e "s/@REVISION@/$revision/" -e "s|@ARGUMENTS@|$arguments|" "$here/boot/grub.cfg" >"$tree/boot/grub/grub.cfg"
    cp "$here/boot/zeta-firstboot.conf" "$tree/"
    cp "$work/system.squashfs" "$work/manifest.sha256" "$tree/zeta/"
    cp "$lock" "$tree/zeta/packages.txt"
    echo "$revision" >"$tree/zeta/revision"
    : >"$tree/zeta/revision-$revision"
    same_times "$tree"
    boot_options
    xorriso -as mkisofs -o "$work/out.iso" -V "$VOLUME" -R -J -joliet-long -uid 0 -gid 0 \
        --modification-date="$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S00)" \
        "${BOOT_OPTIONS[@]}" "$tree" >"$work/xorriso.log" 2>&1 ||
        fail "the medium cannot be made: $(grep -m 1 -E 'FAILURE|SORRY|FATAL' "$work/xorriso.log")"
    mv "$work/out.iso" "$out"
}

# CD: El Torito entries for BIOS and UEFI. Stick: boot code in the first sector, and a partition table with the
# ISO file system (from 32 KiB on, a view of its own: the kernel does not mount a device and its partition at the
# same time) and the EFI system partition.
boot_options() {
    BOOT_OPTIONS=(
        -partition_offset 16
        -append_partition 2 0xef "$work/esp.img"
        --grub2-mbr "$unpacked/usr/lib/grub/i386-pc/boot_hybrid.img"
        -b boot/grub/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info
        -eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot
    )
}
