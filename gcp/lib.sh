# shellcheck shell=bash
# What the verbs share: settings, options, commands that are said before they run, the state of the TPU and of the job.

set -euo pipefail

gcp=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
root=${gcp%/*}
verb=gcp/${0##*/}
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$gcp/env.sh"

location=(--project="$PROJECT" --zone="$ZONE" --quiet)
read -ra ssh_flags <<< "$SSH_FLAGS"
scratch=$(mktemp -d)
costs=     # not empty: say at the exit that the TPU costs money
dry_state= # what a dry run takes the state of the TPU for

say() { echo "$verb: $*" >&2; }
say_done() { [ -n "${DRY_RUN:-}" ] || say "$@"; }
die() { local code=$1; shift; say "$@"; exit "$code"; }

at_exit() {
  rm -rf "$scratch"
  if [ -n "$costs" ] && [ -z "${DRY_RUN:-}" ] && [ -z "${IN_SWEEP:-}" ]; then
    say "$TPU_NAME ($ACCELERATOR_TYPE, $PROVISIONING, $ZONE) costs money for as long as it exists:" \
      "gcp/delete removes it"
  fi
}
trap at_exit EXIT
# gcloud turns Ctrl-C into an ordinary failure, after which bash would go on.
trap 'exit 130' INT
trap 'exit 143' TERM

# options FLAGS ARGUMENT...: reads leading options and checks the settings. Leaves the rest in `arguments` and the FLAGS
# (words that the verb takes besides --help and --dry-run) that were given in `given`.
options() {
  local flags=" $1 "
  shift
  given=' '
  while [[ ${1:-} == -* ]]; do
    case $1 in
      -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
      --dry-run) export DRY_RUN=1 ;;
      *) [[ $flags == *" $1 "* ]] || die 2 "unknown option $1; $verb --help tells which there are"
         given+="$1 " ;;
    esac
    shift
  done
  arguments=("$@")
  local name missing=
  for name in PROJECT ZONE BUCKET; do
    [ -n "${!name}" ] || missing+=" $name"
  done
  [ -z "$missing" ] || die 2 "set$missing in gcp/env.sh or in the environment"
  [[ $PROVISIONING == spot || $PROVISIONING == on-demand ]] ||
    die 2 "PROVISIONING must be spot or on-demand, got $PROVISIONING"
  for name in POLL_SECONDS RETRY_SECONDS RETRIES LOCK_SECONDS; do
    [[ ${!name} =~ ^(0|[1-9][0-9]{0,6})$ ]] || die 2 "$name must be a whole number, got ${!name}"
  done
  [ -n "${DRY_RUN:-}" ] || command -v gcloud > /dev/null || die 2 "gcloud must be installed and on the PATH"
}

no_arguments() { [ ${#arguments[@]} -eq 0 ] || die 2 "takes no argument, got ${arguments[0]}"; }

say_command() {
  local line
  printf -v line ' %q' "$@"
  echo "+$line" >&2
}
say_and_do() {
  say_command "$@"
  [ -n "${DRY_RUN:-}" ] || "$@"
}

# passing: whether the last command of `attempt` failed for a reason that may pass: quota, capacity, a service or
# network that was away, a connection that broke (ssh's 255).
passing() {
  local reasons='quota|RESOURCE_EXHAUSTED|capacity|stockout|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|internal error'
  reasons+='|"?code"?: ?(8|10|13|14|429|50[0-9])([^0-9]|$)|timed out|connection|could not (resolve|fetch)'
  reasons+='|(code|status) \[?255'
  grep -qiE "$reasons" "$scratch/errors"
}

# attempt COMMAND...: say_and_do, which keeps what the command writes to stderr in $scratch/errors, too.
attempt() {
  say_command "$@"
  [ -n "${DRY_RUN:-}" ] || { "$@" 2>&1 >&3 3>&- | tee "$scratch/errors" >&2; } 3>&1
}

# persist COMMAND...: repeats the command for as long as it fails for a reason that may pass, RETRIES times at most.
persist() {
  local try code
  for ((try = 1; ; try++)); do
    attempt "$@" && return
    code=$?
    passing || return "$code"
    if [ "$try" -gt "$RETRIES" ]; then
      say "gave up after $RETRIES repetitions (RETRIES)"
      return "$code"
    fi
    say "this may pass; repetition $try of $RETRIES follows"
    back_off "$try"
  done
}

back_off() { sleep $((RETRY_SECONDS << ($1 > 6 ? 5 : $1 - 1))); }

# described KIND FORMAT: a field of the queued resource (queued-resources) or of the node (tpu-vm); NONE without one.
described() {
  if ! persist gcloud compute tpus "$1" describe "$TPU_NAME" "${location[@]}" --format="$2"; then
    grep -qE 'NOT_FOUND|was not found' "$scratch/errors" || return 1
    echo NONE
  fi
}

# tpu_state: NONE, WAITING (in the queue or being made), READY, DELETING, or GONE (preempted or failed: it must be
# deleted and created again).
tpu_state() {
  local queued node
  queued=$(described queued-resources 'value(state.state)') || return 1
  case $queued in
    NONE | DELETING) echo "$queued"; return ;;
    SUSPENDING | SUSPENDED | FAILED) say "the queued resource is $queued"; echo GONE; return ;;
    ACTIVE) ;;
    *) if [ -n "${DRY_RUN:-}" ]; then echo "$dry_state"; else say "the queued resource is $queued"; echo WAITING; fi
       return ;;
  esac
  node=$(described tpu-vm 'value(state)') || return 1
  case $node in
    READY) echo READY ;;
    NONE | PREEMPTED | TERMINATED | STOPPING | STOPPED | DELETING) say "the node is $node"; echo GONE ;;
    *) say "the node is $node"; echo WAITING ;;
  esac
}

# on_worker all|INDEX COMMAND...: runs a command, quoted as needed, in the home folder of workers.
on_worker() {
  local command
  printf -v command ' %q' "${@:2}"
  persist gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${location[@]}" --worker="$1" --ssh-flag=-oConnectTimeout=30 \
    --ssh-flag=-oServerAliveInterval=30 ${ssh_flags[@]+"${ssh_flags[@]}"} --command="${command# }"
}

# worker_states: a line for each worker, see worker.sh; none before the first setup.
worker_states() {
  on_worker all bash -c 'test ! -e bertjax/worker.sh || bash bertjax/worker.sh state' | sed -n 's/^bertjax-worker //p'
}

# what_to_install: builds WHEEL unless it is set, and checks that it and the other files for the workers are there.
what_to_install() {
  if [ -z "$WHEEL" ]; then
    say_and_do make -C "$root" wheel >&2
    for WHEEL in "$root"/dist/bertjax-*.whl; do :; done
  fi
  local file
  for file in "$WHEEL" "$CONSTRAINTS" ${DATA_DIR:+"$DATA_DIR"}; do
    [ -e "$file" ] || [ -n "${DRY_RUN:-}" ] || die 2 "$file must exist; WHEEL, CONSTRAINTS or DATA_DIR names it"
  done
}

# use_run_dir: sets RUN_DIR to the --run-dir among the arguments for bertjax, or adds it to them; checks it.
use_run_dir() {
  local index argument given_dir=
  for ((index = 0; index < ${#arguments[@]}; index++)); do
    argument=${arguments[index]}
    case $argument in
      --run-dir | --run_dir) given_dir=1 RUN_DIR=${arguments[index + 1]:-} ;;
      --run-dir=* | --run_dir=*) given_dir=1 RUN_DIR=${argument#*=} ;;
    esac
  done
  [[ $RUN_DIR == gs://?* ]] ||
    die 2 "--run-dir must be in a bucket (gs://...), got ${RUN_DIR:-nothing}: the disk of a TPU goes with the TPU"
  [ -n "$given_dir" ] || arguments+=(--run-dir "$RUN_DIR")
}
