# Reads the settings on the medium and the files an operator staged on a FAT partition of the boot stick (or of
# another removable disk). Each file that was read is said with where it came from: silence means it was not read.
# shellcheck shell=dash

# Type of each staged file. A secret is never printed, not even in part.
STAGED_FILES="zeta-hostname.txt:public zeta-firstboot.conf:public zeta-authorized-keys.pub:public
    zeta-ca.pem:public zeta-join-token:secret"

read_medium_settings() {
    keep_settings "$RUN/medium/zeta-firstboot.conf" >"$CONFIGURATION"
    say "read iso:zeta-firstboot.conf ($(wc -l <"$CONFIGURATION") settings)"
}

read_staged_files() {
    found_files=0
    list_fat_partitions >"$RUN/partitions"
    while read -r name device; do
        mount -t vfat -o ro "$device" "$TARGET" 2>/dev/null || continue
        for file in $STAGED_FILES; do
            take_file "$name" "${file%:*}" "${file#*:}"
        done
        umount "$TARGET"
    done <"$RUN/partitions"
    if [ -s "$STAGED/zeta-firstboot.conf" ]; then
        keep_settings "$STAGED/zeta-firstboot.conf" >>"$CONFIGURATION"
    fi
    say "staged files read: $found_files"
}

# take_file PARTITION FILE TYPE: the first partition that has a file wins.
take_file() {
    source=$TARGET/$2
    [ -f "$source" ] || return 0
    if [ -e "$STAGED/$2" ]; then
        say "ignored esp:$1/$2 (already read)"
        return 0
    fi
    size=$(wc -c <"$source")
    if [ "$size" -gt "$STAGED_LIMIT_BYTES" ]; then
        say "ignored esp:$1/$2 ($size bytes, more than $STAGED_LIMIT_BYTES)"
        return 0
    fi
    # A staged file that cannot be read whole is as good as not staged, and must not be said to be read.
    cat "$source" >"$STAGED/$2" || { rm -f "$STAGED/$2"; say "cannot read esp:$1/$2"; return 0; }
    echo "$1" >"$STAGED/$2.source"
    found_files=$((found_files + 1))
    say "read esp:$1/$2 ($3, $size bytes)"
}

# Lines of the form key=value; everything else is a comment. The file is never executed.
keep_settings() {
    tr -d '\r' <"$1" | grep -E '^[a-z_]+=[[:print:]]*$'
}

source_of_role() {
    if grep -q '^role=' "$STAGED/zeta-firstboot.conf" 2>/dev/null; then
        echo "esp:$(cat "$STAGED/zeta-firstboot.conf.source")"
    else
        echo "iso:zeta-firstboot.conf"
    fi
}

# USB disks appear a second or two after their bus. Deciding before that would be a race.
wait_for_usb_disks() {
    waited=0
    while usb_disks_missing && [ "$waited" -lt $((USB_WAIT_S * 5)) ]; do
        sleep 0.2
        waited=$((waited + 1))
    done
}

usb_disks_missing() {
    for interface in /sys/bus/usb/devices/*:*; do
        [ "$(cat "$interface/bInterfaceClass" 2>/dev/null)" = 08 ] || continue
        find "$interface/" -name block -type d | grep -q . || return 0
    done
    return 1
}

# Prints "NAME DEVICE" per FAT file system on the installer medium, then on other removable or USB disks.
list_fat_partitions() {
    medium=$(medium_disk)
    for disk in "$medium" $(ls /sys/block); do
        if [ "$disk" != "$medium" ]; then
            [ "$(cat "/sys/block/$disk/removable")" = 1 ] || is_usb "$disk" || continue
        fi
        for path in "/sys/block/$disk" "/sys/block/$disk/$disk"*; do
            [ -e "$path/dev" ] && is_fat "/dev/${path##*/}" && echo "${path##*/} /dev/${path##*/}"
        done
        case $disk in sr*) [ "$disk" != "$medium" ] || fat_inside_disc "$disk" ;; esac
    done | awk '!seen[$2]++'
}

# The kernel shows no partitions on a CD, so the second entry of its partition table is followed by hand.
fat_inside_disc() {
    start=$(od -A n -t u4 -j 470 -N 4 "/dev/$1" | tr -d ' ')
    [ "${start:-0}" -gt 0 ] || return 0
    loop=$(losetup -f)
    losetup -r -o $((start * 512)) "$loop" "/dev/$1" 2>/dev/null || return 0
    is_fat "$loop" && echo "${1}p2 $loop"
}

is_fat() {
    [ "$(blkid -p -s TYPE -o value "$1" 2>/dev/null)" = vfat ]
}

# The whole disk that the installer itself was started from.
medium_disk() {
    path=$(readlink -f "/sys/class/block/$(cat "$RUN/medium-device")")
    [ ! -e "$path/partition" ] || path=${path%/*}
    echo "${path##*/}"
}

is_usb() {
    case $(readlink -f "/sys/block/$1") in
    */usb[0-9]*) return 0 ;;
    *) return 1 ;;
    esac
}
