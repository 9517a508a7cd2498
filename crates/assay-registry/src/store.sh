# Starts the registry behind the cache, and ends it with its owner.
#
# $1 a file that the owner has locked for as long as it lives, however it dies; $2 a file that is locked from here for as long
# as anything of this lives; the rest is how to start the registry.
set -eu
owner=$1
alive=$2
shift 2

# Inherited by the registry: whoever gets this lock knows that it is gone.
exec 9>"$alive"
flock 9
"$@" </dev/null &
registry=$!
(
    exec 9>&-
    flock --shared "$owner" true
    kill -KILL "$registry"
) &
watcher=$!
code=0
wait "$registry" || code=$?
kill "$watcher" || true
exit "$code"
