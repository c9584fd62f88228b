#!/usr/bin/env bash
# Stage 5, staging: deploys the image as production will, and runs the smoke test, the behavioural gate and the load test
# against it. The gate's report names the image and the model; it is the one that a policy of production requires.
#
#   IMAGE_REF                      the image of stage 4
#   MODEL_NAME, MODEL_VERSION      the model, if there is one
#   MODEL_REF                      the model with its digest, from stage 3: NAME VERSION DIGEST
#   BELLWETHER_REGISTRY__URL       optional: the registry, which gets the report of the gate as well; or BELLWETHER_CONFIG
#   AWS_ROLE_ARN, AWS_REGION       as in stage 3
#   STAGING_WORKLOAD               cluster/namespace/Deployment/name: the same event as in production, for the daemon of
#                                  staging. Or namespace/deployment: kubectl sets the image, without a daemon.
#   STAGING_API                    URL of the API of staging's daemon (default: BELLWETHER_API)
#   STAGING_EVENTS_URL             a daemon on one machine that takes the event instead of Kafka
#   STAGING_TIMEOUT                deadline of the deployment (default: 30m)
#   HOOKS/deploy-staging           optional: deploys the image, its argument, instead of both
#   STAGING_URL                    base URL of staging
#   STAGING_TARGET                 URL of its API for the gate (default: STAGING_URL/v1)
#   SMOKE                          smoke test (default: ci/smoke.toml)
#   STAGING_SUITE                  behavioural suite (default: ci/gate.toml), or none
#   WORKLOAD                       workload of production, which the report is published for
#   BELLWETHER_KAFKA__BROKERS, KAFKA_PASSWORD, EVENTS_URL    where events are sent, as in stage 6
#   LOAD_PATH, LOAD_BODIES         the load test's path (default: /) and bodies in a JSONL file
#   LOAD_RATE, LOAD_TIME           rate and duration (default: 20/s for 300s)
#   LOAD_WARM_UP                   time before it that does not count (default: 15s)
#   LOAD_LIMITS                    thresholds, separated by spaces, as in "p95<=800ms errors<=1%"
#   TARGET_TOKEN                   secret: the target's bearer token
#   JUDGE_TOKEN, CLASSIFIER_TOKEN    secrets: those of the suite's judge and classifier
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

told IMAGE_REF
told MODEL_REF
want IMAGE_REF STAGING_URL
suite=${STAGING_SUITE:-ci/gate.toml}
need_bellwether
identity
kafka_password

# set_image NAMESPACE/DEPLOYMENT: sets the image of every container that runs one of its repository, as the daemon does, so
# that an init container and its container change together.
set_image() {
    local namespace=${1%%/*} name=${1#*/} containers container image changes=() each='{.name}{" "}{.image}{"\n"}{end}'
    containers=$(kubectl --namespace "$namespace" get deployment "$name" --output \
        "jsonpath={range .spec.template.spec.initContainers[*]}$each{range .spec.template.spec.containers[*]}$each")
    while read -r container image; do
        [[ $(repository "$image") != "$(repository "$IMAGE_REF")" ]] || changes+=("$container=$IMAGE_REF")
    done <<<"$containers"
    ((${#changes[@]})) || die "no container of $1 runs an image of $(repository "$IMAGE_REF")"
    kubectl --namespace "$namespace" set image "deployment/$name" "${changes[@]}"
    kubectl --namespace "$namespace" rollout status "deployment/$name" --timeout "${STAGING_TIMEOUT:-30m}"
}

# repository REFERENCE: prints an image reference without its tag and digest.
repository() {
    local name=${1%%@*}
    [[ ${name##*/} != *:* ]] || name=${name%:*}
    printf '%s\n' "$name"
}

say "deploying $IMAGE_REF"
if has_hook deploy-staging; then
    hook deploy-staging "$IMAGE_REF"
else
    want STAGING_WORKLOAD
    if [[ $STAGING_WORKLOAD == */*/*/* ]]; then
        ROLLOUT_TIMEOUT=${STAGING_TIMEOUT:-30m} POLICY='' roll_out "$STAGING_WORKLOAD" \
            "${STAGING_API:-${BELLWETHER_API:-}}" "${STAGING_EVENTS_URL:-}"
        ((rolled == 0)) || exit "$rolled"
    else
        set_image "$STAGING_WORKLOAD"
    fi
fi

say "smoke test"
with_token "$bellwether" smoke "${SMOKE:-ci/smoke.toml}" --base "$STAGING_URL" --junit "$out/smoke.xml" \
    --report "$out/smoke.json"

if [[ $suite != none ]]; then
    say "behavioural gate of the image"
    status=0
    gate=(gate run "$suite" --target "${STAGING_TARGET:-$STAGING_URL/v1}" --image "$IMAGE_REF"
        --report "$out/staging-gate.json" --markdown "$out/staging-gate.md")
    [[ -z ${MODEL_NAME:-} ]] || gate+=(--subject "$(model)")
    [[ -z ${MODEL_REF:-} ]] || gate+=(--digest "${MODEL_REF##* }")
    with_secrets "$bellwether" "${gate[@]}" || status=$?
    summary "$out/staging-gate.md"
    # Publish a failed report, too: it closes what an earlier one may have opened.
    said=$((status == 0 || status == 3 || status == 4))
    # A registry that requires suites wants a report about the model in this image.
    if ((said)) && [[ -n ${MODEL_REF:-} && -n ${BELLWETHER_REGISTRY__URL:-}${BELLWETHER_CONFIG:-} ]]; then
        "$bellwether" model attach "$MODEL_NAME" "$MODEL_VERSION" "$out/staging-gate.json"
    fi
    if ((said)) && [[ -n ${WORKLOAD:-} ]]; then
        publish=(gate publish "$out/staging-gate.json" --workload "$WORKLOAD" --environment staging)
        [[ -z ${RUN_URL:-} ]] || publish+=(--link "$RUN_URL")
        [[ -z ${EVENTS_URL:-} ]] || publish+=(--url "$EVENTS_URL")
        "$bellwether" "${publish[@]}"
    fi
    ((status == 0)) || exit "$status"
fi

say "load test"
load=(load "$STAGING_URL${LOAD_PATH:-/}" --rate "${LOAD_RATE:-20/s}" --duration "${LOAD_TIME:-300s}"
    --warm-up "${LOAD_WARM_UP:-15s}" --report "$out/load.json")
[[ -z ${LOAD_BODIES:-} ]] || load+=(--body-file "$LOAD_BODIES")
for limit in ${LOAD_LIMITS:-p95<=1s errors<=1%}; do load+=(--threshold "$limit"); done
with_token "$bellwether" "${load[@]}"
