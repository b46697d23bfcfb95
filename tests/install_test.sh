#!/usr/bin/env bash
# Installs a build into an empty prefix, moves it, and builds a stranger's
# project against it: C++ and C, g++ and clang++, shared, static, pkg-config.
# Then the Debian packages, and the ABI of the C library against its dump.
#
#   bash tests/install_test.sh BUILD README_EXAMPLE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$1
easy=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for component in lib dev; do
  cmake --install "$build" --prefix "$work/first" --component $component \
    >/dev/null
done
mv "$work/first" "$work/moved"
prefix=$work/moved
lib=$(dirname "$(find "$prefix" -name libsaccade_c.so)")
cp "$here"/install/* "$work"
cp "$easy" "$work/easy.cc"

run() {
  echo "+ $*"
  LD_LIBRARY_PATH=$lib "$@" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
  }
}

for kind in shared static; do
  for compilers in g++:gcc clang++:clang; do
    cxx=${compilers%:*}
    dir=$work/$kind-$cxx
    run cmake -S "$work" -B "$dir" -DCMAKE_PREFIX_PATH="$prefix" \
      -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_C_COMPILER="${compilers#*:}" \
      -DSACCADE_KIND=$kind -DEXAMPLES="$here/examples"
    run cmake --build "$dir"
    run "$dir/easy" softmax.naive+rope
    run "$dir/plain"
    run "$dir/attention_c" linear.elu
  done
done

run cmake -S "$here/examples/plugin" -B "$work/plugin" \
  -DCMAKE_PREFIX_PATH="$prefix"
run cmake --build "$work/plugin"
run "$build/saccade" --plugin "$work/plugin/pool_mean.so" \
  verify --effort quick --only pool.mean

# A decoder, in C++ and in Python, on a model that the program trained: both
# write what the program writes, through its own attention and another.
cat "$here"/*_test.cc >"$work/text"
run "$build/saccade" train softmax.flash+rope --corpus "$work/text" \
  --steps 60 -t 1 -o "$work/model"
run cmake -S "$here/examples/decoder" -B "$work/decoder" \
  -DCMAKE_PREFIX_PATH="$prefix"
run cmake --build "$work/decoder"
written() {
  LD_LIBRARY_PATH=$lib PYTHONPATH=$here/../common/python \
    PYTHONDONTWRITEBYTECODE=1 SACCADE_LIBRARY=$lib/libsaccade_c.so \
    "$@" 2>"$work/log" || cat "$work/log"
}
for spec in softmax.flash+rope softmax.window:size=16+rope linear.elu; do
  echo "+ one text by three programs, $spec"
  ask=("$work/model" "  const " 60 "$spec")
  program=$(written "$build/saccade" generate "$work/model" --temperature 0 \
    --prompt "${ask[1]}" -n "${ask[2]}" --variant "$spec")
  cxx=$(written "$work/decoder/decoder" "${ask[@]}")
  python=$(written /usr/bin/python3 "$here/examples/decoder/decoder.py" \
    "${ask[@]}")
  if [[ $program != "$cxx" || $program != "$python" || -z $program ]]; then
    printf '%s\n' "they differ:" "$program" "$cxx" "$python"
    exit 1
  fi
done

export PKG_CONFIG_PATH=$lib/pkgconfig
run gcc -std=c11 "$here/examples/attention.c" -o "$work/by_pkg_config" \
  $(pkg-config --cflags --libs saccade-c) -lm
run "$work/by_pkg_config"
run g++ -std=c++20 "$work/easy.cc" -o "$work/easy_by_pkg_config" \
  $(pkg-config --cflags --libs saccade)
run "$work/easy_by_pkg_config"

echo "+ packages: what they hold, what they want, a consumer of each"
run cpack -G "DEB;TGZ" --config "$build/CPackConfig.cmake" -B "$work/packages"
wants() {  # PACKAGE NAME...: it depends on these
  local depends
  depends=$(dpkg-deb -f "$work"/packages/"$1"_*.deb Depends)
  for name in "${@:2}"; do
    [[ " ${depends//,/ } " == *" $name "* ]] || {
      echo "$1 does not depend on $name: $depends"
      exit 1
    }
  done
}
wants libsaccade0 libc6 libstdc++6 libtbb12 libhwy1
wants libsaccade-dev libsaccade0 libtbb-dev libhwy-dev
wants saccade libopenblas0 libfmt9
for deb in "$work"/packages/*.deb; do
  dpkg -x "$deb" "$work/debian"
  name=$(dpkg-deb -f "$deb" Package)
  cmp "$here/../LICENSE" "$work/debian/usr/share/doc/$name/copyright"
done
mkdir "$work/archive"
tar -xzf "$work"/packages/saccade-*.tar.gz -C "$work/archive" \
  --strip-components=1
for root in "$work/debian/usr" "$work/archive"; do
  dir=$(mktemp -d -p "$work")
  run cmake -S "$work" -B "$dir" -DCMAKE_PREFIX_PATH="$root" \
    -DSACCADE_KIND=shared -DEXAMPLES="$here/examples"
  run cmake --build "$dir"
  libraries=$(dirname "$(find "$root" -name libsaccade_c.so)")
  LD_LIBRARY_PATH=$libraries "$dir/easy" softmax.naive+rope >/dev/null
  LD_LIBRARY_PATH=$libraries "$dir/attention_c" linear.elu >/dev/null
  run "$root/bin/saccade" --plugin "$work/plugin/pool_mean.so" list
done

echo "+ only saccade_* is exported from libsaccade_c"
if nm -D --defined-only "$lib/libsaccade_c.so" | grep -v ' saccade_'; then
  exit 1
fi
echo "+ the C ABI is that of tests/abi/saccade_c.abi"
abidw --exported-interfaces-only --headers-dir "$prefix/include" \
  --drop-private-types --no-corpus-path --no-show-locs \
  --no-comp-dir-path "$lib/libsaccade_c.so" --out-file "$work/now.abi"
# 4: a change that keeps old programs working; 8: one that does not.
abidiff --no-added-syms "$here/abi/saccade_c.abi" "$work/now.abi" || {
  code=$?
  if ((code & 9)); then
    echo "the ABI changed; if it must, raise SOVERSION and renew the dump" >&2
    exit 1
  fi
}
echo ok
