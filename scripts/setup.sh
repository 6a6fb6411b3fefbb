#!/usr/bin/env bash
# Makes this checkout runnable: system packages, .venv with all dependencies, native modules built in place.
#
# Two steps, each remembered by a checksum of what it depends on (.venv/setup-*.stamp), so that a run with nothing to do
# ends at once: "packages" (pyproject.toml, the interpreter) and "native" (ext/, the .pxd files, setup.py, the flavour
# JINDOPY_DEBUG or JINDOPY_ASAN).  JINDOPY_EXTRAS="pipelines" adds further extras of pyproject.toml, which then stay.
# Debian 12 and 13 and Ubuntu 24.04 are known: as root missing packages are installed, otherwise the command that
# installs them is printed.  Safe to run twice at once: the second waits for the first.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $*" >&2
    exit 1
}

# The distribution's own python3 first: its headers and venv are the packages that are easiest to have.
find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Prints the Debian packages that are missing for building, mounting, and (fincore) for showing that files are not in
# memory; before Debian 13 and Ubuntu 24.04 fincore is part of util-linux, which is always there.
missing_packages() {
    local version
    version=$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}")')
    [ "$(readlink -f "$(command -v python3 || true)")" = "$(readlink -f "$python")" ] && version=python3
    command -v gcc >/dev/null || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists fuse 2>/dev/null || echo libfuse-dev
    pkg-config --exists 'libcurl >= 7.87' 2>/dev/null || echo libcurl4-openssl-dev
    command -v fusermount3 >/dev/null || echo fuse3
    command -v fincore >/dev/null || echo util-linux-extra
    [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || echo "$version-dev"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$version-venv"
}

install_missing() {
    local missing
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    command -v apt-get >/dev/null || fail "missing: $missing(the names are Debian's); install them and run this again"
    if [ "$(id -u)" != 0 ]; then
        fail "missing system packages; run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
    fi
    echo "setup: installing $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    # shellcheck disable=SC2086  # a list of names
    apt-get install -y -qq --no-install-recommends $missing </dev/null >/dev/null
}

# Sources only: what the build writes into ext/ must not change the checksum.
native_sources() { find ext jindopy/_ext -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*_kernels.c' | sort; }

native_stamp() {
    {
        native_sources | xargs -r sha256sum
        sha256sum setup.py
        echo "${JINDOPY_DEBUG:-} ${JINDOPY_ASAN:-} $(.venv/bin/python --version)"
    } | sha256sum | cut -d' ' -f1
}

native_complete() {
    local source
    for source in ext/*.pyx; do
        compgen -G "jindopy/_ext/$(basename "$source" .pyx).*.so" >/dev/null || return 1
    done
}

packages_stamp() {
    { sha256sum pyproject.toml; .venv/bin/python --version; pwd; } | sha256sum | cut -d' ' -f1
}

stamp_holds() { [ -e ".venv/setup-$1.stamp" ] && [ "$(cat ".venv/setup-$1.stamp")" = "$2" ]; }

exec 9>"${TMPDIR:-/tmp}/jindopy-setup-$(id -u)-$(pwd | cksum | cut -d' ' -f1).lock"
flock 9

if ! .venv/bin/python -c 'import pip' 2>/dev/null || ! stamp_holds packages "$(packages_stamp)"; then
    python=$(find_python) || fail "Python 3.11 or newer is needed; on Debian and Ubuntu: apt-get install python3"
    install_missing
    if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        rm -rf .venv
        "$python" -m venv .venv
    fi
    echo "setup: installing Python packages into .venv (llfuse is compiled: about a minute the first time)"
    .venv/bin/python -m pip install -qq --disable-pip-version-check "setuptools>=77" wheel "cython>=3.1,<4" </dev/null
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation -e ".[test,lint]" </dev/null
    packages_stamp >.venv/setup-packages.stamp
fi

# Only what an extra lists: the package itself is installed, and installing it again would build it again.
extra_requirements() {
    .venv/bin/python -c 'import sys, tomllib
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
print("\n".join(extras[sys.argv[1]]))' "$1" 2>/dev/null
}

for extra in ${JINDOPY_EXTRAS:-}; do
    wanted=$(extra_requirements "$extra") || fail "no extra $extra in pyproject.toml"
    if ! stamp_holds "extra-$extra" "$wanted"; then
        echo "setup: installing the extra $extra"
        printf '%s\n' "$wanted" | .venv/bin/python -m pip install -qq --disable-pip-version-check -r /dev/stdin
        printf '%s\n' "$wanted" >".venv/setup-extra-$extra.stamp"
    fi
done

if ! native_complete || ! stamp_holds native "$(native_stamp)"; then
    echo "setup: building the native modules"
    # Compilers do not notice a change of flavour: build anew when it differs from the last one.
    flavour="${JINDOPY_DEBUG:+debug}${JINDOPY_ASAN:+asan}"
    force=()
    [ "$(cat .venv/setup-flavour.stamp 2>/dev/null || true)" = "$flavour" ] || force=(--force)
    log=$(mktemp)
    .venv/bin/python setup.py -q build_ext --inplace -j 2 "${force[@]}" >"$log" 2>&1 </dev/null || {
        cat "$log" >&2
        rm -f "$log"
        fail "the native modules do not build (output above)"
    }
    rm -f "$log"
    echo "$flavour" >.venv/setup-flavour.stamp
    native_stamp >.venv/setup-native.stamp
fi
