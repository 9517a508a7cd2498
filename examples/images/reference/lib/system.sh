# The initramfs and the system on the medium. Sourced by build.
# shellcheck shell=bash

# busybox, the listed kernel modules, and boot/init.
make_initramfs() {
    local tree=$work/initramfs module
    mkdir -p "$tree/bin" "$tree/lib/modules/$kernel_version"
    install -m 755 "$busybox" "$tree/bin/busybox"
    install -m 755 "$here/boot/init" "$tree/init"
    sed 's/#.*//' "$here/modules" >"$tree/modules"
    index_modules
    for module in $(sed 's/^always //' "$tree/modules"); do
        copy_module "$module" "$tree"
    done
    cp "$unpacked/lib/modules/$kernel_version/modules.builtin" "$unpacked/lib/modules/$kernel_version/modules.order" \
        "$tree/lib/modules/$kernel_version/"
    "$busybox" depmod -b "$tree" "$kernel_version" || fail "the kernel modules cannot be indexed"
    same_times "$tree"
    (cd "$tree" && find . | sort | cpio --quiet --reproducible -o -H newc -R 0:0) | zstd -q -19 -T1 >"$work/initrd"
}

# Where each module is, by its name with underscores, as the kernel calls it.
index_modules() {
    declare -gA module_file=() module_copied=()
    local file name
    while read -r file; do
        name=$(basename "$file" .ko)
        module_file[${name//-/_}]=$file
    done < <(cd "$unpacked" && find "lib/modules/$kernel_version" -name '*.ko')
}

# copy_module NAME TREE: the module and what it says it depends on. One that is built in needs no file.
copy_module() {
    local name=${1//-/_} file dependency
    [ -z "${module_copied[$name]-}" ] || return 0
    module_copied[$name]=yes
    file=${module_file[$name]-}
    if [ -z "$file" ]; then
        grep -q "/${name//_/[_-]}\.ko" "$unpacked/lib/modules/$kernel_version/modules.builtin" ||
            fail "kernel $kernel_version has no module $1"
        return 0
    fi
    install -D -m 644 "$unpacked/$file" "$2/$file"
    for dependency in $(grep -aoz '^depends=.*' "$unpacked/$file" | tr '\0,' '  ' | sed 's/depends=//'); do
        copy_module "$dependency" "$2"
    done
}

# The root of the live system, which is also what gets installed.
make_system() {
    local tree=$work/root file applet
    mkdir -p "$tree"/{usr/bin,usr/sbin,usr/lib,usr/lib64,etc,dev,proc,sys,run,tmp,mnt,root,boot,var/lib}
    ln -s usr/bin "$tree/bin" && ln -s usr/sbin "$tree/sbin" && ln -s usr/lib "$tree/lib" && ln -s usr/lib64 "$tree/lib64"
    cp -R "$here/root/." "$tree/"
    if [ -e "$here/variants/$variant/installer.sh" ]; then
        cp "$here/variants/$variant/installer.sh" "$tree/usr/lib/zeta/variant.sh"
    fi
    mkdir "$tree/usr/lib/zeta/bootloader"
    cp "$work/disk/boot.img" "$work/disk/core.img" "$work/disk/BOOTX64.EFI" "$tree/usr/lib/zeta/bootloader/"
    for file in $(sed 's/#.*//' "$here/packages" | awk 'NF { $1 = ""; print }'); do
        copy_file "$file" "$tree"
    done
    for applet in $("$busybox" --list-full); do
        applet=$(in_usr "$applet")
        [ -e "$tree/$applet" ] || ln -s /usr/bin/busybox "$tree/$applet"
    done
    ln -s git-remote-http "$tree/usr/lib/git-core/git-remote-https"
    chmod -R u=rwX,go=rX "$tree"
    write_manifest "$tree"
    same_times "$tree"
    # Quick rather than small: the machine that unpacks it may be an emulated one.
    mksquashfs "$tree" "$work/system.squashfs" -noappend -all-root -no-xattrs -comp zstd -Xcompression-level 15 \
        -quiet -no-progress >"$work/squashfs.log" 2>&1 || fail "squashfs: $(tail -n 1 "$work/squashfs.log")"
}

# copy_file PATH TREE: a file of a package, and the libraries it loads if it is a program. The packages' own loader
# is asked, so that this machine's libraries have no say.
copy_file() {
    local place library libraries=$unpacked/lib/x86_64-linux-gnu
    place=$(in_usr "${1#/}")
    [ -e "$unpacked$1" ] || fail "no package has $1"
    install -D -m "$(stat -L -c %a "$unpacked$1")" "$unpacked$1" "$2/$place"
    [ -x "$unpacked$1" ] && "$libraries/ld-linux-x86-64.so.2" --verify "$unpacked$1" || return 0
    while read -r library; do
        install -D -m 755 "$library" "$2/usr/lib/x86_64-linux-gnu/$(basename "$library")"
    done < <("$libraries/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$libraries:$unpacked/usr/lib/x86_64-linux-gnu" \
        --list "$unpacked$1" | awk '$2 == "=>" { print $3 }')
    install -m 755 "$libraries/ld-linux-x86-64.so.2" "$2/usr/lib64/ld-linux-x86-64.so.2"
}

in_usr() {
    case $1 in
    bin/* | sbin/* | lib/*) echo "usr/$1" ;;
    linuxrc) echo usr/bin/linuxrc ;;
    *) echo "$1" ;;
    esac
}

# What the installer checks on the disk. The file that it replaces is not in it.
write_manifest() {
    (cd "$1" && find . -type f ! -name inittab ! -name inittab.installed | sort | xargs sha256sum) >"$work/manifest.sha256"
    (cd "$work" && mkdir -p boot && cp initrd boot/initrd && cp "$unpacked/boot/vmlinuz-$kernel_version" boot/vmlinuz &&
        sha256sum ./boot/vmlinuz ./boot/initrd) >>"$work/manifest.sha256"
}

same_times() {
    find "$1" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}
