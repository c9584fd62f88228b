#!/usr/bin/env bash
# Stage 2, unit and integration tests of the project.
#
#   HOOKS/test    runs the tests; its argument is the folder for reports. Without it pytest runs them, with coverage
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

hook test "$out"
