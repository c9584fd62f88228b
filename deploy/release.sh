#!/usr/bin/env bash
# Builds the program of this checkout for the runners of pipelines, and writes it with its checksums to a folder. Publish the
# files where the runners can download them, such as beside the tag; BELLWETHER_URL and BELLWETHER_SHA256 name one of them.
#
#   deploy/release.sh VERSION FOLDER
#
#   PLATFORMS    platforms (default: linux/amd64,linux/arm64)
set -euo pipefail

(($# == 2)) || {
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
}
version=$1 folder=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

platforms=${PLATFORMS:-linux/amd64,linux/arm64}
docker buildx build . --file deploy/Dockerfile --target program --platform "$platforms" --output "type=local,dest=$built"
mkdir -p "$folder"
names=()
for platform in ${platforms//,/ }; do
    name=bellwether-$version-${platform//\//-}
    # With one platform the builder makes no folder for it.
    found=$built/${platform//\//_}/bellwether
    [[ -f $found ]] || found=$built/bellwether
    install -m 755 "$found" "$folder/$name"
    names+=("$name")
done
cd "$folder"
sha256sum "${names[@]}" | tee SHA256SUMS
