# shellcheck shell=dash
install_node() {
    phase plan plan_disks &&
        phase identity choose_identity &&
        phase countdown countdown &&
        success_banner &&
        phase partition partition_disks &&
        phase format format_disks &&
        phase copy copy_system &&
        phase personalize personalize_system &&
        phase bootloader install_bootloader &&
        phase verify verify_installation
}
