# shellcheck shell=dash
exclusion_reason() {
    if [ "$1" = "$(medium_disk)" ]; then
        echo installer-medium
    elif [ "$(cat "/sys/block/$1/ro")" = 1 ]; then
        echo read-only
    fi
}
