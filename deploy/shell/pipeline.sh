#!/usr/bin/env bash
# Runs the pipeline in a terminal: all six stages in order, or the named ones. The first stage that does not pass ends
# the pipeline with its exit code.
#
#   deploy/shell/pipeline.sh                      all stages
#   deploy/shell/pipeline.sh model staging        these stages
#
# The environment variables of a stage are listed at the top of its file in stages/, and in docs/pipeline.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all=(quality tests model image staging production)
(($#)) || set -- "${all[@]}"

for stage in "$@"; do
    [[ " ${all[*]} " == *" $stage "* ]] || {
        printf 'error: there is no stage %s; there are: %s\n' "$stage" "${all[*]}" >&2
        exit 2
    }
done

for stage in "$@"; do
    printf '\n==== %s\n' "$stage" >&2
    status=0
    "$BASH" "$here/stages/$stage.sh" || status=$?
    if ((status)); then
        printf '==== %s stopped the pipeline (%d)\n' "$stage" "$status" >&2
        exit "$status"
    fi
done
printf '\n==== all passed\n' >&2
