#!/usr/bin/env bash
# Runs every fuzz target for so many seconds. Needs cargo-fuzz; installs it into .tools when missing.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
if [ ! -x .tools/bin/cargo-fuzz ]; then
  echo "building cargo-fuzz 0.13.2 into .tools/bin"
  cargo install --quiet --locked --root .tools --version 0.13.2 cargo-fuzz
fi
export RUSTC_BOOTSTRAP=1 PATH="$PWD/.tools/bin:$PATH"
for target in $(cargo fuzz list); do
  echo "== $target for $seconds s"
  cargo fuzz run "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048
done
