#!/usr/bin/env bash
# Stage 5, staging: deploys the image, and runs the smoke test and the load test.
#
#   IMAGE_REF                      the image of stage 4
#   HOOKS/deploy-staging           optional: deploys the image, its argument. Without it kubectl sets the image:
#   STAGING_WORKLOAD               namespace/deployment
#   STAGING_CONTAINER              container (default: the deployment's name)
#   STAGING_TIMEOUT                deadline of the deployment (default: 10m)
#   STAGING_URL                    base URL of staging
#   SMOKE                          smoke test (default: ci/smoke.toml)
#   LOAD_PATH, LOAD_BODIES         the load test's path (default: /) and bodies in a JSONL file
#   LOAD_RATE, LOAD_TIME           rate and duration (default: 20/s for 300s)
#   LOAD_WARM_UP                   time before it that does not count (default: 15s)
#   LOAD_LIMITS                    thresholds, separated by spaces, as in "p95<=800ms errors<=1%"
#   TARGET_TOKEN                   secret: the target's bearer token
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

told IMAGE_REF
want IMAGE_REF STAGING_URL
need_bellwether
identity
secret_file TARGET_TOKEN TARGET_TOKEN_FILE

say "deploying $IMAGE_REF"
if has_hook deploy-staging; then
    hook deploy-staging "$IMAGE_REF"
else
    want STAGING_WORKLOAD
    namespace=${STAGING_WORKLOAD%%/*} name=${STAGING_WORKLOAD#*/}
    kubectl --namespace "$namespace" set image "deployment/$name" "${STAGING_CONTAINER:-$name}=$IMAGE_REF"
    kubectl --namespace "$namespace" rollout status "deployment/$name" --timeout "${STAGING_TIMEOUT:-10m}"
fi

say "smoke test"
"$bellwether" smoke "${SMOKE:-ci/smoke.toml}" --base "$STAGING_URL" --junit "$out/smoke.xml" --report "$out/smoke.json"

say "load test"
load=(load "$STAGING_URL${LOAD_PATH:-/}" --rate "${LOAD_RATE:-20/s}" --duration "${LOAD_TIME:-300s}"
    --warm-up "${LOAD_WARM_UP:-15s}" --report "$out/load.json")
[[ -z ${LOAD_BODIES:-} ]] || load+=(--body-file "$LOAD_BODIES")
[[ -z ${TARGET_TOKEN_FILE:-} ]] || load+=(--bearer-token-file "$TARGET_TOKEN_FILE")
for limit in ${LOAD_LIMITS:-p95<=1s errors<=1%}; do load+=(--threshold "$limit"); done
"$bellwether" "${load[@]}"
