# shellcheck shell=dash
generate_name() {
    echo node-000001
}
