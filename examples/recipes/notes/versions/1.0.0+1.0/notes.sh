#!/bin/sh
# Brings the notes into the form of this release, and serves them.
#
# Form 1: all notes in one file, a line each.
set -eu
umask 022
cd /notes
if [ ! -e form ]; then
    echo "Begun with release 1.0" >notes.txt
    echo 1 >form
fi

mkdir -p /tmp/www
{
    echo '<!doctype html><meta charset="utf-8"><title>Notes</title><h1>Notes</h1>'
    sed 's|.*|<p>&</p>|' notes.txt
    echo "<footer>Form $(cat form)</footer>"
} >/tmp/www/index.html
exec static-web -p 80 -h /tmp/www
