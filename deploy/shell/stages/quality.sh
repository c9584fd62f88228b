#!/usr/bin/env bash
# Stage 1, quality and security: linters and static analysis, and the known vulnerabilities of the dependencies.
#
#   HOOKS/quality    formatters, linters and static analysis of the project's language; without it those for Python
#   SCANNER          scanner of dependencies: grype (default) or trivy
#   FAIL_ON          lowest severity that fails the stage: negligible, low, medium, high (default) or critical
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

hook quality "$out"

say "known vulnerabilities of the dependencies"
scan . dependencies
