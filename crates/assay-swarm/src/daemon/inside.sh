# The first process of a daemon's own namespaces (network, mounts, processes). When it ends, the kernel ends every
# process that was started in them: the daemon, containerd, its shims and all containers. There is nothing to forget.
#
# $1 folder; $2 address with its prefix length; the rest is how to start dockerd.
set -eu
folder=$1
address=$2
shift 2

# The daemon's sockets and locks outside of its folder have fixed paths below /run. It sees an empty one.
exec 9<"$folder"
mount -t tmpfs -o mode=755 tmpfs /run
case $folder in
/run/* | /var/run/*)
    mkdir -p "$folder"
    mount --bind /proc/self/fd/9 "$folder"
    ;;
esac
exec 9<&-

# A swarm wants an address that is not the loopback's. Both ends of the pair are in here: nothing leads out.
ip link set lo up
ip link add assay0 type veth peer name assay1
ip address add "$address" dev assay0
ip link set assay0 up
ip link set assay1 up

# The owner holds this lock for as long as it lives, however it dies. Whoever gets it knows that the owner is gone.
flock --shared "$folder/owner" true &
owner_gone=$!
(
    code=0
    "$@" </dev/null || code=$?
    echo "dockerd ended with status $code" >&2
    kill "$owner_gone"
) &
wait "$owner_gone" || true
