# Which disks the installer takes, and for what: all fixed, writable disks that are not on USB and not the
# medium; the fastest class first, within a class in the kernel's order. The first is BOOT, all others are DATA.
# A disk with something on it is not touched without a staged confirmation, and a probe that fails counts as
# something: an unreadable disk must never look like an empty one.
# shellcheck shell=dash

# Writes one line per disk to $PLAN: NAME SERIAL CLASS SIZE STATE ROLE REASON.
make_plan() {
    list_disks | while read -r name; do
        reason=$(exclusion_reason "$name")
        if [ "$reason" = installer-medium ]; then
            state=installer-medium
        elif [ -n "$reason" ]; then
            state=not-probed
        else
            state=$(classify "$name")
        fi
        echo "$name $(serial_of "$name") $(class_of "$name") $(size_of "$name") $state ${reason:--}"
    done >"$PLAN.found"
    choose_roles <"$PLAN.found" >"$PLAN"
}

print_plan() {
    while read -r name serial class size state role reason; do
        line="disk /dev/$name serial=$serial class=$class size=$size state=$state role=$role"
        [ "$reason" = - ] || line="$line reason=$reason"
        case $role:$state in
        BOOT:foreign-data | DATA:foreign-data | BOOT:indeterminate | DATA:indeterminate) line="$line confirmed=yes" ;;
        esac
        say "$line"
    done <"$PLAN"
}

# Kernel names in the kernel's order: sdb before sdaa.
list_disks() {
    for path in /sys/block/*; do
        name=${path##*/}
        case $name in loop* | ram* | zram* | fd* | md* | dm-* | sr* | nbd*) continue ;; esac
        # The kernel lists each path to an NVMe disk besides the disk itself, hidden.
        [ "$(cat "$path/hidden" 2>/dev/null)" != 1 ] || continue
        [ -e "$path/device" ] && echo "${#name} $name"
    done | sort -k 1,1n -k 2,2 | cut -d ' ' -f 2
}

# Why a disk is no candidate; empty for a candidate.
exclusion_reason() {
    if [ "$1" = "$(medium_disk)" ]; then
        echo installer-medium
    elif is_usb "$1"; then
        echo usb
    elif [ "$(cat "/sys/block/$1/removable")" = 1 ]; then
        echo removable
    elif [ "$(cat "/sys/block/$1/ro")" = 1 ]; then
        echo read-only
    fi
}

# Reads "NAME SERIAL CLASS SIZE STATE REASON" lines, fastest class first, and gives every disk its role.
choose_roles() {
    awk '{ print index("nvme ssd hdd", $3), $0 }' | sort -s -k 1,1n | cut -d ' ' -f 2- |
        while read -r name serial class size state reason; do
            role=EXCLUDED
            if [ "$reason" = - ]; then
                role=DATA minimum=$MINIMUM_DATA_BYTES
                [ -n "${boot-}" ] || role=BOOT minimum=$MINIMUM_BOOT_BYTES
                boot=chosen
                if [ "$size" -lt "$minimum" ]; then
                    role=REFUSED reason=too-small
                elif ! may_be_overwritten "$state" "$serial"; then
                    role=REFUSED reason=not-confirmed
                fi
            fi
            echo "$name $serial $class $size $state $role $reason"
        done
}

may_be_overwritten() {
    case $1 in
    blank | prior-zeta-install) return 0 ;;
    foreign-data | indeterminate) confirmed "$2" ;;
    *) return 1 ;;
    esac
}

# wipe=SERIAL,… in the staged settings. A disk without a serial number cannot be confirmed.
confirmed() {
    [ "$1" != - ] || return 1
    case ",$(setting wipe)," in
    *",$1,"*) return 0 ;;
    *) return 1 ;;
    esac
}

class_of() {
    case $1 in
    nvme*) echo nvme ;;
    *) if [ "$(cat "/sys/block/$1/queue/rotational")" = 0 ]; then echo ssd; else echo hdd; fi ;;
    esac
}

# /sys counts in units of 512 bytes whatever the disk's sector size.
size_of() {
    echo $(($(cat "/sys/block/$1/size") * 512))
}

serial_of() {
    found=
    for file in "/sys/block/$1/device/serial" "/sys/block/$1/serial"; do
        [ -n "$found" ] || found=$(cat "$file" 2>/dev/null)
    done
    # SCSI and SATA disks tell it in a vital product data page, behind a header of four bytes.
    [ -n "$found" ] || found=$(dd if="/sys/block/$1/device/vpd_pg80" bs=4 skip=1 2>/dev/null | tr -d '\0')
    [ -n "$found" ] || found=$(usb_serial_of "$1")
    found=$(printf %s "$found" | tr -cd 'A-Za-z0-9._-')
    echo "${found:--}"
}

# A USB disk's is a property of the USB device, the nearest folder above that has a vendor.
usb_serial_of() {
    path=$(readlink -f "/sys/block/$1/device")
    while [ "${#path}" -gt 4 ]; do
        if [ -e "$path/idVendor" ]; then
            cat "$path/serial" 2>/dev/null
            return
        fi
        path=${path%/*}
    done
}

# blank | prior-zeta-install | foreign-data | indeterminate. Reads only.
classify() {
    blkid -p "/dev/$1" >/dev/null 2>&1
    case $? in
    0) if is_prior_install "$1"; then :; else echo foreign-data; fi ;;
    2) if is_blank "$1"; then echo blank; else echo indeterminate; fi ;;
    *) echo indeterminate ;;
    esac
}

# Nothing but zeros in the first and the last MiB and in 64 KiB samples between. A read error is not zeros.
is_blank() {
    all_zero "$1" 1048576 0 1 || return 1
    all_zero "$1" 512 $(($(size_of "$1") / 512 - 2048)) 2048 || return 1
    pieces=$(($(size_of "$1") / 65536))
    sample=1
    while [ $sample -lt 16 ]; do
        all_zero "$1" 65536 $((pieces * sample / 16)) 1 || return 1
        sample=$((sample + 1))
    done
}

# all_zero DISK BLOCK_SIZE START COUNT, the last two in blocks.
all_zero() {
    dd if="/dev/$1" bs="$2" skip="$3" count="$4" 2>/dev/null | cmp -s -n $(($2 * $4)) - /dev/zero
}

# A disk whose partitions all have our names. Prints its state; fails when it is not ours.
is_prior_install() {
    ours=
    for path in "/sys/block/$1/$1"*; do
        [ -e "$path/uevent" ] || continue
        case $(sed -n 's/^PARTNAME=//p' "$path/uevent") in
        zeta-root) if root_is_readable "${path##*/}"; then ours=yes; else ours=damaged; break; fi ;;
        zeta-*) ours=yes ;;
        *) return 1 ;;
        esac
    done
    case $ours in
    yes) echo prior-zeta-install ;;
    # It may hold an identity that we cannot read: not ours to throw away.
    damaged) echo indeterminate ;;
    *) return 1 ;;
    esac
}

# An earlier install may have been cut off before there was a file system; that is still ours.
root_is_readable() {
    blkid -p "/dev/$1" >/dev/null 2>&1
    case $? in
    2) return 0 ;;
    0) mount_read_only "/dev/$1" && umount "$TARGET" ;;
    *) return 1 ;;
    esac
}

# noload: replaying the journal would write.
mount_read_only() {
    mount -t ext4 -o ro,noload "$1" "$TARGET" 2>/dev/null
}

# Name of the Nth partition: names that end in a digit take a p.
partition() {
    case $1 in
    *[0-9]) echo "/dev/${1}p$2" ;;
    *) echo "/dev/$1$2" ;;
    esac
}
