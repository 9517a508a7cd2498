#!/bin/bash
set -e
pg_dump -U postgres > /data/backup.sql
