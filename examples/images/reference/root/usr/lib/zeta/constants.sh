# Numbers of the contract, in one place. README.md repeats them for the reader.
# They are small because the image exists to be installed on test disks, often in emulation.
# shellcheck shell=dash
MINIMUM_BOOT_BYTES=$((2 * 1024 * 1024 * 1024))
MINIMUM_DATA_BYTES=$((256 * 1024 * 1024))
ESP_MIB=288 # the least that is FAT32 on disks with 4096-byte sectors too
LONGHORN1_MIB=256
COUNTDOWN_BLANK_S=3
COUNTDOWN_OCCUPIED_S=8
NETWORK_WAIT_S=15
USB_WAIT_S=5
ATTEMPTS=3
ATTEMPT_LIMIT_S=30
STAGED_LIMIT_BYTES=65536

# Where things are while the installer runs, and on the disk it installs.
RUN=/run/zeta
STAGED=$RUN/staged
CONFIGURATION=$RUN/firstboot.conf
PLAN=$RUN/plan
TARGET=/mnt
PROGRESS_PORT=org.assay.progress.0
