# Packages: which ones, from where, unpacked where. Sourced by build.
# shellcheck shell=bash

# Resolves the names in ../packages and their libraries, downloads them once, and writes down what it took:
# $lock holds "SHA-256  FILE" per package. With a lock in the cache apt is not asked at all.
fetch_packages() {
    local names key
    names=$(sed 's/#.*//' "$here/packages" | awk 'NF { print $1 }')
    key=$(echo "$names" | sha256sum | cut -c 1-16)
    lock=$cache/$key.lock
    mkdir -p "$cache/debs"
    if [ -e "$lock" ]; then
        (cd "$cache/debs" && sha256sum --check --quiet "$lock") || fail "the cache $cache is damaged; delete it"
        return
    fi
    # shellcheck disable=SC2086 # one name per word
    names=$(all_packages $names)
    # shellcheck disable=SC2086
    (cd "$cache/debs" && rm -f ./*.deb && apt-get download --quiet $names 2>"$work/apt.log" >&2) ||
        fail "packages cannot be downloaded; is the package list fresh (apt-get update)? $(tail -n 3 "$work/apt.log")"
    (cd "$cache/debs" && sha256sum -- *.deb) >"$lock.new"
    mv "$lock.new" "$lock"
}

# The named packages, the kernel that the kernel package stands for, and every library below them. Packages for
# Perl and the like, which only their scripts need, are left out by their names.
all_packages() {
    local name
    for name in "$@"; do
        [ "$name" = linux-image-amd64 ] || echo "$name"
    done
    apt-cache depends linux-image-amd64 | sed -n 's/^  Depends: //p' | head -n 1
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "${@:4}" | grep '^lib' | grep -v perl | sort -u
}

# One folder with everything in it, kept in the cache: unpacking the kernel takes longer than the rest of the build.
unpack_packages() {
    unpacked=$cache/unpacked-$(sha256sum <"$lock" | cut -c 1-16)
    if [ ! -d "$unpacked" ]; then
        local file fresh=$unpacked.$$
        mkdir "$fresh"
        while read -r _ file; do
            dpkg-deb -x "$cache/debs/$file" "$fresh" || fail "$file cannot be unpacked; delete the cache $cache"
        done <"$lock"
        mv "$fresh" "$unpacked" 2>/dev/null || rm -rf "$fresh" # another build was quicker
    fi
    kernel_version=$(cd "$unpacked/lib/modules" && echo *)
    busybox=$unpacked/bin/busybox
}
