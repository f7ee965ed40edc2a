#!/usr/bin/env bash
# Runs each driver that was built through every work, form and way to wait at four sizes, with every word of every
# message checked. Fails unless nothing was wrong, nothing missing, and nothing left behind. What a driver cannot do is
# shown with its reason. Also: a driver ends when its standard input is closed, whether or not a peer has come.
#
# WARM and TIME are in milliseconds; names of drivers as arguments check only those.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

warm=${WARM:-20} time=${TIME:-50}
passed=0 failed=0 skipped=0
declare -A cannot

dir=
cleanup() { [ -n "$dir" ] && rm -rf "$dir"; }
trap cleanup EXIT

# Drivers that are built in, each as executable:name.
drivers() {
  local driver
  for driver in spsc:spsc unix:unix boost:boost iceoryx2:iceoryx2-pubsub iceoryx2:iceoryx2-requests aeron:aeron; do
    [ -x "bin/${driver%%:*}" ] || { echo "not built: ${driver#*:}" >&2; continue; }
    [ $# -eq 0 ] || [[ " $* " == *" ${driver%%:*} "* ]] || continue
    echo "$driver"
  done
}

field() { sed -n "s/.*\"$2\": *\"\{0,1\}\([^\",}]*\).*/\1/p" <<<"$1"; }

fail() { failed=$((failed + 1)); echo "FAIL $*"; }

# leftovers DIR names what a run has left in shared memory or in DIR.
leftovers() { ls -A "$1"; comm -13 <(echo "$shared_before") <(ls -A /dev/shm | grep -v '^bench-check' | sort) | grep '^bench'; }

# Opens a pipe for standard input of each side; closing 5 or 6 ends server or client.
open_inputs() {
  mkfifo "$dir/.in5" "$dir/.in6" "$dir/.out"
  exec 5<>"$dir/.in5" 6<>"$dir/.in6" 7<>"$dir/.out"
  rm "$dir/.in5" "$dir/.in6" "$dir/.out"
}

new_dir() {
  dir=$(mktemp -d /dev/shm/bench-check.XXXXXX)
  shared_before=$(ls -A /dev/shm | grep -v '^bench-check' | sort)
  open_inputs
}

end_dir() { exec 5>&- 6>&- 7>&-; rm -rf "$dir"; dir=; }

one() { # one EXECUTABLE NAME WORK FORM SIZE WAIT [TIME]
  local exe=$1 name=$2 work=$3 form=$4 size=$5 wait=$6 time=${7:-$time} line server client status=0
  local arguments=(-name "$name" -dir "" -work "$work" -form "$form" -size "$size" -inflight 16 -wait "$wait"
    -warm "$warm" -time "$time" -pause 0 -check 1)
  new_dir
  arguments[3]=$dir
  timeout 120 "bin/$exe" server "${arguments[@]}" </dev/fd/5 >&7 2>&1 5>&- 6>&- 7>&- &
  local pid=$!
  IFS= read -r -t 60 line <&7
  if [[ $line == *'"unsupported"'* ]]; then
    wait "$pid" || fail "$name $work $form $size $wait: status $? after unsupported"
    skipped=$((skipped + 1))
    cannot["$name: $(field "$line" unsupported)"]+=" $work/$form/$size"
    end_dir
    return
  fi
  if [ "$line" != ready ]; then
    fail "$name $work $form $size $wait: the server said '$line' instead of ready"
    end_dir
    wait "$pid"
    return
  fi
  client=$(timeout 120 "bin/$exe" client "${arguments[@]}" </dev/fd/6 2>&1 5>&- 6>&- 7>&- | tail -n 1) || status=$?
  wait "$pid" || status=$?
  IFS= read -r -t 5 server <&7
  local left
  left=$(leftovers "$dir")
  if [ "$status" = 0 ] && [ "$(field "$client" messages)" = 0 ] && [ $# -lt 7 ]; then
    end_dir
    one "$@" 2000 # a busy machine: too little time to measure one message
    return
  fi
  if [ "$status" != 0 ] || [ "$(field "$client" wrong)/$(field "$client" missing)" != 0/0 ] ||
    [ "$(field "$server" wrong)/$(field "$server" missing)" != 0/0 ] || [ "$(field "$client" messages)" = 0 ] || [ -n "$left" ]; then
    fail "$name $work $form $size $wait: status $status, left '$left', client '${client:0:300}', server '${server:0:300}'"
  else
    passed=$((passed + 1))
  fi
  end_dir
}

# ends checks that both sides end when their standard input is closed, in the middle of a run or before a client came.
ends() { # ends EXECUTABLE NAME with|alone
  local exe=$1 name=$2 how=$3 line work=oneway client=
  [ "$name" = iceoryx2-requests ] && work=requests
  new_dir
  local arguments=(-name "$name" -dir "$dir" -work "$work" -form copy -size 64 -inflight 1 -wait block -warm 60000
    -time 60000 -pause 0 -check 1)
  "bin/$exe" server "${arguments[@]}" </dev/fd/5 >&7 2>/dev/null 5>&- 6>&- 7>&- &
  local server=$!
  IFS= read -r -t 60 line <&7
  if [ "$how" = with ]; then
    "bin/$exe" client "${arguments[@]}" </dev/fd/6 >/dev/null 2>&1 5>&- 6>&- 7>&- &
    client=$!
    sleep 1
  fi
  exec 5>&- 6>&- # the only writers of the two pipes
  local pid
  for pid in $server $client; do
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || continue 2
      sleep 0.1
    done
    fail "$name ($how a client): process $pid runs on after its standard input was closed"
    kill -9 "$pid"
  done
  wait 2>/dev/null
  local left
  left=$(leftovers "$dir")
  if [ -n "$left" ]; then fail "$name ($how a client): left '$left'"; else passed=$((passed + 1)); fi
  end_dir
}

for driver in $(drivers "$@"); do
  exe=${driver%%:*} name=${driver#*:}
  for work in roundtrip oneway both requests; do
    for form in copy view batch; do
      for size in 8 64 4096 1048576; do
        for wait in spin block; do one "$exe" "$name" "$work" "$form" "$size" "$wait"; done
      done
    done
  done
  ends "$exe" "$name" alone
  ends "$exe" "$name" with
  echo "checked $name"
done

for reason in "${!cannot[@]}"; do
  echo "unsupported by $reason:$(tr ' ' '\n' <<<"${cannot[$reason]}" | sort -u | tr '\n' ' ')"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
