#!/usr/bin/env bash
# fusedrnn on an NVIDIA GPU: built, held to the reference, looked at by NVIDIA's sanitizers, repeated, timed. --help.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'END'
bench/gpu.sh [options] [STAGE...]      without stages: all, in this order, each within 8 minutes

  machine     what the machine lacks of what follows, as a list; nothing else runs then
  build       pip install without build isolation, into build-gpu/site: the Python used stays as it is
  alone       the parity suite on the GPU, kernel behind kernel: FUSEDRNN_OVERLAP=0 FUSEDRNN_GRAPHS=0
  parity      the same with steps that overlap, and graphs: pytest --backend cuda -m parity
  arrays      device arrays as a user has them: modules, streams, graphs and their replay, whole training steps
  limits      the GPU's rates, bandwidths and latencies; clusters that fit; gaps between kernels; cuDNN's time a step
  cluster     the parity suite with one plan forced: FUSEDRNN_PLAN=cluster
  grid        the same of grid
  cublaslt    the parity suite with cuBLASLt's products: FUSEDRNN_CUBLASLT=1
  memcheck    compute-sanitizer over small shapes, one stage for each of its tools
  racecheck
  initcheck
  synccheck
  leaks       compute-sanitizer --leak-check full: more calls leave no more memory behind
  repeat      the same bits from 100 runs of every cell, arithmetic and plan
  training    the character model on the CPU and on the GPU from equal weights, loss curves side by side
  steps       train_step against PyTorch, eager and as a CUDA graph; no call of it may wait for the GPU
  optim       optimizers against PyTorch's fused ones with clip_grad_norm_
  bench       microseconds a step against PyTorch's cuDNN; status 75 says that rows remain: run the stage again

  sanitize    stands for the four tools and leaks
  measure     stands for limits, steps, optim and bench
  --out DIR          results: gpu.json, a log for each stage, and what stages write (default: bench/results/gpu)
  --call SECONDS     for machines whose commands have a limit, 590 for one of ten minutes: no stage is begun that could
                     outlast it, and none that passed before into DIR; status 75 says that stages remain: run it again
  --archive FILE     at the end, whatever became of the stages, all of DIR as one .tar.gz
  --wheel FILE       build: install this wheel instead; for a machine without nvcc
  --emulator PLUGIN  rehearse without a GPU: libfusedrnn_simt.so in its place, tiny shapes, no sanitizers

Needs python3 ($PYTHON is used if set) with torch for CUDA, onnxruntime, numpy, tqdm, matplotlib, safetensors, pytest, hypothesis,
pybind11, scikit-build-core, cmake and ninja; a C++ compiler for the test backend of the parity stages; nvcc for build and limits, compute-sanitizer for the sanitizers. A stage that fails
ends there; those that do not need it go on. Status: 0 all passed, 1 a stage failed, 2 wrong usage, 3 no GPU, 75 stages remain.
END
}

readonly LIMIT=${FUSEDRNN_STAGE_SECONDS:-480}  # of a stage
readonly ROWS_REMAIN=75 NOT_RUN=77             # statuses of a stage that are no failures
readonly TOOLS=(memcheck racecheck initcheck synccheck)
readonly TABLES=(steps optim bench)
readonly STAGES=(machine build alone parity arrays limits cluster grid cublaslt "${TOOLS[@]}" leaks repeat training "${TABLES[@]}")
readonly PYTHON=${PYTHON:-python3}
# A stage of a sanitizer is slow by 10 to 100 times: the plans' own small shapes, which go through every kernel.
readonly SANITIZED=(tests/test_gpu_plans.py::test_sizes_around_tiles tests/test_gpu_plans.py::test_clusters
  tests/test_gpu_kernels.py tests/test_layer_norm.py tests/test_last.py tests/test_cross_entropy.py tests/test_clipped_update.py)

out=bench/results/gpu archive='' wheel='' emulator='' call='' stages=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --out | --archive | --wheel | --emulator | --call)
      (($# > 1)) || { echo "$1 needs a value: bench/gpu.sh --help" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    sanitize) stages+=("${TOOLS[@]}" leaks) ;;
    measure) stages+=(limits "${TABLES[@]}") ;;
    *)
      [[ " ${STAGES[*]} " == *" $1 "* ]] || { echo "no stage or option '$1': bench/gpu.sh --help" >&2; exit 2; }
      stages+=("$1")
      ;;
  esac
  shift
done
((${#stages[@]})) || stages=("${STAGES[@]}")
[[ $call =~ ^[0-9]*$ ]] || { echo "--call needs a number of seconds, it is '$call'" >&2; exit 2; }

if [[ -n $emulator ]]; then
  [[ -r $emulator ]] || { echo "--emulator $emulator: there is no such file" >&2; exit 2; }
  FUSEDRNN_CUDA_PLUGIN=$(realpath "$emulator")
  export FUSEDRNN_CUDA_PLUGIN
  backend=simt
else
  nvidia-smi -L >/dev/null 2>&1 || { echo 'no NVIDIA GPU here: nvidia-smi finds none' >&2; exit 3; }
  unset FUSEDRNN_CUDA_PLUGIN
  backend=cuda
fi
mkdir -p "$out"
out=$(realpath "$out")
site=$PWD/build-gpu/site
export PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1

within() { timeout --kill-after=10 "$LIMIT" "$@"; }

machine() {
  if [[ -n $emulator ]]; then
    echo 'a rehearsal needs no GPU'
    return "$NOT_RUN"
  fi
  within "$PYTHON" bench/gpu_machine.py
}

build() {
  rm -rf "$site"
  if [[ -n $wheel ]]; then
    within "$PYTHON" -m pip install --no-deps --target "$site" "$wheel"
  else
    FUSEDRNN_CUDA=$([[ -n $emulator ]] && echo OFF || echo ON) \
      within "$PYTHON" -m pip install --no-build-isolation --no-deps --target "$site" .
  fi
  "$PYTHON" -m fusedrnn doctor
  "$PYTHON" -c 'import sys, fusedrnn; sys.exit(fusedrnn.cuda.why_not())'
}

# suite NAME OPTIONS...: the parity suite; small in a rehearsal, which is not the place to run it.
suite() {
  local name=$1 selection=(-m parity)
  shift
  [[ -z $emulator ]] || selection=(tests/test_gru.py -m parity)
  within "$PYTHON" -m pytest -q -p no:cacheprovider --backend "$backend" "${selection[@]}" "$@" --junitxml="$out/$name.xml"
}
alone() { FUSEDRNN_OVERLAP=0 FUSEDRNN_GRAPHS=0 suite alone; }
parity() { suite parity; }
cublaslt() {
  "$PYTHON" -c 'import torch'  # whose copy of the library is taken
  FUSEDRNN_CUBLASLT=1 suite cublaslt
}

# A stack that the forced plan has no room for goes to another one. Tests that force plans themselves stay out, for
# they leave none behind.
forced() {
  if ! "$PYTHON" -c "from fusedrnn import _native; _native.force_plan('$1')"; then
    echo "this build has no plan $1"
    return "$NOT_RUN"
  fi
  FUSEDRNN_PLAN=$1 suite "$1" --ignore=tests/test_gpu_plans.py --ignore=tests/test_plan.py
}
cluster() { forced cluster; }
grid() { forced grid; }

arrays() {
  local selection=()
  [[ -z $emulator ]] || selection=(tests/test_device_array.py)
  within "$PYTHON" -m pytest -q -p no:cacheprovider -m cuda "${selection[@]}" --junitxml="$out/arrays.xml"
}

limits() {
  local options=(--budget $((LIMIT - 60)))
  [[ -z $emulator ]] || options=(--rehearse)
  within "$PYTHON" bench/cuda_unknowns.py "${options[@]}" --json "$out/limits.json"
}

# Fresh memory stays as it is for initcheck: filled with NaN it would count as written.
sanitized() {
  local command=(compute-sanitizer --tool "$1" --error-exitcode 86 --target-processes all
    "$PYTHON" -m pytest -q -x -p no:cacheprovider --backend cuda "${SANITIZED[@]}")
  printf '$ %s\n' "${command[*]}"
  if [[ -n $emulator ]]; then
    echo 'the emulator is no device of compute-sanitizer'
    return "$NOT_RUN"
  fi
  command -v compute-sanitizer >/dev/null || { echo 'no compute-sanitizer on the PATH: it is part of the CUDA toolkit'; return 1; }
  FUSEDRNN_POISON=$([[ $1 == initcheck ]] && echo 0 || echo 1) within "${command[@]}"
}
memcheck() { sanitized memcheck; }
racecheck() { sanitized racecheck; }
initcheck() { sanitized initcheck; }
synccheck() { sanitized synccheck; }

repeat() {
  local options=(--runs 100)
  [[ -z $emulator ]] || options=(--runs 2 --sizes 3 4 5 6)
  within "$PYTHON" bench/repeat_bits.py "${options[@]}" --output "$out/repeat_bits.json"
}

# leaked RUNS: bytes of the device that a process has not given back at its end.
leaked() {
  within compute-sanitizer --tool memcheck --leak-check full "$PYTHON" bench/repeat_bits.py --runs "$1" --sizes 3 4 5 6 |
    tee /dev/stderr | sed -nE 's/^.*LEAK SUMMARY: ([0-9]+) bytes.*$/\1/p'
}
# What a process keeps to its end may be there, but no more of it after more calls.
leaks() {
  if [[ -n $emulator ]]; then
    echo 'the emulator is no device of compute-sanitizer'
    return "$NOT_RUN"
  fi
  command -v compute-sanitizer >/dev/null || { echo 'no compute-sanitizer on the PATH: it is part of the CUDA toolkit'; return 1; }
  local few many
  few=$(leaked 1)
  many=$(leaked 3)
  echo "not given back at the end: ${few:-nothing said} bytes after one pass of each kind, ${many:-nothing said} after three"
  [[ -n $few && $few == "$many" ]]
}

training() {
  local options=()
  [[ -z $emulator ]] || options=(--rehearse)
  within "$PYTHON" bench/gpu_training.py "${options[@]}" --output "$out"
}

# rows SCRIPT STEM PATTERN: a table in parts; in a rehearsal the rows that match.
rows() {
  local options=(--budget $((LIMIT - 60)) --resume)
  [[ -z $emulator ]] || options=(--rehearse --quick --only "$3")
  within "$PYTHON" "bench/$1" --device cuda "${options[@]}" --output "$out/$2"
}
steps() { rows bench_step.py bench_step_cuda example; }
optim() { rows bench_optim.py bench_optim_cuda 'adam + clip'; }
bench() { rows bench_rnn.py bench_rnn_cuda 'gru infer*bf16*'; }

# Puts what became of a stage into gpu.json, beside what earlier runs put there.
note() {
  "$PYTHON" - "$out/gpu.json" "$backend" "$@" <<'END'
import json, sys
from datetime import datetime, timezone
from pathlib import Path
path, backend, stage, status, seconds, closing = sys.argv[1:]
path = Path(path)
notes = json.loads(path.read_text()) if path.exists() else {}
date = datetime.now(timezone.utc).isoformat(timespec="seconds")
notes[stage] = {"backend": backend, "date": date, "status": status, "seconds": int(seconds), "closing": closing}
path.write_text(json.dumps(notes, indent=1) + "\n")
END
}

pack() { [[ -z $archive ]] || tar -czf "$archive" -C "$out" .; }
trap pack EXIT

passed_before() {
  "$PYTHON" - "$out/gpu.json" "$backend" "$1" <<'END'
import json, sys
from pathlib import Path
path, backend, stage = Path(sys.argv[1]), *sys.argv[2:]
note = json.loads(path.read_text()).get(stage, {}) if path.exists() else {}
sys.exit((note.get("backend"), note.get("status")) != (backend, "passed"))
END
}

failed=0 built=1 remain=()
for stage in "${stages[@]}"; do
  if [[ -n $call ]]; then
    # What passed on another machine: what that one had, and a build that may not be here.
    if [[ $stage != machine && ($stage != build || -n $emulator || -d $site) ]] && passed_before "$stage"; then
      printf '\n==== %s: passed before\n' "$stage"
      continue
    fi
    if ((SECONDS + LIMIT + 10 > call)); then  # 10 for what timeout kills late
      remain+=("$stage")
      continue
    fi
  fi
  if [[ $stage != machine && $stage != build ]] && { ((!built)) || [[ ! -d $site ]]; }; then
    printf '\n==== %s: not run, the build is missing\n' "$stage"
    note "$stage" 'not run' 0 'the build is missing'
    failed=1
    continue
  fi
  printf '\n==== %s\n' "$stage"
  begin=$SECONDS
  set +e
  (set -e; "$stage") </dev/null 2>&1 | tee "$out/$stage.log"
  status=${PIPESTATUS[0]}
  set -e
  case $status in
    0) result=passed ;;
    "$ROWS_REMAIN") result='rows remain' ;;
    "$NOT_RUN") result='not run' ;;
    124 | 137) result="over $LIMIT s" failed=1 ;;
    *) result="failed, status $status" failed=1 ;;
  esac
  [[ $stage == build && $status != 0 ]] && built=0
  note "$stage" "$result" $((SECONDS - begin)) "$(grep -v '^ *$' "$out/$stage.log" | tail -n 1 | cut -c1-200 || true)"
  [[ $stage != machine || $failed == 0 ]] || exit 1
done

printf '\n==== stages, in %s\n' "$out"
"$PYTHON" - "$out/gpu.json" <<'END'
import json, sys
for stage, note in json.load(open(sys.argv[1])).items():
    print(f"{stage:10} {note['seconds']:4} s  {note['backend']:5} {note['status']:16} {note['closing']}")
END
((!failed && ${#remain[@]})) || exit "$failed"
echo "remains: ${remain[*]}"
exit "$ROWS_REMAIN"
