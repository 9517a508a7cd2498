# shellcheck shell=dash
classify() {
    echo blank
}
