#!/bin/bash
# Boots the built image in QEMU without a network boot and prints each console line with the seconds since power-on.
# Ends when the stand-in agent speaks, or fails after LIMIT seconds.
#   live-image/time-boot.sh [FOLDER [EXTRA KERNEL ARGUMENTS…]]        (default: target/live-image)
# ACCEL, CPUS, MEM, LIMIT and QEMU_EXTRA change the machine; AGENT is another stand-in, a script that ends by
# printing "stand-in agent: running".
set -euo pipefail
folder=${1:-target/live-image}
shift || true
scratch=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true; rm -rf "$scratch"' EXIT

mkdir -p "$scratch/tree/overlay/usr/lib/assay"
if [ -n "${AGENT:-}" ]; then
    cp "$AGENT" "$scratch/tree/overlay/usr/lib/assay/assay-agent"
else
    cat >"$scratch/tree/overlay/usr/lib/assay/assay-agent" <<'END'
#!/bin/sh
read -r up rest </proc/uptime
echo "stand-in agent: running at $up"
sleep infinity
END
fi
chmod 755 "$scratch/tree/overlay/usr/lib/assay/assay-agent"
(cd "$scratch/tree" && find overlay | cpio --quiet -o -H newc) >"$scratch/agent.initrd"
cat "$folder/base.initrd" "$scratch/agent.initrd" >"$scratch/initrd"

mkfifo "$scratch/console"
start=$EPOCHREALTIME
qemu-system-x86_64 -accel "${ACCEL:-tcg,thread=multi}" -cpu max -smp "${CPUS:-2}" -m "${MEM:-2048}" -nodefaults -no-reboot \
    -display none -serial stdio -monitor none \
    -netdev user,id=n0 -device virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56 ${QEMU_EXTRA:-} \
    -kernel "$folder/vmlinuz" -initrd "$scratch/initrd" \
    -append "console=ttyS0,115200 BOOTIF=01-52-54-00-12-34-56 $*" </dev/null >"$scratch/console" &
qemu=$!
found=1
while IFS= read -r -t "${LIMIT:-120}" line; do
    awk -v a="$start" -v b="$EPOCHREALTIME" -v l="$line" 'BEGIN { printf "%7.2f  %s\n", b - a, l }'
    case $line in *"stand-in agent: running"*)
        found=0
        break
        ;;
    esac
done <"$scratch/console"
[ "$found" = 0 ] || echo "the stand-in agent did not speak" >&2
exit "$found"
