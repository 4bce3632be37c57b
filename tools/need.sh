#!/usr/bin/env bash
# Installs what a fresh Debian machine lacks, says what it does, and never asks.
#   tools/need.sh run    what building and running needs (GStreamer for the demo camera)
#   tools/need.sh test   that, and what the tests and lints need
#   tools/need.sh garage that, and the S3 server Garage for `make test-garage`
# Python and cargo tools go to .tools/ in this folder; versions are pinned here and in tools/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_deny_version=0.20.2
garage_version=2.5.0
run_packages=(
  build-essential pkg-config
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
  gstreamer1.0-libav gstreamer1.0-x gstreamer1.0-rtsp
)
test_packages=(ffmpeg gstreamer1.0-tools python3-venv postgresql rsyslog rsyslog-gnutls faketime chromium)

say() { printf '\033[1mneed:\033[0m %s\n' "$*"; }

install_debian() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      say "these Debian packages are missing, and this user may not install them without a password. Run:"
      echo "  sudo apt-get install --no-install-recommends ${missing[*]}"
      exit 1
    fi
    as_root=(sudo -n)
  fi
  say "installing Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

install_python() {
  local stamp=.tools/python/.requirements
  cmp -s tools/requirements.txt "$stamp" && return
  say "installing Python tools into .tools/python: $(grep -v '^#' tools/requirements.txt | tr '\n' ' ')"
  python3 -m venv .tools/python
  .tools/python/bin/pip install --quiet --disable-pip-version-check -r tools/requirements.txt
  cp tools/requirements.txt "$stamp"
}

# A program of crates.io, compiled fast rather than to run fast: cargo_install ROOT NAME VERSION OPTIONS...
cargo_install() {
  local root=$1 name=$2 version=$3
  shift 3
  say "building $name $version into $root/bin (some minutes, once)"
  CARGO_TARGET_DIR=.tools/build CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --quiet --locked --root "$root" --version "$version" "$@" "$name"
  rm -rf .tools/build
}

install_cargo_deny() {
  .tools/bin/cargo-deny --version 2>/dev/null | grep -q " $cargo_deny_version$" && return
  cargo_install .tools cargo-deny "$cargo_deny_version"
}

install_garage() {
  grep -qs "garage $garage_version " .tools/garage/.crates.toml && return
  cargo_install .tools/garage garage "$garage_version" --no-default-features --features bundled-libs,lmdb
}

command -v cargo >/dev/null || { say "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)"; exit 1; }
install_debian "${run_packages[@]}"
case "${1:-run}" in test | garage)
  install_debian "${test_packages[@]}"
  install_python
  install_cargo_deny
esac
if [ "${1:-run}" = garage ]; then install_garage; fi
