# What all of Zeta's scripts share: talking, phases, settings, retries. Sourced, never run.
# shellcheck shell=dash
. /usr/lib/zeta/constants.sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

# Each script sets TAG: its lines start with [TAG], so that a reader knows who speaks.
say() {
    echo "[$TAG] $*"
}

die() {
    say "failed: $*"
    exit 1
}

# One line on the out-of-band port: kernel messages cannot garble it as they garble the serial console.
# A port that nobody reads blocks the writer, hence the limit; after that the port is left alone.
progress() {
    [ -n "${PROGRESS_DEVICE-}" ] || return 0
    # shellcheck disable=SC2016 # the inner shell's arguments
    timeout 5 sh -c 'echo "$1" >"$2"' sh "$*" "$PROGRESS_DEVICE" 2>/dev/null || PROGRESS_DEVICE=
}

find_progress_port() {
    PROGRESS_DEVICE=
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name" 2>/dev/null)" = "$PROGRESS_PORT" ] || continue
        PROGRESS_DEVICE=/dev/${port##*/}
    done
}

# phase NAME COMMAND…: says when the phase begins and how it ended, also when the command calls die.
phase() {
    phase=$1
    shift
    progress "phase $phase begin"
    "$@"
    phase_ended $?
}

phase_ended() {
    [ -n "${phase-}" ] || return "$1"
    progress "phase $phase end $1"
    say "phase $phase rc=$1 at $(cut -d ' ' -f 1 /proc/uptime) s"
    phase=
    return "$1"
}

# setting KEY [DEFAULT]: the last value given. Settings are read, never executed.
setting() {
    value=$(sed -n "s/^$1=//p" "$CONFIGURATION" 2>/dev/null | tail -n 1)
    echo "${value:-${2-}}"
}

# retry WHAT COMMAND…: a bounded number of times, each for a bounded time, waiting longer each time.
retry() {
    what=$1
    shift
    attempt=1
    until "$@"; do
        if [ "$attempt" -ge "$ATTEMPTS" ]; then
            say "$what: gave up after $attempt attempts"
            return 1
        fi
        say "$what: attempt $attempt of $ATTEMPTS failed, again in $((attempt * 2)) s"
        sleep $((attempt * 2))
        attempt=$((attempt + 1))
    done
}

# A staged secret, without the line end an editor leaves. Only ever piped on, never printed.
secret() {
    tr -d '\r\n' <"$1"
}

# curl with the token in a header file and no certificate trusted but the staged one: on the command line,
# every process could read the token.
# web TOKEN_FILE CA_FILE METHOD URL CONTENT_TYPE BODY_FILE ANSWER_FILE: prints the HTTP status.
web() {
    header=$RUN/header
    : >"$header" && chmod 600 "$header" || return 1
    [ ! -s "$1" ] || { printf 'Authorization: Bearer '; secret "$1"; echo; } >"$header"
    curl --silent --show-error --max-time "$ATTEMPT_LIMIT_S" --cacert "$2" --header "@$header" \
        --request "$3" --header "Content-Type: $5" --data-binary "@$6" --output "$7" --write-out '%{http_code}' "$4"
    status=$?
    rm -f "$header"
    return $status
}
