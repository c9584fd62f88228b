#!/usr/bin/env bash
# Stage 6, production: requests a rollout from Bellwether and waits for its end. If the stage is killed, the rollout goes
# on; it does not depend on the pipeline.
#
#   IMAGE_REF                      the image of stage 4
#   WORKLOAD                       cluster/namespace/Deployment/name
#   POLICY                         the policy (default: the first one that covers the workload)
#   MODEL_NAME, MODEL_VERSION      the model, if there is one. If the policy names an environment ([policy.model]), the
#                                  daemon asks the registry for permission and moves the pointer with the traffic
#   BELLWETHER_KAFKA__BROKERS      the brokers, with the other variables BELLWETHER_KAFKA__… or BELLWETHER_CONFIG
#   KAFKA_PASSWORD                 secret: the SASL password
#   EVENTS_URL                     a daemon on one machine that takes the event instead of Kafka
#   BELLWETHER_API                 URL of the daemon's API
#   ROLLOUT_TIMEOUT                maximum wait (default: 2h)
#   REASON, RUN_URL                reason and link, shown in Slack and by `bellwether why`
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

told IMAGE_REF
want IMAGE_REF WORKLOAD BELLWETHER_API
need_bellwether
kafka_password

# One reference for every container that runs an image of its repository. The rollout is refused before any traffic if the
# model is not registered or has not passed its suites.
roll_out "$WORKLOAD" "$BELLWETHER_API" "${EVENTS_URL:-}"
# 3: rolled back, and the model's pointer too. 4: held or given up; a person has to look.
exit "$rolled"
