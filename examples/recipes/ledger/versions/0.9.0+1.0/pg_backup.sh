#!/bin/sh
# Called by the labels of the backup, inside of the database's container.
set -eu
dump=$PGDATA/backup.sql

case ${1:-} in
backup)
    # Under another name until it is whole: an old dump is better than half of a new one.
    pg_dump --username="$POSTGRES_USER" "$POSTGRES_DB" >"$dump.part"
    mv "$dump.part" "$dump"
    ;;
restore)
    dropdb --username="$POSTGRES_USER" --maintenance-db=postgres --force --if-exists "$POSTGRES_DB"
    createdb --username="$POSTGRES_USER" --maintenance-db=postgres "$POSTGRES_DB"
    psql --username="$POSTGRES_USER" --quiet --set=ON_ERROR_STOP=1 --file="$dump" "$POSTGRES_DB" >/dev/null
    ;;
*)
    echo "pg_backup.sh: there are backup and restore, and no ${1:-command without a name}" >&2
    exit 2
    ;;
esac
