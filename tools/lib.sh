# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What tools/demo and tools/test share. Sourced by bash with "set -euo pipefail".

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Packages of Debian 12 for building, and what a program at run time needs beside them.
packages_build=(
    gcc libc6-dev meson ninja-build pkg-config gettext python3
    libglib2.0-dev libjson-glib-dev libsoup-3.0-dev libsystemd-dev systemd
)
packages_demo=(dbus-daemon curl procps)
packages_rings=(
    dbus dbus-daemon python3-dbus python3-gi python3-pytest
    curl procps util-linux iproute2 nginx-light gunicorn groff-base
)
packages_full=(
    # compilers and checkers
    clang libclang-rt-14-dev llvm-14 valgrind
    # a machine to boot
    dbus-broker dbus-user-session systemd-sysv systemd-container libpam-systemd polkitd passwd
)

# Packages whose services are not to run, now or at the next boot: only their programs are wanted.
# A bus is changed on purpose or not at all.
packages_keep_still=(nginx-light dbus-broker)

package_is_installed() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

keep_still() {
    command -v systemctl >/dev/null || return 0
    case $1 in
    nginx-light) systemctl --quiet disable nginx.service ;;
    dbus-broker)
        systemctl --quiet disable dbus-broker.service
        systemctl --quiet --global disable dbus-broker.service
        ;;
    esac >/dev/null 2>&1 || true
}

# Runs apt-get with every service start forbidden, the way that policy-rc.d is for.
install_quietly() {
    local policy=/usr/sbin/policy-rc.d ours=no status=0

    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
        ours=yes
    fi
    {
        apt-get -q update &&
            DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@"
    } >&2 </dev/null || status=$?
    if [[ $ours == yes ]]; then
        rm -f "$policy"
    fi
    return "$status"
}

# need_packages PACKAGE...: installs what is missing, or says how and ends with status 2.
need_packages() {
    local package
    local -a missing=()

    if ! command -v dpkg-query >/dev/null; then
        say "This is no Debian, so nothing is installed here. Debian's names of what is needed: $*" >&2
        return 0
    fi
    for package in "$@"; do
        package_is_installed "$package" || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    if ((EUID != 0)); then
        say "Some packages are missing. As root:" >&2
        say "    apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 2
    fi
    say "Installing ${missing[*]}"
    install_quietly "${missing[@]}" || die "apt-get failed"
    for package in "${packages_keep_still[@]}"; do
        if [[ " ${missing[*]} " == *" $package "* ]]; then
            keep_still "$package"
        fi
    done
}

# configure DIR OPTION...: sets up a build folder, anew where its options are others.
configure() {
    local dir=$1
    shift

    if [[ -f $dir/build.ninja && $(cat "$dir/options" 2>/dev/null) == "${CC-} $*" ]]; then
        return 0
    fi
    rm -rf "$dir"
    meson setup "$dir" "$@" && printf '%s\n' "${CC-} $*" >"$dir/options"
}
