#!/usr/bin/env bash
# Stage 4, the image: builds it with provenance and an SBOM, pushes it, and scans it as pushed. Later stages get the
# digest, because a tag can be moved between the scan and the rollout.
#
#   IMAGE             repository, as in registry.example/shop/agent
#   IMAGE_TAG         tag (default: the commit)
#   IMAGE_CONTEXT     build context (default: .)
#   IMAGE_FILE        Dockerfile (default: Dockerfile)
#   IMAGE_PLATFORMS   platforms (default: linux/amd64)
#   FAIL_ON           lowest severity of a vulnerability that fails the stage (default: high)
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

want IMAGE
tag=${IMAGE_TAG:-$(git rev-parse --short=12 HEAD)}

say "building $IMAGE:$tag"
docker buildx build "${IMAGE_CONTEXT:-.}" --file "${IMAGE_FILE:-Dockerfile}" --platform "${IMAGE_PLATFORMS:-linux/amd64}" \
    --tag "$IMAGE:$tag" --provenance mode=max --sbom true --push --metadata-file "$out/image.json"
digest=$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "$out/image.json" | head -n 1)
[[ -n $digest ]] || die "the builder reported no digest"

need_grype
say "known vulnerabilities of $IMAGE@$digest"
"$grype" "registry:$IMAGE@$digest" --fail-on "${FAIL_ON:-high}" --output table --output "json=$out/image-scan.json"

tell IMAGE_REF "$IMAGE:$tag@$digest"
