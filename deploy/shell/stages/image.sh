#!/usr/bin/env bash
# Stage 4, the image: built with its provenance and its list of parts, pushed, and scanned as it was pushed. What later
# stages get is the digest, since a tag can be moved between the scan and the rollout.
#
#   IMAGE             the repository, as in registry.example/shop/agent
#   IMAGE_TAG         a name for people (default: the commit)
#   IMAGE_CONTEXT, IMAGE_FILE, IMAGE_PLATFORMS
#   FAIL_ON           the least severity that stops (default: high)
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

want IMAGE
tag=${IMAGE_TAG:-$(git rev-parse --short=12 HEAD)}

say "building $IMAGE:$tag"
docker buildx build "${IMAGE_CONTEXT:-.}" --file "${IMAGE_FILE:-Dockerfile}" --platform "${IMAGE_PLATFORMS:-linux/amd64}" \
    --tag "$IMAGE:$tag" --provenance mode=max --sbom true --push --metadata-file "$out/image.json"
digest=$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "$out/image.json" | head -n 1)
[[ -n $digest ]] || die "the builder says no digest"

need_grype
say "known vulnerabilities of $IMAGE@$digest"
"$grype" "registry:$IMAGE@$digest" --fail-on "${FAIL_ON:-high}" --output table --output "json=$out/image-scan.json"

tell IMAGE_REF "$IMAGE:$tag@$digest"
