#!/usr/bin/env bash
# Stage 4, the image: builds it with provenance and an SBOM, pushes, scans and signs it. Later stages get the digest,
# because a tag can be moved between the scan and the rollout.
#
#   IMAGE             repository, as in registry.example/shop/agent
#   IMAGE_TAG         tag (default: the commit)
#   IMAGE_CONTEXT     folder that the builder gets (default: the files of the commit, and nothing else)
#   IMAGE_FILE        Dockerfile, relative to the context (default: Dockerfile)
#   IMAGE_PLATFORMS   platforms (default: linux/amd64,linux/arm64)
#   MODEL_REF         model of stage 3 as name, version and digest; the Dockerfile gets it as a build argument
#   SCANNER           scanner: grype (default) or trivy
#   FAIL_ON           lowest severity of a vulnerability that fails the stage (default: high)
#   SIGN              keyless (default: signs with the job's identity), the key of cosign's --key, or none
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

told MODEL_REF
want IMAGE
tag=${IMAGE_TAG:-$(git rev-parse --short=12 HEAD)}
platforms=${IMAGE_PLATFORMS:-linux/amd64,linux/arm64}
[[ ${SIGN:-keyless} == none ]] || command -v cosign >/dev/null || die "cosign is not in PATH; install it, or set SIGN=none"

say "building $IMAGE:$tag"
build=(buildx build --file "${IMAGE_FILE:-Dockerfile}" --platform "$platforms" --tag "$IMAGE:$tag" --provenance mode=max
    --sbom true --push --metadata-file "$out/image.json")
[[ -z ${MODEL_REF:-} ]] || build+=(--build-arg "MODEL_REF=$MODEL_REF")
if [[ -n ${IMAGE_CONTEXT:-} ]]; then
    docker "${build[@]}" "$IMAGE_CONTEXT"
else
    # Neither reports nor weights nor an untracked file of the checkout can get into the image.
    git archive HEAD | docker "${build[@]}" -
fi
digest=$(digest_in "$out/image.json" containerimage.digest)
[[ -n $digest ]] || die "the builder reported no digest"

report=image
for platform in ${platforms//,/ }; do
    say "known vulnerabilities of $IMAGE@$digest for $platform"
    scan "$IMAGE@$digest" "$report" "$platform"
    report=image-${platform//\//-}
done

case ${SIGN:-keyless} in
none) ;;
keyless) cosign sign --yes --recursive "$IMAGE@$digest" ;;
*) cosign sign --yes --recursive --key "$SIGN" "$IMAGE@$digest" ;;
esac

tell IMAGE_REF "$IMAGE:$tag@$digest"
