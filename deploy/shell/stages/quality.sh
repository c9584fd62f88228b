#!/usr/bin/env bash
# Stage 1, quality and security: the project's own linters, and the known vulnerabilities of its dependencies.
#
#   HOOKS/quality    formatters, linters and static analysis of the project's language
#   FAIL_ON          lowest severity that fails the stage: negligible, low, medium, high (default) or critical
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

hook quality

need_grype
say "known vulnerabilities of the dependencies"
"$grype" dir:. --fail-on "${FAIL_ON:-high}" --output table --output "json=$out/dependencies.json"
