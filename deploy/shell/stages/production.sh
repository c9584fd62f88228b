#!/usr/bin/env bash
# Stage 6, production: canary, watch, full rollout. Bellwether does all three; this asks for it and waits. If this is killed,
# the rollout goes on: it does not depend on a pipeline that watches it.
#
#   IMAGE_REF                      what stage 4 told
#   WORKLOAD                       cluster/namespace/Deployment/name
#   POLICY                         the policy, if not the one that is for the workload
#   MODEL_NAME, MODEL_VERSION      the model, if there is one. Where the policy names an environment ([policy.model]) the
#                                  daemon asks the registry whether it may, and moves the pointer forth and back
#   BELLWETHER_KAFKA__BROKERS      where the event goes, with the other BELLWETHER_KAFKA__… or BELLWETHER_CONFIG
#   KAFKA_PASSWORD                 a secret: the SASL password
#   EVENTS_URL                     instead of Kafka: a daemon on one machine
#   BELLWETHER_API                 where the daemon answers
#   ROLLOUT_TIMEOUT                how long is waited (default: 2h)
#   REASON, RUN_URL                what people read in Slack and `bellwether why`
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

told IMAGE_REF
want IMAGE_REF WORKLOAD
need_bellwether
identity
secret_file KAFKA_PASSWORD BELLWETHER_KAFKA__SECURITY__PASSWORD_FILE

request=(emit request --workload "$WORKLOAD" --image "$IMAGE_REF" --reason "${REASON:-pipeline}${RUN_URL:+ $RUN_URL}")
[[ -z ${RUN_URL:-} ]] || request+=(--source "$RUN_URL")
[[ -z ${POLICY:-} ]] || request+=(--policy "$POLICY")
[[ -z ${EVENTS_URL:-} ]] || request+=(--url "$EVENTS_URL")
if [[ -n ${MODEL_NAME:-} ]]; then
    want MODEL_VERSION
    # Refused before any traffic moves if it is not registered or has not passed; its pointer moves with the traffic.
    request+=(--model "$MODEL_NAME@$MODEL_VERSION")
fi

say "asking for $IMAGE_REF on $WORKLOAD"
rollout=$("$bellwether" "${request[@]}")
tell ROLLOUT "$rollout"

say "rollout $rollout"
status=0
"$bellwether" status "$rollout" --wait --timeout "${ROLLOUT_TIMEOUT:-2h}" || status=$?
{
    printf '### Rollout %s\n\n' "$rollout"
    printf '```\n'
    "$bellwether" why "$rollout" || true
    printf '```\n'
} >"$out/rollout.md"
summary "$out/rollout.md"
# Rolled back (3): so is the model's pointer. Held or given up (4): a person is asked.
exit "$status"
