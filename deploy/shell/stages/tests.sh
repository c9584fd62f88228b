#!/usr/bin/env bash
# Stage 2, unit and integration tests: the project's own.
#
#   HOOKS/test    is given the folder for its reports (JUnit's XML, coverage)
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

hook test "$out"
