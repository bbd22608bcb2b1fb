#!/usr/bin/env bash
# What runs on a TPU host, where gcp/setup copies it into ~/bertjax. Every command may be repeated.
#
#   worker.sh install WHEEL CONSTRAINTS EXTRAS PYTHON [PACKAGE...]   a virtual environment with bertjax
#   worker.sh data URL                     a copy of a bucket's folder, as `data`
#   worker.sh start LOG_DIR ARGUMENT...    bertjax ARGUMENT..., detached; one job at a time
#   worker.sh state                        "bertjax-worker HOST running|exit N|lost|idle | last line of the log"
#   worker.sh log                          the end of the log
#   worker.sh keep-log LOG_DIR             a copy of the log in a bucket

set -euo pipefail
cd "${BASH_SOURCE[0]%/*}"

UV_VERSION=0.13.9

fail() { echo "$HOSTNAME: $2" >&2; exit "$1"; }

# The supervisor of a job holds a lock, which, unlike a file with its process id, goes with it however it ends.
running() { ! flock --shared --nonblock lock true; }

# The Python of a TPU image may be older than bertjax needs; uv brings one.
install() {
  local wheel=$1 constraints=$2 extras=$3 python=$4 wanted
  shift 4
  ! running || fail 1 "a job is running, nothing was installed"
  wanted="$(cat "$wheel" "$constraints" | sha256sum) $extras $python $*"
  if [ "$(cat installed 2> /dev/null)" = "$wanted" ]; then
    echo "$HOSTNAME: $wheel is installed"
    return
  fi
  rm -f installed
  python3 -m pip install --quiet --upgrade --target uv "uv==$UV_VERSION"
  uv/bin/uv venv --quiet --clear --python "$python" venv
  uv/bin/uv pip install --quiet --python venv/bin/python --constraint "$constraints" "./${wheel}[$extras]" "$@"
  venv/bin/bertjax --help > /dev/null
  echo "$wanted" > installed
  echo "$HOSTNAME: installed $wheel"
}

data() {
  mkdir -p data
  gcloud storage rsync --recursive --delete-unmatched-destination-objects "$1" data
}

start() {
  local log_dir=$1 command tries
  shift
  command="bertjax $(printf '%q ' "$@")"
  if running; then
    [ "$(cat command)" = "$command" ] || fail 2 "another job is running, nothing was started: $(cat command)"
    echo "$HOSTNAME: already running: $command"
    return
  fi
  [ -e installed ] || fail 1 "bertjax is not installed; gcp/setup does that"
  rm -f exit_code
  echo "$command" > "command"
  setsid nohup bash ./worker.sh supervise "$log_dir" "$@" >> log 2>&1 < /dev/null &
  for ((tries = 0; tries < 400; tries++)); do
    if running || [ -e exit_code ]; then
      echo "$HOSTNAME: started: $command"
      return
    fi
    sleep 0.02
  done
  fail 1 "the job did not start; ~/bertjax/log may say why"
}

supervise() {
  local log_dir=$1 code=0
  shift
  exec 9> lock
  flock --wait 5 9
  # When the host shuts down, the job gets SIGTERM as well: wait for it and keep its exit code.
  trap : TERM
  echo "== $(date -u +%FT%TZ) $(cat command)"
  venv/bin/bertjax "$@" 9>&- || code=$?
  echo "== $(date -u +%FT%TZ) exit code $code"
  echo "$code" > exit_code.new
  mv exit_code.new exit_code
  timeout 60 bash ./worker.sh keep-log "$log_dir" 9>&-
}

state() {
  local what=idle
  if running; then
    what=running
  elif [ -e exit_code ]; then
    what="exit $(cat exit_code)"
  elif [ -e command ]; then
    what=lost
  fi
  echo "bertjax-worker $HOSTNAME $what | $(tail -n 1 log 2> /dev/null | tr -d '\000-\037' | cut -c 1-200)"
}

log() { tail -n 30 log; }

keep_log() { [ ! -e log ] || gcloud storage cp log "$1/$HOSTNAME.log"; }

main() {
  case ${1:-} in
    install) install "${@:2}" ;;
    data) data "${@:2}" ;;
    start) start "${@:2}" ;;
    supervise) supervise "${@:2}" ;;
    state) state ;;
    log) log ;;
    keep-log) keep_log "${@:2}" ;;
    *) fail 2 "there is no command '${1:-}'" ;;
  esac
}

# On one line: a later setup replaces this file, and bash reads a script as it goes.
main "$@"; exit
