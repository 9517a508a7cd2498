# shellcheck shell=dash
read_plan() {
    boot_disk=$(awk '$6 == "BOOT" { print $1 }' "$PLAN")
    data_disks=$(awk '$6 == "DATA" { print $1 }' "$PLAN" | awk 'NR % 2 == 0')
}
