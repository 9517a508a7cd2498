# The node's name: what the operator staged, else what an earlier install on these disks was called (a repaired
# machine keeps its place in the cluster), else a new random one. Written to $RUN/hostname.
# shellcheck shell=dash

choose_identity() {
    wanted=$(staged_name)
    earlier=$(earlier_name)
    if [ -n "$wanted" ]; then
        node=$wanted
        echo "[iter-5.2.2]   staged: $node"
    elif [ -n "$earlier" ]; then
        node=$earlier
        echo "[iter-5.2.2]   kept: $node"
    else
        node=$(generate_name)
        echo "[iter-5.2.2]   generated: $node"
    fi
    valid_name "$node" || die "host name '$node' is not a valid one"
    echo "$node" >"$RUN/hostname"
}

# A name that was staged and cannot be used is an error, not a reason to invent another one.
staged_name() {
    [ -s "$STAGED/zeta-hostname.txt" ] || return 0
    tr -d ' \t\r\n' <"$STAGED/zeta-hostname.txt" | cut -c 1-80
}

generate_name() {
    echo "node-$(head -c 3 /dev/urandom | xxd -p)"
}

# Only from disks that this install may take: the name on any other disk is somebody else's.
earlier_name() {
    awk '$5 == "prior-zeta-install" && ($6 == "BOOT" || $6 == "DATA") { print $1 }' "$PLAN" | while read -r name; do
        for path in "/sys/block/$name/$name"*; do
            grep -q '^PARTNAME=zeta-root$' "$path/uevent" 2>/dev/null || continue
            mount_read_only "/dev/${path##*/}" || continue
            head -n 1 "$TARGET/etc/zeta/cluster-node-id" 2>/dev/null
            umount "$TARGET"
        done
    done | head -n 1
}

# RFC 1123: letters, digits and hyphens, 63 at most, no hyphen at either end.
valid_name() {
    printf '%s\n' "$1" | grep -Eqi '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
}
