# Functions that the stages share. Each stage sources this file; it is not run by itself.
# shellcheck shell=bash
#
# A stage is a script that takes all its input from the environment, so that GitHub, GitLab and a terminal run the same
# code. Its exit code is that of the program that stopped it: 0 passed, 1 error, 2 usage, 3 failed or rolled back,
# 4 inconclusive, held or given up.
set -euo pipefail

# Folder of the reports, and of the values that a stage passes to later ones.
out=${OUT:-out}
mkdir -p "$out"
tools=$out/.tools
bellwether=${BELLWETHER:-bellwether}

# The pinned version of the scanner and its checksums. Another version needs both GRYPE_VERSION and GRYPE_SHA256.
grype_version=0.104.0
grype_sha256_x86_64=862816d0addab60968f9401fe5dbaeaf244bf86a3f759003103c11efe151b31d
grype_sha256_aarch64=531c9fcc6dab7efd5eccee629bc4c524badf3d66c5382fc0e771059b76dc617e

# Unset empty variables, which the program would otherwise read as values.
for name in AWS_ROLE_ARN "${!BELLWETHER_@}"; do
    [[ -n ${!name:-} ]] || unset "$name"
done
unset name

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# want NAME...: exits unless each of these variables has a value.
want() {
    local name
    for name in "$@"; do
        [[ -n ${!name:-} ]] || die "$name is not set; docs/pipeline.md describes it"
    done
}

# hook NAME ARGUMENT...: runs the project's own part of a stage, a program in its repository.
hook() {
    local program=${HOOKS:-ci}/$1
    shift
    [[ -x $program ]] || die "$program does not exist or is not executable; docs/pipeline.md describes it"
    say "$program $*"
    "$program" "$@"
}

# has_hook NAME: succeeds if the project has this hook.
has_hook() { [[ -x ${HOOKS:-ci}/$1 ]]; }

# download URL SHA256 FILE: downloads a file, and keeps it only if its checksum is correct.
download() {
    local url=$1 sha256=$2 file=$3
    [[ $sha256 =~ ^[0-9a-f]{64}$ ]] || die "$sha256 is not a SHA-256"
    curl --fail --silent --show-error --location --proto '=https' --retry 3 --output "$file.part" "$url"
    printf '%s  %s\n' "$sha256" "$file.part" | sha256sum --check --status || die "$url has another SHA-256 than $sha256"
    mv "$file.part" "$file"
}

# need_bellwether: uses the program in PATH, or downloads the release that the pipeline names with its checksum.
need_bellwether() {
    command -v "$bellwether" >/dev/null && return
    want BELLWETHER_URL BELLWETHER_SHA256
    mkdir -p "$tools"
    bellwether=$tools/bellwether
    [[ -x $bellwether ]] && return
    download "$BELLWETHER_URL" "$BELLWETHER_SHA256" "$bellwether"
    chmod +x "$bellwether"
}

# need_grype: uses the scanner in PATH, or downloads the pinned release.
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
    *) die "no scanner is pinned for $machine; put grype into PATH" ;;
    esac
    [[ $version == "$grype_version" ]] || want GRYPE_SHA256
    mkdir -p "$tools"
    download "https://github.com/anchore/grype/releases/download/v$version/grype_${version}_linux_$machine.tar.gz" \
        "${GRYPE_SHA256:-$sha256}" "$tools/grype.tar.gz"
    tar -xzf "$tools/grype.tar.gz" -C "$tools" grype
    rm "$tools/grype.tar.gz"
}

# summary FILE: shows a file on the page of the run (GitHub), or in the log.
summary() {
    [[ -s $1 ]] || return 0
    if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then cat "$1" >>"$GITHUB_STEP_SUMMARY"; else cat "$1" >&2; fi
}

# tell NAME VALUE: passes a value of one line to later stages, in a file and in GitHub's outputs.
tell() {
    [[ $2 != *$'\n'* ]] || die "$1 has more than one line"
    printf '%s=%s\n' "$1" "$2" >>"$out/told.env"
    [[ -z ${GITHUB_OUTPUT:-} ]] || printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
}

# told NAME: sets the variable to the value from an earlier stage, unless the environment has a value.
told() {
    [[ -z ${!1:-} && -f $out/told.env ]] || return 0
    local value
    value=$(sed -n "s/^$1=//p" "$out/told.env" | tail -n 1)
    [[ -z $value ]] || printf -v "$1" '%s' "$value"
}

# identity: writes a short-lived identity token of the CI system to a file that no log shows. Services that trust the
# issuer (a cloud's roles, a Kubernetes API server with structured authentication) need no stored password.
identity() {
    local file=$out/.identity
    if [[ -n ${IDENTITY_AUDIENCE:-} && -z ${IDENTITY_TOKEN:-} ]]; then
        want ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN
        # By standard input, because every user of the machine can read a command line.
        (umask 077 && printf 'header = "Authorization: bearer %s"\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" |
            curl --fail --silent --show-error --retry 3 --config - --get \
                --data-urlencode "audience=$IDENTITY_AUDIENCE" "$ACTIONS_ID_TOKEN_REQUEST_URL" |
            sed -n 's/.*"value" *: *"\([^"]*\)".*/\1/p' >"$file")
    elif [[ -n ${IDENTITY_TOKEN:-} ]]; then
        # GitLab creates the token itself, for the audience that the job names.
        (umask 077 && printf '%s\n' "$IDENTITY_TOKEN" >"$file")
    else
        return 0
    fi
    [[ -s $file ]] || die "the CI system gave no identity token; does the job have id-token: write?"
    file=$(cd "$out" && pwd)/.identity
    # AWS' libraries, and compatible ones, exchange the token themselves.
    [[ -z ${AWS_ROLE_ARN:-} ]] || export AWS_WEB_IDENTITY_TOKEN_FILE=$file
    [[ -z ${KUBE_SERVER:-} ]] || kubeconfig "$file"
}

# kubeconfig TOKEN_FILE: writes a kubeconfig for a cluster that trusts the token's issuer. KUBE_CA is the cluster's CA
# certificate in base64.
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

# secret_file NAME VARIABLE: moves the secret NAME from the environment to a file that only this user can read, and sets
# VARIABLE to the file's path, so that the programs started from here do not inherit the secret.
secret_file() {
    local file
    [[ -n ${!1:-} ]] || return 0
    file=$(cd "$out" && pwd)/.$1
    (umask 077 && printf '%s\n' "${!1}" >"$file")
    unset "$1"
    export "$2=$file"
}

# Removes the secrets from the folder, which is uploaded.
forget() { rm -f "$out"/.identity "$out"/.kubeconfig "$out"/.KAFKA_PASSWORD "$out"/.TARGET_TOKEN; }
trap forget EXIT
