#!/usr/bin/env bash
# math-verify takes an upright e or i at the end of an answer for a unit, and drops it.
#
#     bash findings/upright-e.sh [PYTHON]
#
# Upright constants are the standard's typography: 3\mathrm{e}^{2} is 3e², 1+\mathrm{i} is 1+i.
# After a number or a sign, math-verify drops them like the \mathrm{cm}^{2} of an area, with their
# power. So 3e², 3e⁵ and 3 are equal, 1+i equals 1-i, and none of them equals its usual spelling.
# Measured with math-verify 0.9.0 and latex2sympy2_extended 1.11.0. Status 1: it no longer holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet math-verify==0.9.0 latex2sympy2_extended==1.11.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from math_verify import parse, verify

# (gold, answer, what math-verify says, what is right)
PAIRS = (
    (r"3\mathrm{e}^{2}", r"3\mathrm{e}^{5}", True, False),
    (r"3\mathrm{e}^{2}", "3", True, False),
    (r"x\mathrm{e}^{2}", r"x\mathrm{e}^{5}", True, False),
    (r"1+\mathrm{i}", r"1-\mathrm{i}", True, False),
    (r"1-\frac{1}{\mathrm{e}}", r"1+\frac{1}{\mathrm{e}}", True, False),
    (r"2\mathrm{e}", "2e", False, True),
    (r"1+\mathrm{i}", "1+i", False, True),
    (r"2\mathrm{e}-t", "2e-t", False, True),  # kept here, as the name of a variable
)
holds = True
for gold, answer, said, right in PAIRS:
    verdict = verify(parse(f"${gold}$"), parse(f"${answer}$"))
    holds &= verdict == said
    print(f"{gold:24} {answer:24} said {verdict!s:6} right {right}")
sys.exit(not holds)
PYTHON
