# Addresses by DHCP on every network card. A machine without a network is fine: it is said and not waited for.
# shellcheck shell=dash

network_up() {
    ip link set lo up
    cards=$(list_cards)
    if [ -z "$cards" ]; then
        say "network: no card, going on offline"
        return 0
    fi
    for card in $cards; do
        ip link set "$card" up
        # One second between tries, and in the background for ever after: a cable may be plugged in later.
        udhcpc -i "$card" -s /usr/lib/zeta/dhcp-event -t 3 -T 1 -A 5 -S -b >/dev/null 2>&1 &
    done
    waited=0
    while [ ! -e /run/zeta/online ] && [ "$waited" -lt $((NETWORK_WAIT_S * 5)) ]; do
        sleep 0.2
        waited=$((waited + 1))
    done
    for card in $cards; do
        address=$(ip -4 -o addr show dev "$card" | awk '{ print $4; exit }')
        say "network: $card mac=$(cat "/sys/class/net/$card/address") ip=${address:-none}"
    done
    [ -e /run/zeta/online ] || say "network: no address within $NETWORK_WAIT_S s, going on offline"
}

list_cards() {
    for card in /sys/class/net/*; do
        [ -e "$card/device" ] && echo "${card##*/}"
    done
}
