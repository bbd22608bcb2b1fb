#!/usr/bin/env bash
# A stand-in for gcloud: keeps a bucket, a queued resource and its two hosts in $FAKE, and really runs on them what is sent
# there. (In Python, its start would take most of the tests' time.)
#
#   calls.jsonl       the arguments of every call
#   faults/*.sh       faults to come, see `find_fault`
#   queued, node      the states of the TPU; no file: there is none
#   hosts/INDEX/      the home folder of each host, new with each TPU
#   bucket/           what is in gs://
#   remote-bin/       first on the PATH of a host

set -euo pipefail
shopt -s nullglob

record() {
  local argument text line=
  for argument in "$@"; do
    text=${argument//\\/\\\\}
    text=${text//\"/\\\"}
    line+=", \"${text//$'\n'/\\n}\""
  done
  printf '[%s]\n' "${line#, }" >> "$FAKE/calls.jsonl"
}

# A fault matches calls by a regular expression, leaves out `skip` of them, and meets the next `times`: the call fails with
# `message` and `code`, or on one `host` only, or the TPU is taken away before it (`preempt`).
find_fault() {
  local file seen
  for file in "$FAKE"/faults/*.sh; do
    match='' times=1 skip=0 message='' code=1 host='' preempt=''
    # shellcheck source=/dev/null
    source "$file"
    [[ $* =~ $match ]] || continue
    seen=$(($(cat "$file.seen" 2> /dev/null || echo 0) + 1))
    echo "$seen" > "$file.seen"
    if ((seen > skip && seen <= skip + times)); then return 0; fi
  done
  host=''
  return 1
}

fail() { echo "ERROR: (gcloud) $1" >&2; exit "${2:-1}"; }

create() {
  [ ! -e "$FAKE/queued" ] || fail 'ALREADY_EXISTS: there is one'
  echo WAITING_FOR_RESOURCES > "$FAKE/queued"
}

describe_queued() {
  [ -e "$FAKE/queued" ] || fail "NOT_FOUND: Resource 'queuedResources/tpu' was not found"
  cat "$FAKE/queued"
  if grep -q WAITING "$FAKE/queued"; then # what the next call finds
    echo ACTIVE > "$FAKE/queued"
    echo READY > "$FAKE/node"
    mkdir -p "$FAKE/hosts/0" "$FAKE/hosts/1"
  fi
}

describe_node() {
  [ -e "$FAKE/node" ] || fail "NOT_FOUND: Resource 'nodes/tpu' was not found"
  cat "$FAKE/node"
}

delete() {
  rm -f "$FAKE/queued" "$FAKE/node" "$FAKE/preempted"
  [ ! -e "$FAKE/hosts" ] || mv "$FAKE/hosts" "$(mktemp -d "$FAKE/former-XXXXXX")"
}

# on_hosts ACTION: a function of a host's home and index, on every host that --worker names.
on_hosts() {
  [ "$(cat "$FAKE/node")" = READY ] || fail "the TPU is $(cat "$FAKE/node")"
  local index failed=0 status
  for index in 0 1; do
    [[ $worker == all || $worker == "$index" ]] || continue
    status=0
    if [ "$host" = "$index" ]; then status=$code; else "$1" "$FAKE/hosts/$index" "$index" || status=$?; fi
    if [ "$status" -ne 0 ]; then
      echo "##### Command execution on worker $index failed with exit status $status. Continuing." >&2
      failed=$status
    fi
  done
  exit "$failed"
}

# As when a connection ends, what is left of the session is hung up.
ssh_to() {
  local session status=0 environment=(HOME="$1" PATH="$FAKE/remote-bin:$PATH" FAKE="$FAKE" HOSTNAME="w-$2")
  (cd "$1" && exec env -i "${environment[@]}" setsid bash -c "$command" < /dev/null) &
  session=$!
  wait "$session" || status=$?
  kill -HUP -- "-$session" 2> /dev/null || true
  return "$status"
}

scp_to() {
  local last=$((${#plain[@]} - 1))
  cp "${plain[@]:0:last}" "$1/${plain[last]#*:}"
}

on_disk() { realpath -m "${1/#gs:\//$FAKE/bucket}"; }

storage() {
  local source target
  source=$(on_disk "${plain[2]}")
  target=$(on_disk "${plain[3]:-.}")
  [ -e "$source" ] || fail "${plain[2]} matched no objects"
  case ${plain[1]} in
    cp) mkdir -p "$(dirname "$target")" && cp "$source" "$target" ;;
    rsync)
      mkdir -p "$target"
      cd "$source"
      find . -type f -printf '%P\n' | { grep -vP "${exclude:-^$}" || true; } | xargs -r -d '\n' cp --parents -t "$target"
      ;;
  esac
}

record "$@"
if find_fault "$*"; then
  if [ -n "$preempt" ]; then
    echo PREEMPTED > "$FAKE/node"
    touch "$FAKE/preempted"
  elif [ -z "$host" ]; then
    fail "$message" "$code"
  fi
fi
plain=() worker='' command='' exclude=''
for argument in "$@"; do
  case $argument in
    --worker=*) worker=${argument#*=} ;;
    --command=*) command=${argument#*=} ;;
    --exclude=*) exclude=${argument#*=} ;;
    -*) ;;
    *) plain+=("$argument") ;;
  esac
done
case "${plain[*]}" in
  storage*) storage ;;
  'compute tpus queued-resources create'*) create ;;
  'compute tpus queued-resources describe'*) describe_queued ;;
  'compute tpus queued-resources delete'*) delete ;;
  'compute tpus tpu-vm describe'*) describe_node ;;
  'compute tpus tpu-vm ssh'*) on_hosts ssh_to ;;
  'compute tpus tpu-vm scp'*) plain=("${plain[@]:4}"); on_hosts scp_to ;;
  *) fail "there is no command ${plain[*]}" 2 ;;
esac
