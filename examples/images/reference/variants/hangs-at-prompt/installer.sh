# shellcheck shell=dash
countdown() {
    printf 'Continue? [y/N] '
    read -r answer </dev/tty1
    [ "$answer" = y ] || exit 1
}
