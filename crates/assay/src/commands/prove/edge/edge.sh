#!/bin/bash
# Puts stand-ins in place for what no simulated device can do wrong. Which ones, the machine's firmware says
# (SMBIOS OEM strings): on every other machine this does nothing.
set -u
lab=/usr/lib/assay-lab
asked=$(dmidecode -q -t 11 2>/dev/null | sed -n 's/.*String [0-9]*: assay-edge=//p')
for word in $asked; do
    case $word in
    smart-*)
        rules=$lab/$word.awk
        [ -e "$rules" ] || { echo "assay lab: no stand-in $word" >/dev/console; exit 1; }
        [ -e $lab/smartctl.real ] || mv /usr/sbin/smartctl $lab/smartctl.real
        cat >/usr/sbin/smartctl <<END
#!/bin/bash
out=\$($lab/smartctl.real "\$@")
status=\$?
printf '%s\n' "\$out" | awk -f $rules
exit \$status
END
        chmod 755 /usr/sbin/smartctl
        ;;
    edac-uncorrected)
        # A memory controller whose second module loses data twice a second, from the time when disks are asked about
        # their health: a stage that is long enough to be blamed for it.
        mount -t tmpfs edac /sys/devices/system/edac || exit 1
        mc=/sys/devices/system/edac/mc/mc0
        mkdir -p $mc/dimm1
        echo "Assay lab memory controller" >$mc/mc_name
        echo DIMM_B1 >$mc/dimm1/dimm_label
        echo 512 >$mc/dimm1/size
        for file in ce_count ue_count ce_noinfo_count ue_noinfo_count dimm1/dimm_ce_count dimm1/dimm_ue_count; do
            echo 0 >$mc/$file
        done
        (
            until grep -qs '^smartctl$' /proc/[0-9]*/comm; do sleep .05; done
            n=0
            while sleep .5; do
                n=$((n + 1))
                echo $n >$mc/dimm1/dimm_ue_count
                echo $n >$mc/ue_count
            done
        ) </dev/null >/dev/null 2>&1 &
        ;;
    agent-killed)
        # Once, and this is run before every start of the agent.
        if mkdir /run/assay-lab-agent-killed 2>/dev/null; then
            (
                until grep -qs '^stress-ng' /proc/[0-9]*/comm; do sleep .2; done
                sleep 1
                systemctl kill --kill-who=main --signal=KILL assay-agent.service
            ) </dev/null >/dev/null 2>&1 &
        fi
        ;;
    gpu-*)
        # A board on the bus, bound to its driver, and the driver's libraries where the linker looks.
        [ -e "$lab/$word.capture" ] || { echo "assay lab: no stand-in $word" >/dev/console; exit 1; }
        cp "$lab/$word.capture" $lab/gpu/capture
        echo $lab/gpu >/etc/ld.so.conf.d/assay-lab.conf
        ldconfig || exit 1
        bus=/run/assay-lab-pci
        gpu=$bus/0000:c1:00.0
        mkdir -p "$gpu"
        for real in /sys/bus/pci/devices/*; do
            ln -sfn "$(readlink -f "$real")" "$bus/${real##*/}"
        done
        for fact in vendor=0x10de device=0x20f1 class=0x030200 subsystem_vendor=0x10de subsystem_device=0x145f irq=0; do
            echo "${fact#*=}" >"$gpu/${fact%%=*}"
        done
        for _ in {0..12}; do echo "0x0000000000000000 0x0000000000000000 0x0000000000000000"; done >"$gpu/resource"
        printf '\xde\x10\xf1\x20\0\0\0\0\0\0\x02\x03' >"$gpu/config"
        truncate -s 64 "$gpu/config"
        ln -sfn /sys/bus/pci/drivers/nvidia "$gpu/driver"
        mountpoint -q /sys/bus/pci/devices || mount --bind $bus /sys/bus/pci/devices || exit 1
        ;;
    *)
        echo "assay lab: no stand-in $word" >/dev/console
        exit 1
        ;;
    esac
    echo "assay lab: stand-in $word" >/dev/console
done
exit 0
