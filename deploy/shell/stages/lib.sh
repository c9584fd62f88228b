# What the stages share. Sourced by each of them, never run.
# shellcheck shell=bash
#
# A stage is a script of its own that is told everything by the environment, so that GitHub, GitLab and a terminal run the
# same lines. It exits as the program that stopped it did: 0 passed, 1 error, 2 usage, 3 failed or rolled back, 4 nothing
# can be said, or nobody said it in time.
set -euo pipefail

# Reports, and what one stage tells the next.
out=${OUT:-out}
mkdir -p "$out"
tools=$out/.tools
bellwether=${BELLWETHER:-bellwether}

# A pinned version and its checksums; another one needs both: GRYPE_VERSION and GRYPE_SHA256.
grype_version=0.104.0
grype_sha256_x86_64=862816d0addab60968f9401fe5dbaeaf244bf86a3f759003103c11efe151b31d
grype_sha256_aarch64=531c9fcc6dab7efd5eccee629bc4c524badf3d66c5382fc0e771059b76dc617e

# What a pipeline leaves empty it has not said. A program would take it for a value.
for name in AWS_ROLE_ARN "${!BELLWETHER_@}"; do
    [[ -n ${!name:-} ]] || unset "$name"
done
unset name

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# want NAME...: each of these variables has a value.
want() {
    local name
    for name in "$@"; do
        [[ -n ${!name:-} ]] || die "$name is not set; docs/pipeline.md says what it is"
    done
}

# hook NAME ARGUMENT...: the project's own part of a stage, a program in its repository.
hook() {
    local program=${HOOKS:-ci}/$1
    shift
    [[ -x $program ]] || die "$program is not there, or is no program; docs/pipeline.md says what it has to do"
    say "$program $*"
    "$program" "$@"
}

# has_hook NAME: whether the project has one.
has_hook() { [[ -x ${HOOKS:-ci}/$1 ]]; }

# download URL SHA256 FILE: fetches a file, and keeps it only if it is the one that was meant.
download() {
    local url=$1 sha256=$2 file=$3
    [[ $sha256 =~ ^[0-9a-f]{64}$ ]] || die "$sha256 is not a SHA-256"
    curl --fail --silent --show-error --location --proto '=https' --retry 3 --output "$file.part" "$url"
    printf '%s  %s\n' "$sha256" "$file.part" | sha256sum --check --status || die "$url is not what it was: its SHA-256 differs"
    mv "$file.part" "$file"
}

# The program itself: the one that is in PATH, or the release that the pipeline names with its checksum.
need_bellwether() {
    command -v "$bellwether" >/dev/null && return
    want BELLWETHER_URL BELLWETHER_SHA256
    mkdir -p "$tools"
    bellwether=$tools/bellwether
    [[ -x $bellwether ]] && return
    download "$BELLWETHER_URL" "$BELLWETHER_SHA256" "$bellwether"
    chmod +x "$bellwether"
}

# The scanner: the one that is in PATH, or the pinned release.
need_grype() {
    grype=grype
    command -v grype >/dev/null && return
    grype=$tools/grype
    [[ -x $grype ]] && return
    local version=${GRYPE_VERSION:-$grype_version} sha256 machine
    machine=$(uname -m)
    case $machine in
    x86_64) sha256=$grype_sha256_x86_64 machine=amd64 ;;
    aarch64) sha256=$grype_sha256_aarch64 machine=arm64 ;;
    *) die "there is no checksum for a scanner on $machine; put grype into PATH" ;;
    esac
    [[ $version == "$grype_version" ]] || want GRYPE_SHA256
    mkdir -p "$tools"
    download "https://github.com/anchore/grype/releases/download/v$version/grype_${version}_linux_$machine.tar.gz" \
        "${GRYPE_SHA256:-$sha256}" "$tools/grype.tar.gz"
    tar -xzf "$tools/grype.tar.gz" -C "$tools" grype
    rm "$tools/grype.tar.gz"
}

# summary FILE: shown where people look: on the run's page, or in the log.
summary() {
    [[ -s $1 ]] || return 0
    if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then cat "$1" >>"$GITHUB_STEP_SUMMARY"; else cat "$1" >&2; fi
}

# tell NAME VALUE: for the stages that come later: a file, and GitHub's outputs.
tell() {
    [[ $2 != *$'\n'* ]] || die "$1 has more than one line"
    printf '%s=%s\n' "$1" "$2" >>"$out/told.env"
    [[ -z ${GITHUB_OUTPUT:-} ]] || printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
}

# told NAME: what an earlier stage told, unless the environment has it.
told() {
    [[ -z ${!1:-} && -f $out/told.env ]] || return 0
    local value
    value=$(sed -n "s/^$1=//p" "$out/told.env" | tail -n 1)
    [[ -z $value ]] || printf -v "$1" '%s' "$value"
}

# identity: who this run is, as a short-lived token of the CI system's own, in a file that no log shows. Whoever trusts the
# issuer (a cloud's roles, a Kubernetes API server with structured authentication) needs no stored password for it.
identity() {
    local file=$out/.identity
    if [[ -n ${IDENTITY_AUDIENCE:-} && -z ${IDENTITY_TOKEN:-} ]]; then
        want ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN
        # By standard input, since everybody on the machine can read a command line.
        (umask 077 && printf 'header = "Authorization: bearer %s"\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" |
            curl --fail --silent --show-error --retry 3 --config - --get \
                --data-urlencode "audience=$IDENTITY_AUDIENCE" "$ACTIONS_ID_TOKEN_REQUEST_URL" |
            sed -n 's/.*"value" *: *"\([^"]*\)".*/\1/p' >"$file")
    elif [[ -n ${IDENTITY_TOKEN:-} ]]; then
        # GitLab makes it itself, for the audience that the job names.
        (umask 077 && printf '%s\n' "$IDENTITY_TOKEN" >"$file")
    else
        return 0
    fi
    [[ -s $file ]] || die "the CI system gives no identity token; does the job have id-token: write?"
    file=$(cd "$out" && pwd)/.identity
    # AWS' own libraries, and those that follow them, exchange it themselves.
    [[ -z ${AWS_ROLE_ARN:-} ]] || export AWS_WEB_IDENTITY_TOKEN_FILE=$file
    [[ -z ${KUBE_SERVER:-} ]] || kubeconfig "$file"
}

# kubeconfig TOKEN_FILE: a cluster that trusts the token's issuer. KUBE_CA is its certificate, base64 as in any kubeconfig.
kubeconfig() {
    want KUBE_SERVER KUBE_CA
    KUBECONFIG=$(cd "$out" && pwd)/.kubeconfig
    export KUBECONFIG
    (umask 077 && cat >"$KUBECONFIG") <<KUBECONFIG
apiVersion: v1
kind: Config
current-context: ci
contexts: [{ name: ci, context: { cluster: ci, user: ci } }]
clusters: [{ name: ci, cluster: { server: "$KUBE_SERVER", certificate-authority-data: "$KUBE_CA" } }]
users: [{ name: ci, user: { tokenFile: "$1" } }]
KUBECONFIG
}

# secret_file NAME VARIABLE: a secret that came in the environment goes into a file that only we read, and out of the
# environment of everything that is started from here.
secret_file() {
    local file
    [[ -n ${!1:-} ]] || return 0
    file=$(cd "$out" && pwd)/.$1
    (umask 077 && printf '%s\n' "${!1}" >"$file")
    unset "$1"
    export "$2=$file"
}

# Nothing secret is left in a folder that is uploaded.
forget() { rm -f "$out"/.identity "$out"/.kubeconfig "$out"/.KAFKA_PASSWORD "$out"/.TARGET_TOKEN; }
trap forget EXIT
