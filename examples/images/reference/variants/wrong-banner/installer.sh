# shellcheck shell=dash
write_greeting() {
    hostname control-plane
    printf '\nWelcome to control-plane (Zeta cluster node)\n\n' >/etc/issue
}
