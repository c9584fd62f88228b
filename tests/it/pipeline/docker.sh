#!/bin/bash
# The container engine. It needs a daemon, lists the build context, and reports a digest.
[[ -n ${DOCKER_HOST:-} ]] || { echo 'error: is the docker daemon running?' >&2; exit 1; }
printf 'docker %s\n' "$*" >>'@LOG@'
[[ $1 != login ]] || { cat >/dev/null && exit; }
[[ "$1 $2" == 'buildx build' ]] || exit 0
shift 2
context='' metadata=''
while (($#)); do
    case $1 in
    --metadata-file) metadata=$2 && shift ;;
    --file | --platform | --tag | --provenance | --sbom | --build-arg | --label | --annotation | --output | --target) shift ;;
    --push) ;;
    *) context=$1 ;;
    esac
    shift
done
if [[ $context == - ]]; then tar -tf -; else (cd "$context" && find . -type f); fi | grep -v '/\.git/' | sed 's/^/context /' >>'@LOG@'
echo '{ "containerimage.digest": "@DIGEST@" }' >"$metadata"
