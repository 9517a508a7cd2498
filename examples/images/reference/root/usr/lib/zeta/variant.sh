# Empty in the reference image. In a variant (see variants/) this file defines some functions a second time,
# broken on purpose; every script sources it after its own functions.
# shellcheck shell=dash
