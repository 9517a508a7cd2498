# The first process in a guest's namespaces (network, mounts, processes). When it ends, the kernel ends QEMU.
#
# $1 the lock that the owner holds for as long as it lives, however it dies; the rest is how to start QEMU.
set -eu
owner=$1
shift
flock --shared "$owner" true &
owner_gone=$!
(
    code=0
    "$@" </dev/null || code=$?
    echo "QEMU ended with status $code" >&2
    kill "$owner_gone"
) &
wait "$owner_gone" || true
