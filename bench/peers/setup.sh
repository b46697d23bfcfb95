#!/usr/bin/env bash
# Installs peers for `saccade compare --peers` into build/peers, a virtual
# environment: all, or those named of torch, onnxruntime, ggml. Needs a minute
# and a network; run again, it does nothing. Nothing else needs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=build/peers

as_root() {
  if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

packages=(numpy)
for name in "${@:-all}"; do
  case "$name" in
    # Exactly this one: a looser request fetches what GPUs need, gigabytes.
    torch) packages+=(torch==2.13.0) ;;
    onnxruntime) packages+=(onnx onnxruntime) ;;
    ggml) packages+=(libggml-python) ;;
    all) packages+=(torch==2.13.0 onnx onnxruntime libggml-python) ;;
    openblas)
      echo "openblas is part of the program; nothing to install"
      ;;
    *)
      echo "setup.sh: there is no peer '$name'; there are torch," \
        "onnxruntime, ggml" >&2
      exit 2
      ;;
  esac
done

if [[ ! -x $folder/bin/pip ]]; then
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Installing python3-venv ..."
    as_root apt-get update -qq
    as_root apt-get install -y -qq python3-venv python3-pip
  fi
  echo "Making $folder ..."
  python3 -m venv "$folder"
fi
# What torch.compile builds includes them.
if [[ " ${packages[*]} " == *" torch"* ]] && ! python3 -c 'import os, sysconfig
os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null; then
  as_root apt-get update -qq
  as_root apt-get install -y -qq python3-dev
fi
echo "Installing ${packages[*]} into $folder ..."
"$folder/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
"$folder/bin/pip" list --disable-pip-version-check 2>/dev/null |
  grep -iE '^(torch|onnxruntime|libggml-python) ' || true
