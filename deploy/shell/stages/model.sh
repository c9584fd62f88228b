#!/usr/bin/env bash
# Stage 3, the model: fetches and verifies it, and tests its behaviour and its speed. A bad model ends the pipeline before
# anything is built. Policies require the report of stage 5, which is about the image.
#
#   MODEL_NAME, MODEL_VERSION    the model in the registry
#   BELLWETHER_REGISTRY__URL     the registry; or BELLWETHER_CONFIG names a file with it
#   AWS_ROLE_ARN, AWS_REGION     the role that the identity token is exchanged for, and the region of the registry
#   MODEL_DIR                    folder of the weights, outside of the checkout (default: a temporary one)
#   HOOKS/serve                  optional: gets the model's folder, starts a server and prints TARGET; is called again with
#                                "stop" at the end. Without it TARGET is that of a server that has the model.
#   TARGET                       URL of the server's API, as in http://model:8000/v1
#   GATE_SUITE                   behavioural suite (default: ci/gate.toml)
#   BENCHMARK_PATH, _BODIES      path below TARGET (default: /chat/completions), and a JSONL file (default:
#                                ci/questions.jsonl)
#   BENCHMARK_RATE, _TIME        rate and duration (default: 5/s for 2m)
#   BENCHMARK_WARM_UP            time before it that does not count (default: 10s)
#   BENCHMARK_LIMITS             thresholds, separated by spaces, as in "p95<=5s errors<=2%"
#   TARGET_TOKEN                 secret: the target's bearer token
#   JUDGE_TOKEN, CLASSIFIER_TOKEN    secrets: those of the suite's judge and classifier
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

subject=$(model)
[[ -n ${BELLWETHER_CONFIG:-} ]] || want BELLWETHER_REGISTRY__URL
need_bellwether
identity

# Outside of the checkout, so that weights are neither uploaded nor sent to the builder of the image.
weights=$(realpath -m "${MODEL_DIR:-$(mktemp -d)}")
[[ $weights/ != "$(realpath .)"/* ]] || die "MODEL_DIR $weights is in the checkout; name a folder outside of it"
finish() {
    # Stop the server also if a gate fails, or it would answer the next run with this model.
    if has_hook serve; then hook serve stop || true; fi
    [[ -n ${MODEL_DIR:-} ]] || rm -rf "$weights"
    forget
}
trap finish EXIT

say "fetching $subject and verifying its digest"
"$bellwether" model get "$MODEL_NAME" "$MODEL_VERSION" --to "$weights" --output json >"$out/model.json"
digest=$(digest_in "$out/model.json" checksum)
[[ -n $digest ]] || die "the registry has no digest for $subject"
tell MODEL_REF "$MODEL_NAME $MODEL_VERSION $digest"

if has_hook serve; then TARGET=$(hook serve "$weights"); fi
want TARGET

say "behavioural gate"
status=0
with_secrets "$bellwether" gate run "${GATE_SUITE:-ci/gate.toml}" --target "$TARGET" --subject "$subject" \
    --digest "$digest" --report "$out/gate.json" --markdown "$out/gate.md" || status=$?
summary "$out/gate.md"
# Attach the report also if the suite failed or is inconclusive. A suite that could not run says nothing about the model.
if ((status == 0 || status == 3 || status == 4)); then
    "$bellwether" model attach "$MODEL_NAME" "$MODEL_VERSION" "$out/gate.json"
fi
((status == 0)) || exit "$status"

say "benchmark"
benchmark=(load "$TARGET${BENCHMARK_PATH:-/chat/completions}" --rate "${BENCHMARK_RATE:-5/s}"
    --duration "${BENCHMARK_TIME:-2m}" --warm-up "${BENCHMARK_WARM_UP:-10s}" --report "$out/benchmark.json"
    --body-file "${BENCHMARK_BODIES:-ci/questions.jsonl}")
for limit in ${BENCHMARK_LIMITS:-p95<=10s errors<=2%}; do benchmark+=(--threshold "$limit"); done
with_token "$bellwether" "${benchmark[@]}"
