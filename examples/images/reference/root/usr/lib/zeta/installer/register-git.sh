# Registration by Git: shallow clone, a branch of its own, one commit with one file, push, pull request. When the
# pull request fails the branch is deleted again: a branch that nobody asks to merge is an orphan.
# shellcheck shell=dash

register_by_git() {
    repository=$(setting repository)
    check_url "$repository" || die "repository is not a usable URL"
    base=$(setting base main)
    branch=register-$node-$(date -u +%Y%m%dT%H%M%SZ)
    work=$RUN/work
    prepare_git
    retry "clone" clone || die "$repository cannot be cloned"
    write_commit || die "the commit cannot be made"
    retry "push" push || die "branch $branch cannot be pushed"
    say "pushed $branch $(git -C "$work" rev-parse HEAD)"
    if ! retry "pull request" open_pull_request; then
        delete_branch
        die "no pull request for $branch"
    fi
    say "pull request $pull_request"
}

# The token reaches git through a helper that reads the file: command lines and environments can be seen.
prepare_git() {
    export HOME=$RUN/home GIT_TERMINAL_PROMPT=0 GIT_TEMPLATE_DIR='' GIT_SSL_CAINFO="$ca"
    export GIT_AUTHOR_NAME="$maintainer" GIT_AUTHOR_EMAIL="$maintainer@users.noreply.invalid"
    export GIT_COMMITTER_NAME="$maintainer" GIT_COMMITTER_EMAIL="$maintainer@users.noreply.invalid"
    mkdir -p "$HOME"
    git config --global credential.helper /usr/lib/zeta/installer/git-credential
    git config --global credential.username "$maintainer"
    git config --global gc.auto 0
}

clone() {
    rm -rf "$work"
    limited git clone --quiet --depth 1 --branch "$base" "$repository" "$work"
}

write_commit() {
    git -C "$work" checkout --quiet -b "$branch" || return 1
    mkdir -p "$work/$(dirname "$(tree_path)")"
    cp "$RUN/node.yaml" "$work/$(tree_path)" || return 1
    git -C "$work" add "$(tree_path)" &&
        git -C "$work" commit --quiet --message "feat(node-register): $node self-registers via iter-5.4.1"
}

push() {
    limited git -C "$work" push --quiet --set-upstream origin "$branch"
}

delete_branch() {
    if limited git -C "$work" push --quiet origin --delete "$branch"; then
        say "deleted $branch"
    else
        say "warning: branch $branch stays on the server without a pull request"
    fi
}

# Every outcome of git within a bounded time, and its complaints with our name in front of them.
limited() {
    timeout "$ATTEMPT_LIMIT_S" "$@" >"$RUN/git.log" 2>&1
    status=$?
    [ "$status" = 0 ] || sed "s/^/[$TAG] git: /" "$RUN/git.log" | tail -n 3
    return $status
}

# Sets pull_request to its address. "Exists already" (409, 422) and "not allowed" will not get better by asking again,
# but asking three times does no harm and keeps one rule for all.
open_pull_request() {
    pull_request=
    printf '{"title":"feat(node-register): %s","head":"%s","base":"%s","body":"%s registers itself."}\n' \
        "$node" "$branch" "$base" "$node" >"$RUN/request"
    status=$(web "$token" "$ca" POST "$(pulls_url)" application/json "$RUN/request" "$RUN/answer")
    case $status in
    2??) pull_request=$(grep -o '"html_url": *"[^"]*/pulls\?/[0-9]*"' "$RUN/answer" | sed 's/.*"\(http[^"]*\)"$/\1/' | head -n 1) ;;
    *) say "HTTP status ${status:-none}" ;;
    esac
    case $pull_request in
    http://?* | https://?*) return 0 ;;
    *) return 1 ;;
    esac
}

# scheme://host/[…/]OWNER/REPO(.git) → where that forge takes pull requests.
pulls_url() {
    path=${repository%.git}
    repo=${path##*/}
    path=${path%/*}
    owner=${path##*/}
    default=${path%/*}
    case $(setting forge forgejo) in
    github) echo "$(setting forge_url "$default")/repos/$owner/$repo/pulls" ;;
    *) echo "$(setting forge_url "$default")/api/v1/repos/$owner/$repo/pulls" ;;
    esac
}
