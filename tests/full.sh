#!/usr/bin/env bash
# Everything: all generated cases, slow, soak, browser, and the comparisons with whatever reference
# libraries are installed. Prints the number run and skipped per marker.
set -uo pipefail
cd "$(dirname "$0")/.."
export FW_TEST_CASES=${FW_TEST_CASES:-full}
status=0
summary=""
for marker in "not slow and not soak and not cuda and not browser and not reference" slow soak cuda browser reference; do
    log=$(mktemp)
    python -m pytest -q -rs -m "$marker" "$@" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    case $code in 0 | 5) ;; *) status=1 ;; esac
    name=$marker
    case $marker in not*) name="default" ;; esac
    ran=$(grep -oE '[0-9]+ passed' "$log" | tail -1)
    failed=$(grep -oE '[0-9]+ failed' "$log" | tail -1)
    skipped=$(grep -oE '[0-9]+ skipped' "$log" | tail -1)
    summary+=$(printf '%-10s %-12s %-12s %s' "$name" "${ran:-0 passed}" "${failed:-0 failed}" "${skipped:-0 skipped}")$'\n'
    rm -f "$log"
done
printf '\n%s' "$summary"
exit $status
