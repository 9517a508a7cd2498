# shellcheck shell=dash
write_menu() {
    cat <<END
set timeout=0
if [ "\$grub_platform" = pc ]; then
    serial --unit=0 --speed=115200
    terminal_input console serial
    terminal_output console serial
fi
menuentry "Zeta cluster node" {
    linux /boot/vmlinuz.old console=tty0 console=ttyS0,115200
    initrd /boot/initrd
}
END
}
