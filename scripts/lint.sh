#!/usr/bin/env bash
# All static checks, each run to its end; the exit code says whether any of them failed.  Run by `make lint`.
set -uo pipefail
cd "$(dirname "$0")/.."

bin=.venv/bin
export PATH="$PWD/$bin:$PATH" # cython-lint starts pycodestyle by name
python_paths=(jindopy tests bench scripts setup.py)
failed=()

check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "lint: $name ok"
    else
        echo "lint: $name FAILED"
        echo "$output"
        failed+=("$name")
    fi
}

# The stub of each native module must say what its binary has.
stubs() {
    local source names=()
    for source in ext/*.pyx; do
        [ -e "$source" ] && names+=("jindopy._ext.$(basename "$source" .pyx)")
    done
    [ ${#names[@]} = 0 ] && return 0
    $bin/python -m mypy.stubtest --ignore-disjoint-bases --allowlist tests/data/stubtest_allowlist.txt --ignore-unused-allowlist "${names[@]}"
}

cython_sources() { find ext jindopy/_ext \( -name '*.pyx' -o -name '*.pxd' \) | sort; }

cython_style() {
    local sources
    mapfile -t sources < <(cython_sources)
    [ ${#sources[@]} = 0 ] || $bin/cython-lint --max-line-length 120 "${sources[@]}"
}

shell_syntax() {
    local script
    for script in scripts/*.sh .ci/run; do bash -n "$script" || return 1; done
}

check "ruff check" $bin/ruff check "${python_paths[@]}"
check "ruff format" $bin/ruff format --check "${python_paths[@]}"
check "mypy" $bin/mypy
check "stubtest" stubs
check "cython-lint" cython_style
check "import-linter" $bin/lint-imports --no-cache
check "shell syntax" shell_syntax

if [ ${#failed[@]} != 0 ]; then
    echo "lint: failed: ${failed[*]}"
    exit 1
fi
