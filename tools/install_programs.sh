#!/usr/bin/env bash
# Installs the programs that some tests start, from Debian or Ubuntu. Where that cannot be, it says so and succeeds:
# the tests of a program that is missing are skipped.
set -uo pipefail

packages=()
command -v prometheus > /dev/null && command -v promtool > /dev/null || packages+=(prometheus)
command -v prometheus-alertmanager > /dev/null && command -v amtool > /dev/null || packages+=(prometheus-alertmanager)
command -v chromium > /dev/null || packages+=(chromium)
[ ${#packages[@]} -eq 0 ] && exit 0

skipped() {
    echo "not installed: ${packages[*]} ($1); the tests that start them are skipped"
    exit 0
}
[ "$(id -u)" = 0 ] || skipped "this needs root"
command -v apt-get > /dev/null || skipped "there is no apt-get"

# The packages start their daemons, which nobody wants here, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } > "$log" 2>&1; then
    tail -n 3 "$log"
    skipped "apt-get failed, see above"
fi
rm -f "$log"
