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
shell=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Secrets stay variables of the stage and leave its environment, so that hooks and tools do not inherit them.
secrets=(TARGET_TOKEN JUDGE_TOKEN CLASSIFIER_TOKEN)
export -n "${secrets[@]}" KAFKA_PASSWORD

# The pinned version of the scanner and its checksums. Another version needs both GRYPE_VERSION and GRYPE_SHA256.
grype_version=0.104.0
grype_sha256_x86_64=862816d0addab60968f9401fe5dbaeaf244bf86a3f759003103c11efe151b31d
grype_sha256_aarch64=531c9fcc6dab7efd5eccee629bc4c524badf3d66c5382fc0e771059b76dc617e

# Unset empty variables, which programs would otherwise read as values.
for name in AWS_ROLE_ARN AWS_REGION DOCKER_HOST "${!BELLWETHER_@}"; do
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

# find_hook NAME: prints the path of a hook: the project's own, or the one that is shipped.
find_hook() {
    local program
    for program in "${HOOKS:-ci}/$1" "$shell/hooks/$1"; do
        if [[ -x $program ]]; then
            printf '%s\n' "$program"
            # With its code, because in a trap a bare `return` repeats the code that the stage ends with.
            return 0
        fi
    done
    return 1
}

# hook NAME ARGUMENT...: runs the project's part of a stage.
hook() {
    local program
    program=$(find_hook "$1") || die "${HOOKS:-ci}/$1 does not exist or is not executable; docs/pipeline.md describes it"
    shift
    say "$program $*"
    OUT=$out "$program" "$@"
}

# has_hook NAME: succeeds if there is such a hook.
has_hook() { find_hook "$1" >/dev/null; }

# with_secrets COMMAND...: runs a program that reads the secrets of a suite from its environment.
with_secrets() (
    for name in "${secrets[@]}"; do [[ -z ${!name:-} ]] || export "${name?}"; done
    exec "$@"
)

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
    local url=${BELLWETHER_URL:-} sha256=${BELLWETHER_SHA256:-}
    # The program would take them for settings of its own.
    unset BELLWETHER_URL BELLWETHER_SHA256
    command -v "$bellwether" >/dev/null && return
    [[ -n $url && -n $sha256 ]] || die "bellwether is not in PATH, and BELLWETHER_URL or BELLWETHER_SHA256 is not set"
    mkdir -p "$tools"
    bellwether=$tools/bellwether
    [[ -x $bellwether ]] && return
    download "$url" "$sha256" "$bellwether"
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

# scan SUBJECT REPORT [PLATFORM]: scans a folder (.) or a pushed image, and writes REPORT.json and REPORT.sarif. Ends the
# stage with 3 if a vulnerability is at least as severe as FAIL_ON.
scan() {
    local subject=$1 report=$out/$2 platform=${3:-} status=0
    case ${SCANNER:-grype} in
    grype) scan_with_grype || status=$? ;;
    trivy) scan_with_trivy || status=$? ;;
    *) die "SCANNER is $SCANNER; the known scanners are grype and trivy" ;;
    esac
    ((status == 0)) || exit "$status"
}

scan_with_grype() {
    need_grype
    local arguments=(dir:. --exclude './out/**' --exclude './.git/**') status=0
    [[ $subject == . ]] || arguments=("registry:$subject")
    [[ -z $platform ]] || arguments+=(--platform "$platform")
    "$grype" "${arguments[@]}" --fail-on "${FAIL_ON:-high}" --output table --output "json=$report.json" \
        --output "sarif=$report.sarif" || status=$?
    # Its code for a vulnerability of that severity is 2.
    ((status != 2)) || status=3
    return "$status"
}

scan_with_trivy() {
    command -v trivy >/dev/null || die "trivy is not in PATH"
    local arguments=(fs --skip-dirs out) severities
    [[ $subject == . ]] || arguments=(image)
    [[ -z $platform ]] || arguments+=(--platform "$platform")
    case ${FAIL_ON:-high} in
    critical) severities=CRITICAL ;;
    high) severities=HIGH,CRITICAL ;;
    medium) severities=MEDIUM,HIGH,CRITICAL ;;
    *) severities=UNKNOWN,LOW,MEDIUM,HIGH,CRITICAL ;;
    esac
    trivy "${arguments[@]}" --format json --output "$report.json" "$subject" || return 1
    trivy convert --format sarif --output "$report.sarif" "$report.json" || return 1
    trivy convert --format table --severity "$severities" --exit-code 3 "$report.json"
}

# roll_out WORKLOAD API EVENTS_URL: requests IMAGE_REF and the model on a workload, and waits for the rollout's end. An
# empty EVENTS_URL stands for Kafka. The exit code of the wait is left in `rolled`.
roll_out() {
    local on=$1 api=$2 events_url=$3 rollout request
    [[ -n $api ]] || die "BELLWETHER_API is not set; docs/pipeline.md describes it"
    request=(emit request --workload "$on" --image "$IMAGE_REF" --reason "${REASON:-pipeline}${RUN_URL:+ $RUN_URL}")
    [[ -z ${RUN_URL:-} ]] || request+=(--source "$RUN_URL")
    [[ -z ${POLICY:-} ]] || request+=(--policy "$POLICY")
    [[ -z $events_url ]] || request+=(--url "$events_url")
    [[ -z ${MODEL_NAME:-} ]] || request+=(--model "$(model)")

    say "requesting $IMAGE_REF on $on"
    rollout=$("$bellwether" "${request[@]}")
    tell ROLLOUT "$rollout"

    say "rollout $rollout"
    rolled=0
    # shellcheck disable=SC2034 # Stages read it.
    BELLWETHER_API=$api "$bellwether" status "$rollout" --wait --timeout "${ROLLOUT_TIMEOUT:-2h}" || rolled=$?
    {
        printf '### Rollout %s\n\n' "$rollout"
        printf '```\n'
        BELLWETHER_API=$api "$bellwether" why "$rollout" || true
        printf '```\n'
    } >"$out/rollout.md"
    summary "$out/rollout.md"
}

# model: prints the model as events name it.
model() {
    want MODEL_NAME MODEL_VERSION
    printf '%s@%s\n' "$MODEL_NAME" "$MODEL_VERSION"
}

# with_token COMMAND...: runs a program that takes the target's token as a file. The token is in no file and no command
# line.
with_token() {
    if [[ -z ${TARGET_TOKEN:-} ]]; then "$@"; else "$@" --bearer-token-file <(printf '%s\n' "$TARGET_TOKEN"); fi
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
    if [[ -n ${GITHUB_ACTIONS:-} && -n ${IDENTITY_AUDIENCE:-} ]]; then
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
    if [[ -n ${AWS_ROLE_ARN:-} ]]; then
        want AWS_REGION
        export AWS_WEB_IDENTITY_TOKEN_FILE=$file
    fi
    [[ -z ${KUBE_SERVER:-} ]] || kubeconfig "$file"
}

# digest_in FILE KEY: prints the first digest that a JSON file has under the key.
digest_in() { sed -n "s/.*\"$2\": *\"\(sha256:[0-9a-f]\{64\}\)\".*/\1/;T;p;q" "$1"; }

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

# kafka_password: writes KAFKA_PASSWORD to a file that only this user can read, for the programs that send events.
kafka_password() {
    [[ -n ${KAFKA_PASSWORD:-} ]] || return 0
    BELLWETHER_KAFKA__SECURITY__PASSWORD_FILE=$(cd "$out" && pwd)/.KAFKA_PASSWORD
    export BELLWETHER_KAFKA__SECURITY__PASSWORD_FILE
    (umask 077 && printf '%s\n' "$KAFKA_PASSWORD" >"$BELLWETHER_KAFKA__SECURITY__PASSWORD_FILE")
}

# Removes the secrets from the folder, which is uploaded.
forget() { rm -f "$out"/.identity "$out"/.kubeconfig "$out"/.KAFKA_PASSWORD; }
trap forget EXIT
