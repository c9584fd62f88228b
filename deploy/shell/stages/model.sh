#!/usr/bin/env bash
# Stage 3, the model: fetches and verifies it, and tests its behaviour and its speed.
#
#   MODEL_NAME, MODEL_VERSION    the model in the registry
#   HOOKS/serve                  optional: gets the model's folder, starts a server and prints its URL; is called again
#                                with "stop" at the end. Without it TARGET is a server that has the model.
#   GATE_SUITE                   behavioural suite (default: ci/gate.toml)
#   GATE_PUBLISH                 if set, the result is also sent to the daemon for WORKLOAD, whose policy may require it
#   BENCHMARK_PATH, _BODIES      the benchmark's path (default: /v1/chat/completions) and bodies in a JSONL file
#   BENCHMARK_RATE, _TIME        rate and duration (default: 5/s for 60s)
#   BENCHMARK_WARM_UP            time before it that does not count (default: 10s)
#   BENCHMARK_LIMITS             thresholds, separated by spaces, as in "p95<=5s errors<=1%"
#   TARGET_TOKEN                 secret: the target's bearer token
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

want MODEL_NAME MODEL_VERSION
need_bellwether
identity
secret_file TARGET_TOKEN TARGET_TOKEN_FILE
subject=$MODEL_NAME@$MODEL_VERSION

say "fetching $subject and verifying its digest"
"$bellwether" model get "$MODEL_NAME" "$MODEL_VERSION" --to "$out/model" --output json >"$out/model.json"
digest=$(sed -n 's/.*"checksum": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "$out/model.json" | head -n 1)
[[ -n $digest ]] || die "the registry has no digest for $subject"
tell MODEL_DIGEST "$digest"

if has_hook serve; then
    # Stop the server also if a gate fails, or it would answer the next run with this model.
    trap 'hook serve stop || true; forget' EXIT
    TARGET=$(hook serve "$out/model")
fi
want TARGET

say "behavioural gate"
gate=(gate run "${GATE_SUITE:-ci/gate.toml}" --target "$TARGET" --subject "$subject" --digest "$digest"
    --report "$out/gate.json" --markdown "$out/gate.md")
if [[ -n ${GATE_PUBLISH:-} ]]; then
    want WORKLOAD
    gate+=(--publish --workload "$WORKLOAD")
    [[ -z ${EVENTS_URL:-} ]] || gate+=(--url "$EVENTS_URL")
fi
status=0
"$bellwether" "${gate[@]}" || status=$?
summary "$out/gate.md"
# Attach the report also if the suite failed or is inconclusive. A suite that could not run says nothing about the model.
if ((status == 0 || status == 3 || status == 4)); then
    "$bellwether" model attach "$MODEL_NAME" "$MODEL_VERSION" "$out/gate.json"
fi
((status == 0)) || exit "$status"

say "benchmark"
benchmark=(load "$TARGET${BENCHMARK_PATH:-/v1/chat/completions}" --rate "${BENCHMARK_RATE:-5/s}"
    --duration "${BENCHMARK_TIME:-60s}" --warm-up "${BENCHMARK_WARM_UP:-10s}" --report "$out/benchmark.json")
[[ -z ${BENCHMARK_BODIES:-} ]] || benchmark+=(--body-file "$BENCHMARK_BODIES")
[[ -z ${TARGET_TOKEN_FILE:-} ]] || benchmark+=(--bearer-token-file "$TARGET_TOKEN_FILE")
for limit in ${BENCHMARK_LIMITS:-p95<=10s errors<=1%}; do benchmark+=(--threshold "$limit"); done
"$bellwether" "${benchmark[@]}"
