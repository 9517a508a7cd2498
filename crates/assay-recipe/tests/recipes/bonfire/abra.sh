#!/bin/sh
export APP_ENTRYPOINT_VERSION=v4
export PG_BACKUP_VERSION=v1
export SONIC_CFG_VERSION=v2

migrate() {
  bin/app eval "Migrate.run()"
}
