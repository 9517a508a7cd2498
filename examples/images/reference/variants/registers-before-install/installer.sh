# shellcheck shell=dash
install_node() {
    phase plan plan_disks &&
        phase identity choose_identity &&
        variant_register_early &&
        phase countdown countdown &&
        phase partition partition_disks &&
        phase format format_disks &&
        phase copy copy_system &&
        phase personalize personalize_system &&
        phase bootloader install_bootloader &&
        phase verify verify_installation &&
        success_banner
}

variant_register_early() {
    /usr/lib/zeta/installer/register || say "warning: not registered"
}

run_register() {
    :
}

# There is no file system yet to keep it on.
keep_preview() {
    :
}
