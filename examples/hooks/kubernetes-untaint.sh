#!/bin/sh
# Takes the taint `assay.dev/unvetted` off every node for which Assay's gate is open. Nodes are to be registered with it:
#
#   kubelet --register-with-taints=assay.dev/unvetted=:NoSchedule
#   kubectl taint node NODE assay.dev/unvetted=:NoSchedule        when one goes into repair
#
# A node may be registered with Assay under another name: label it `assay.dev/host=NAME`. Needs kubectl, assay, and
# ASSAY_SERVER and ASSAY_TOKEN in the environment. Exits with 1 when a node had to stay out.
set -eu

taint=assay.dev/unvetted
kept=0
nodes=$(kubectl get nodes --no-headers -o \
    custom-columns='NAME:.metadata.name,HOST:.metadata.labels.assay\.dev/host,TAINTS:.spec.taints[*].key')
while read -r node host taints; do
    case ",$taints," in
        *",$taint,"*) ;;
        *) continue ;;
    esac
    [ "$host" = "<none>" ] && host=$node
    if assay gate host "$host" --max-age "${ASSAY_MAX_AGE:-7d}"; then
        kubectl taint node "$node" "$taint-"
    else
        kept=1
    fi
done <<NODES
$nodes
NODES
exit "$kept"
