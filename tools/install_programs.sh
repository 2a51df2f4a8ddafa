#!/usr/bin/env bash
# Installs the programs that some tests start, from Debian. Where one cannot be had, this says so and succeeds: the
# tests that need it are skipped.
set -uo pipefail

packages=()
command -v prometheus > /dev/null && command -v promtool > /dev/null || packages+=(prometheus)
command -v prometheus-alertmanager > /dev/null && command -v amtool > /dev/null || packages+=(prometheus-alertmanager)
command -v chromium > /dev/null || packages+=(chromium)
command -v nginx > /dev/null || packages+=(nginx)
command -v haproxy > /dev/null || packages+=(haproxy)
command -v systemd-analyze > /dev/null || packages+=(systemd)
command -v ip > /dev/null || packages+=(iproute2)
for each in buildah catatonit docker-compose mmdebstrap runc; do
    command -v "$each" > /dev/null || packages+=("$each")
done
command -v podman > /dev/null || packages+=(podman netavark aardvark-dns)
command -v dockerd > /dev/null && command -v docker > /dev/null || packages+=(docker.io docker-cli)
command -v java > /dev/null || packages+=(default-jre-headless)
command -v kubectl > /dev/null || packages+=(kubernetes-client)
[ ${#packages[@]} -eq 0 ] && exit

not_installed() {
    echo "not installed: $*; the tests that start it are skipped"
}
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    not_installed "${packages[*]}, which needs root and apt-get"
    exit 0
fi

# The packages start their daemons, which nobody wants here, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
impatient=(--quiet=2 -o Acquire::http::Timeout=10 -o Acquire::Retries=0)
apt-get "${impatient[@]}" update
for package in "${packages[@]}"; do
    apt-get "${impatient[@]}" --yes --no-install-recommends install "$package" > /dev/null || not_installed "$package"
done
exit 0
