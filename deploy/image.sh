#!/usr/bin/env bash
# Makes the image of a program that is built already, without a container engine.
#
#   deploy/image.sh rootfs PROGRAM FOLDER          the root file system, for the Dockerfile and for `oci`
#   deploy/image.sh oci PROGRAM FOLDER[:TAG]       an OCI image layout (needs umoci), for any tool that pushes or runs one
#
# The image has the program, the shared libraries that it needs, the CA certificates of this machine, and no shell.
# A program from `cargo build --profile dist` is stripped; see Cargo.toml.
set -euo pipefail

# The user of the image: a number, since Kubernetes' restricted profile can only check a number for not being root.
user=65532

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
}

fail() {
    printf 'image.sh: %s\n' "$1" >&2
    exit 1
}

rootfs() {
    local program=$1 folder=$2 library certificates=/etc/ssl/certs/ca-certificates.crt
    [[ -x $program ]] || fail "$program is not a program; build it with: cargo build --profile dist --bin bellwether"
    [[ -f $certificates ]] || fail "$certificates is missing; install the package ca-certificates"
    [[ ! -e $folder ]] || fail "$folder exists; remove it or name another folder"
    mkdir -p "$folder"/{etc/ssl/certs,etc/bellwether,usr/local/bin,usr/lib,tmp,var/lib/bellwether}
    # As in Debian: /lib and /lib64 are names of folders in /usr, and the loader's path begins with one of them.
    ln -s usr/lib "$folder/lib"
    ln -s usr/lib64 "$folder/lib64"
    mkdir "$folder/usr/lib64"
    install -m 755 "$program" "$folder/usr/local/bin/bellwether"
    # Of `NAME => PATH (ADDRESS)` and `PATH (ADDRESS)` the path.
    ldd "$program" | sed -n 's/^[^/]*\(\/[^ ]*\) (.*/\1/p' | while read -r library; do
        install -D -m 755 "$(readlink -f "$library")" "$folder$library"
    done
    install -m 644 "$certificates" "$folder$certificates"
    printf 'bellwether:x:%s:%s::/var/lib/bellwether:/sbin/nologin\n' "$user" "$user" >"$folder/etc/passwd"
    printf 'bellwether:x:%s:\n' "$user" >"$folder/etc/group"
    # Without this file the C library asks the DNS before /etc/hosts, which names localhost.
    printf 'hosts: files dns\n' >"$folder/etc/nsswitch.conf"
    chmod 1777 "$folder/tmp"
    # Only root may give files away; the folder is a volume in the chart anyway.
    ((EUID != 0)) || chown "$user:$user" "$folder/var/lib/bellwether"
}

oci() {
    local program=$1 layout=${2%%:*} tag=latest work
    [[ $2 != *:* ]] || tag=${2#*:}
    command -v umoci >/dev/null || fail "umoci is missing; install the package umoci"
    work=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    rootfs "$program" "$work/root"
    local image=$layout:$tag rootless=()
    ((EUID == 0)) || rootless=(--rootless)
    [[ -f $layout/oci-layout ]] || umoci init --layout "$layout"
    umoci new --image "$image"
    umoci insert "${rootless[@]}" --image "$image" --history.comment "the root file system" "$work/root" /
    umoci config --image "$image" \
        --config.user "$user:$user" \
        --config.entrypoint /usr/local/bin/bellwether \
        --config.cmd run \
        --config.env BELLWETHER_HTTP__LISTEN=0.0.0.0:8080 \
        --config.exposedports 8080/tcp \
        --config.label "org.opencontainers.image.title=bellwether" \
        --config.label "org.opencontainers.image.version=$("$program" --version | sed 's/.* //')" \
        --config.label "org.opencontainers.image.licenses=$(license)"
}

# license: prints the licence of the workspace.
license() { sed -n 's/^license = "\(.*\)"/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml" | head -1; }

case ${1:-} in
rootfs | oci)
    (($# == 3)) || usage
    "$@"
    ;;
*) usage ;;
esac
