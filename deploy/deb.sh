#!/usr/bin/env bash
# Makes the Debian package of a program that is built already: the program with its manual pages and completions, a systemd unit and
# a first configuration. It needs dpkg-deb alone.
#
#   deploy/deb.sh PROGRAM FOLDER        writes FOLDER/bellwether_VERSION_ARCHITECTURE.deb, and prints its path
#
# A program from `cargo build --profile dist` is stripped; see Cargo.toml.
set -euo pipefail

(($# == 2)) || {
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
}
program=$1 folder=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ -x $program ]] || {
    printf 'deb.sh: %s is not a program; build it with: cargo build --profile dist --bin bellwether\n' "$program" >&2
    exit 1
}
version=$("$program" --version | sed 's/.* //')
architecture=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

install -D -m 755 "$program" "$root/usr/bin/bellwether"
# kubectl runs a program of this name as `kubectl bellwether`.
ln -s bellwether "$root/usr/bin/kubectl-bellwether"
"$program" man "$root/usr/share/man/man1"
gzip -9 -n "$root"/usr/share/man/man1/*.1
complete() { mkdir -p "$(dirname "$root/$2")" && "$program" completion "$1" >"$root/$2"; }
complete bash usr/share/bash-completion/completions/bellwether
complete zsh usr/share/zsh/vendor-completions/_bellwether
complete fish usr/share/fish/vendor_completions.d/bellwether.fish
install -D -m 644 "$here/debian/bellwether.service" "$root/usr/lib/systemd/system/bellwether.service"
install -D -m 644 "$here/debian/sysusers.conf" "$root/usr/lib/sysusers.d/bellwether.conf"
install -D -m 640 "$here/debian/bellwether.toml" "$root/etc/bellwether/bellwether.toml"
install -D -m 644 "$here/../LICENSE" "$root/usr/share/doc/bellwether/copyright"
install -D -m 644 "$here/../config/default.toml" "$root/usr/share/doc/bellwether/default.toml"

mkdir "$root/DEBIAN"
install -m 755 "$here/debian/postinst" "$here/debian/prerm" "$root/DEBIAN/"
# A changed configuration is kept at an upgrade.
printf '/etc/bellwether/bellwether.toml\n' >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: bellwether
Version: $version
Architecture: $architecture
Maintainer: The Bellwether developers <bellwether@bellwether.invalid>
Section: admin
Priority: optional
Depends: ca-certificates, libc6 (>= $(getconf GNU_LIBC_VERSION | cut -d" " -f2)), libgcc-s1, systemd
Installed-Size: $(du -sk "$root" | cut -f1)
Description: progressive delivery judged by metrics
 Leads a little traffic to a new version of a Kubernetes workload, judges it by
 its metrics in Prometheus, and promotes it or rolls it back.
END
mkdir -p "$folder"
package=$folder/bellwether_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
printf '%s\n' "$package"
