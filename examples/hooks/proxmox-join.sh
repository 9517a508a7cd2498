#!/bin/sh
# Joins this node to a Proxmox cluster, if Assay's gate is open for it. Run it instead of `pvecm add`:
#
#   ASSAY_SERVER=http://assay:7300 ASSAY_TOKEN=... proxmox-join.sh ADDRESS-OF-A-MEMBER [pvecm options]
#
# ASSAY_HOST names the machine as it is registered with Assay; the node's own name without it. ASSAY_MAX_AGE is how old
# the verdict may be (7d).
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 ADDRESS-OF-A-MEMBER [pvecm options]" >&2
    exit 2
fi
host=${ASSAY_HOST:-$(hostname -s)}
gate=0
assay gate host "$host" --max-age "${ASSAY_MAX_AGE:-7d}" >&2 || gate=$?
if [ "$gate" -ne 0 ]; then
    echo "$host does not join: vet it first (assay host vet $host --watch)" >&2
    exit "$gate"
fi
exec pvecm add "$@"
