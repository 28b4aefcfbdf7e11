#!/usr/bin/env bash
# schedulers.sh SOURCE DIR: builds the schedulers in tools/sched_ext of a kernel source (a directory or a tarball) for the kernel in
# DIR, once, and prints where they are.
set -euo pipefail

source=$1 dir=$2
built=$dir/schedulers
if [ ! -e "$built" ]; then
  [ -d "$source" ] || [[ $source == *.tar* ]] \
    || { echo "error: no source directory and no tarball, which the kernel's own schedulers are built from: $source" >&2; exit 14; }
  echo "building the schedulers of $source" >&2
  work=$(mktemp -d) partial=$(mktemp -d "$built.XXXXXX")
  trap 'rm -rf "$work" "$partial"' EXIT
  # What tools/sched_ext, libbpf and bpftool are made of.
  parts=(Makefile include kernel/bpf scripts tools)
  if [ -d "$source" ]; then
    tar -C "$source" -c "${parts[@]}" | tar -C "$work" -x
  else
    tar -C "$work" --strip-components=1 --wildcards -xf "$source" "${parts[@]/#/*/}"
  fi
  # In `sim` every byte counts, and this directory has another name each time.
  anywhere=-ffile-prefix-map=$work=.
  make -C "$work/tools/sched_ext" -j"$(nproc)" CC="gcc $anywhere" CLANG="clang-19 $anywhere" LLVM_STRIP=llvm-strip-19 \
    VMLINUX_BTF="$dir/vmlinux" >"$work/log" 2>&1 || { tail -30 "$work/log" >&2; exit 1; }
  cp "$work"/tools/sched_ext/build/bin/* "$partial"
  chmod 755 "$partial"
  # Complete under its name, or not there; another one may have been faster.
  mv -T "$partial" "$built" || [ -e "$built" ]
fi
echo "$built"
