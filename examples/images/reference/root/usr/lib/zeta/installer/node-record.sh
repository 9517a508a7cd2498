# The ClusterNode record. What comes from hardware (processor and card names) is text from outside: it is quoted and
# stripped, so that no name can add a field of its own.
# shellcheck shell=dash

GROUP=zeta.lucent-financial-group.com

node_record() {
    commit=$(cut -c 1-12 <"$RUN/medium/zeta/revision")
    cat <<END
apiVersion: $GROUP/v1
kind: ClusterNode
metadata:
  name: $(record_name)
  namespace: zeta-cluster
  labels:
    $GROUP/maintainer: $maintainer
  annotations:
    $GROUP/registered-at: "$now"
    $GROUP/flake-commit: "$commit"
    $GROUP/flake-host: "reference"
    $GROUP/registered-via: "iter-5.4.1"
spec:
  hostname: $node
  roles:
    - $(quoted "$(setting role control-plane)")
  registration:
    maintainer: $maintainer
    timestamp: "$now"
    flake-commit: "$commit"
    flake-host: "reference"
    registered-via: "iter-5.4.1"
  hardware:
    cpu: $(quoted "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)")
    cores: $(nproc)
    memory: $(quoted "$(awk '/^MemTotal:/ { print int($2 / 1024) "Mi" }' /proc/meminfo)")
    gpu: $(quoted "$(display_device)")
    storage:
$(storage_list)
    network:
      ip: $(quoted "$(address_of "$(first_card)")")
      mac: $(quoted "$(cat "/sys/class/net/$(first_card)/address" 2>/dev/null)")
END
}

record_name() {
    echo "$node"
}

quoted() {
    printf '"%s"' "$(printf %s "$1" | tr -cd 'A-Za-z0-9 .,:;@()_/+-' | cut -c 1-120)"
}

# vendor:device of the first display controller: names would need a database.
display_device() {
    for path in /sys/bus/pci/devices/*; do
        case $(cat "$path/class") in
        0x03*) echo "pci $(cut -c 3- "$path/vendor"):$(cut -c 3- "$path/device")" && return ;;
        esac
    done
    echo none
}

storage_list() {
    awk '$6 == "BOOT" || $6 == "DATA" { print $1, $2, $3, $4 }' "$PLAN" | while read -r name serial class size; do
        echo "      - $(quoted "/dev/$name $class $size bytes serial $serial")"
    done
}

# The card that the default route leaves by, else the first one.
first_card() {
    card=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    for path in /sys/class/net/*; do
        [ -n "$card" ] || [ ! -e "$path/device" ] || card=${path##*/}
    done
    echo "$card"
}

address_of() {
    [ -n "$1" ] && ip -4 -o addr show dev "$1" | awk '{ sub("/.*", "", $4); print $4; exit }'
}
