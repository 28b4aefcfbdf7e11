#!/usr/bin/env bash
# schedulers.sh SOURCE DIR: builds the schedulers in tools/sched_ext of a kernel source (a directory or a tarball) for the kernel in
# DIR, once, and prints where they are.
set -euo pipefail

source=$1 dir=$2
if [ ! -e "$dir/schedulers" ]; then
  echo "building the schedulers of $source" >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # What tools/sched_ext, libbpf and bpftool are made of.
  parts=(Makefile include kernel/bpf scripts tools)
  if [ -d "$source" ]; then
    tar -C "$source" -c "${parts[@]}" | tar -C "$work" -x
  else
    tar -C "$work" --strip-components=1 --wildcards -xf "$source" "${parts[@]/#/*/}"
  fi
  make -C "$work/tools/sched_ext" -j"$(nproc)" CLANG=clang-19 LLVM_STRIP=llvm-strip-19 VMLINUX_BTF="$dir/vmlinux" >"$work/log" 2>&1 \
    || { tail -30 "$work/log" >&2; exit 1; }
  # Complete under its name, or not there.
  rm -rf "$dir/schedulers.partial"
  cp -r "$work/tools/sched_ext/build/bin" "$dir/schedulers.partial"
  mv -T "$dir/schedulers.partial" "$dir/schedulers"
fi
echo "$dir/schedulers"
