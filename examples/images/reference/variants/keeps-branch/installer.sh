# shellcheck shell=dash
delete_branch() {
    say "deleted $branch"
}
