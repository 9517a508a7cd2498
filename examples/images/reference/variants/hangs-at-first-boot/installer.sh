# shellcheck shell=dash
service() {
    echo
    echo "zeta-installer login: root (automatic login)"
}
