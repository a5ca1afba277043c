#!/usr/bin/env bash
# Verdicts under the three versions of antlr4's runtime that other packages pin: they must agree.
#
#     bash bench/antlr.sh [SOURCE]
#
# SOURCE is the folder that has the package; src/ of this checkout by default. hydra (so verl) pins
# 4.9.3, lm-evaluation-harness pins 4.11, and a plain installation takes 4.13.2. math-verify reads
# "50\%" as 0.5 under the last and as 50 under the others. The script makes one environment for
# each in a temporary folder, with the verifier's needs only. It prints the table of verdicts, and
# ends with status 1 if a row differs. It takes a minute and needs the package registry.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$(realpath "${1:-src}")
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

versions=(4.9.3 4.11.0 4.13.2)
for version in "${versions[@]}"; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --constraint constraints.txt \
        math-verify "antlr4-python3-runtime==$version"
    PYTHONPATH=$source "$folder/$version/bin/python" bench/antlr_pairs.py > "$folder/$version.txt"
done

cd "$folder"
cut -f 2,3 "${versions[0]}.txt" > pairs.txt
for version in "${versions[@]}"; do
    cut -f 1 "$version.txt" > "$version.verdicts"
done
paste "${versions[@]/%/.verdicts}" pairs.txt | sed "1i $(printf '%s\t' "${versions[@]}")truth\tanswer"
differing=$(paste "${versions[@]/%/.verdicts}" | awk '$1 != $2 || $2 != $3' | wc -l)
echo "$(wc -l < pairs.txt) rows, of which $differing differ between the versions"
[ "$differing" -eq 0 ]
