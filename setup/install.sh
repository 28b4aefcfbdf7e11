#!/usr/bin/env bash
# Installs what is missing to build ktstr and to run its guests, on Debian 12 or newer. Does nothing where all is there.
set -euo pipefail

# Debian package and a file that shows it is installed.
wanted=(
  clang-19:/usr/bin/clang-19
  llvm-19:/usr/bin/llvm-strip-19
  qemu-system-x86:/usr/bin/qemu-system-x86_64
  linux-source-6.12:/usr/src/linux-source-6.12.tar.xz
  gcc:/usr/bin/gcc
  libc6-dev:/usr/include/stdio.h
  make:/usr/bin/make
  pkg-config:/usr/bin/pkg-config
  binutils:/usr/bin/strip
  flex:/usr/bin/flex
  bison:/usr/bin/bison
  bc:/usr/bin/bc
  pahole:/usr/bin/pahole
  lz4:/usr/bin/lz4
  xz-utils:/usr/bin/xz
  kmod:/usr/bin/kmod
  perl:/usr/bin/perl
  git:/usr/bin/git
  ca-certificates:/etc/ssl/certs/ca-certificates.crt
  libelf-dev:/usr/include/libelf.h
  libssl-dev:/usr/include/openssl/opensslv.h
  zlib1g-dev:/usr/include/zlib.h
  libglib2.0-dev:/usr/include/glib-2.0/glib.h
  python3-venv:/usr/share/doc/python3-venv
  gpgv:/usr/bin/gpgv
  gnupg:/usr/bin/gpg
  stress-ng:/usr/bin/stress-ng
  rt-tests:/usr/bin/hackbench
)
missing=()
for entry in "${wanted[@]}"; do
  package=${entry%%:*} file=${entry#*:}
  [ -e "$file" ] || [ -e "/usr/share/doc/$package" ] || [ -e "${file/\/usr\/bin/\/bin}" ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "error: this needs Debian's apt-get; install by hand: ${missing[*]}" >&2; exit 14; }
  sudo=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "error: not root and no sudo; run as root: apt-get install ${missing[*]}" >&2; exit 14; }
    sudo=(sudo)
  fi
  echo "installing: ${missing[*]}"
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" \
    || { echo "error: apt-get could not install: ${missing[*]} (linux-source-6.12 is in Debian 12's security suite)" >&2; exit 14; }
fi

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
command -v cargo >/dev/null || { echo "error: no Rust toolchain; install one with rustup" >&2; exit 14; }
cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest
