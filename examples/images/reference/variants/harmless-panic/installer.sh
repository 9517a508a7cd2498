# shellcheck shell=dash
countdown() {
    echo "Setting up libpanic-dev (1.2)"
    echo "building 'unit-panic-on-fail.service'"
}
