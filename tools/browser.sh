#!/usr/bin/env bash
# Finds the Chromium that the tests of report.html drive, and installs Debian's where there is none. DAGN_PRE_CHROMIUM names another.
set -euo pipefail

die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

if [ -n "${DAGN_PRE_CHROMIUM:-}" ]; then
    [ -x "$DAGN_PRE_CHROMIUM" ] || die "DAGN_PRE_CHROMIUM=$DAGN_PRE_CHROMIUM is no program; unset it or name the browser's"
    exit 0
fi
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done

remedy="install Chromium (on Debian: apt-get install chromium), or name a Chromium or Chrome in DAGN_PRE_CHROMIUM"
command -v apt-get >/dev/null || die "no Chromium found, which the tests of report.html need; $remedy"
root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || die "no Chromium found, and installing it needs root; $remedy"
    root=(sudo -n)
fi
printf '\n== Chromium, for the tests of report.html\n'
install() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
install 2>/dev/null || { "${root[@]}" apt-get update -qq && install; } || die "Chromium could not be installed; $remedy"
command -v chromium >/dev/null || die "Chromium was installed but is not found; $remedy"
