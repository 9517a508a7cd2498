# Runs a program in a root of its own, in a mount namespace that ends with it: it sees the system's programs, the store, and the
# folders that it is to read or write, under /data. A link in them that leads anywhere else leads nowhere.
#
# ROOT STORE PROGRAM MODE (NAME PATH)... -- ARGUMENTS...
set -eu
root=$1 store=$2 program=$3 mode=$4
shift 4
mount -t tmpfs -o mode=700,size=1m none "$root"
mkdir "$root/usr" "$root/store" "$root/data" "$root/dev"
mount --bind -o ro /usr "$root/usr"
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then
        cp -P "/$name" "$root/$name"
    elif [ -d "/$name" ]; then
        mkdir "$root/$name"
        mount --bind -o ro "/$name" "$root/$name"
    fi
done
for device in null urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
: >"$root/program"
mount --bind -o ro "$program" "$root/program"
mount --bind "$store" "$root/store"
while [ "$1" != -- ]; do
    mkdir "$root/data/$1"
    mount --bind -o "$mode" "$2" "$root/data/$1"
    shift 2
done
shift
exec chroot "$root" /program "$@"
