# Functions that the hooks for Python share. Each hook sources this file; it is not run by itself.
# shellcheck shell=bash disable=SC2034 # The hooks read the variables.

out=${OUT:-out}
requirements=${REQUIREMENTS:-requirements.txt}
read -ra sources <<<"${SOURCES:-src}"

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# pip ARGUMENT...: runs pip in an environment of the stage's own, quietly.
pip() { python3 -m pip --quiet --disable-pip-version-check "$@"; }

# The tools are installed into an environment below the reports, under a hidden name, and found in PATH first.
environment=$PWD/$out/.tools/python
mkdir -p "$out/.tools"
[[ -x $environment/bin/python3 ]] || python3 -m venv "$environment"
PATH=$environment/bin:$PATH
tools=${TOOLS:-}
if [[ -z $tools ]]; then
    tools=$(dirname "${BASH_SOURCE[0]}")/requirements.txt
    [[ ! -f requirements-dev.txt ]] || tools="requirements-dev.txt"
fi
pip install --requirement "$tools"
