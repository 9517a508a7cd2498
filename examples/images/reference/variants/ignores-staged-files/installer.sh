# shellcheck shell=dash
read_staged_files() {
    say "staged files read: 0"
}
