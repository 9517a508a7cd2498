#!/bin/bash
# A config cannot be changed once it is deployed: whoever changes its file raises its version.
export LEDGER_JSON_VERSION=v1
# The script that dumps the database and loads it.
export PG_BACKUP_VERSION=v1

# Shows all entries: abra app cmd <domain> db entries
entries() {
    psql --username=ledger --command 'SELECT * FROM entries ORDER BY id' ledger
}
