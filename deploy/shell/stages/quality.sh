#!/usr/bin/env bash
# Stage 1, quality and security: the project's own linters, and the known holes of everything that it depends on.
#
#   HOOKS/quality    formatters, linters and static analysis: whatever the project's language has
#   FAIL_ON          the least severity that stops: negligible, low, medium, high (default) or critical
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

hook quality

need_grype
say "known vulnerabilities of what the repository depends on"
"$grype" dir:. --fail-on "${FAIL_ON:-high}" --output table --output "json=$out/dependencies.json"
