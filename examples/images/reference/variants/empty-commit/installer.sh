# shellcheck shell=dash
write_commit() {
    git -C "$work" checkout --quiet -b "$branch" &&
        git -C "$work" commit --quiet --allow-empty --message "feat(node-register): $node self-registers via iter-5.4.1"
}
