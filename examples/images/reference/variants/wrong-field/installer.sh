# shellcheck shell=dash
record_name() {
    echo "$node-renamed"
}
