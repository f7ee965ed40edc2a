#!/usr/bin/env bash
# Checks everything: ci/check.sh            runs all stages,
#                    ci/check.sh vet laws   only these.
#
# Stages run one after the other, because the tests with real processes want
# the machine to themselves. A stage that cannot run is a failure: what was not
# checked does not pass. On a bare Debian machine, as root, missing tools are
# installed; anywhere else they are named.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export LC_ALL=C
export CI=true # to some tests: fail where you would skip
# The binaries built here carry no version, and asking git for one fails in a
# checkout that belongs to another user.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

stages=(tools modules format vet systems arm64 staticcheck laws test race demo chaos mutants tla)

# staticcheck runs at a version and not as a tool of go.mod, where it would
# enter the module graph of everybody who imports ipc.
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2

# A hung test says so, with its goroutines, before the CI service gives up.
test_timeout=30m

# need COMMAND PACKAGE... sees to it that COMMAND exists.
need() {
	local command=$1
	shift
	if command -v "$command" >/dev/null; then
		return
	fi
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		echo "$command is missing; Debian has it in: $*" >&2
		return 1
	fi
	echo "installing $*, for $command"
	mkdir -p /usr/share/man/man1 # Java's packages want it; minimal images lack it
	export DEBIAN_FRONTEND=noninteractive
	local log
	log=$(mktemp)
	if ! { apt-get -qq update && apt-get -qq -y --no-install-recommends install "$@"; } >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
	command -v "$command"
}

stage_tools() {
	if ! command -v go >/dev/null; then
		echo "go is missing; go.mod names the version" >&2
		return 1
	fi
	need gcc gcc libc6-dev         # go test -race links with it
	need java default-jre-headless # ci/tlc.sh
	need mvn maven                 # ci/tlc.sh fetches the model checker with it
	go version
	uname -srm
	echo "$(nproc) processors"
}

stage_modules() {
	go mod download
	go mod verify
	go mod tidy -diff
}

stage_format() {
	local unformatted
	unformatted=$("$(go env GOROOT)/bin/gofmt" -s -l .)
	if [ -n "$unformatted" ]; then
		printf 'gofmt -s -w would change:\n%s\n' "$unformatted" >&2
		return 1
	fi
}

stage_vet() {
	go vet ./...
}

# Whoever imports ipc can build on other systems, where it says
# errors.ErrUnsupported.
stage_systems() {
	local system
	for system in darwin/arm64 windows/amd64 freebsd/amd64 linux/386; do
		echo "$system"
		GOOS=${system%/*} GOARCH=${system#*/} go build ./ipc/...
	done
}

stage_arm64() {
	GOOS=linux GOARCH=arm64 go build ./...
	GOOS=linux GOARCH=arm64 go vet ./...
}

# It wants a newer Go than the module does.
stage_staticcheck() {
	GOTOOLCHAIN=auto go run "$staticcheck" ./...
}

stage_laws() {
	go test -short -count=1 -timeout "$test_timeout" ./ci
}

# The rest of ci, and tla, have stages of their own, and no goroutines to race.
packages() {
	go list ./... | grep -Ev '/(ci|tla)$'
}

stage_test() {
	local list
	list=$(packages)
	# shellcheck disable=SC2086 # one word a package
	go test -count=1 -p 1 -timeout "$test_timeout" $list
}

# chaos and model run their short forms: what they judge is the same, only slower.
stage_race() {
	local list
	list=$(packages | grep -Ev '/(chaos|model)$')
	# shellcheck disable=SC2086 # one word a package
	CGO_ENABLED=1 go test -race -count=1 -p 1 -timeout "$test_timeout" $list
	CGO_ENABLED=1 go test -race -short -count=1 -p 1 -timeout "$test_timeout" ./chaos ./model
}

stage_demo() {
	local out key
	out=$(go run ./cmd/tandem demo -json)
	echo "$out"
	for key in lost duplicated out_of_order; do
		if ! grep -Eq "\"$key\": *0[^0-9.]" <<<"$out"; then
			echo "demo: $key is not 0" >&2
			return 1
		fi
	done
	if ! grep -Eq '"kills": *[1-9]' <<<"$out"; then
		echo "demo: nothing was killed, so nothing was shown" >&2
		return 1
	fi
}

# All layers for a reader, saved, and judged once more from what was saved.
stage_chaos() {
	local out status=0
	out=$(mktemp -d)
	{ go run ./cmd/tandem chaos -time 1m -out "$out" && go run ./cmd/tandem chaos judge "$out"; } || status=$?
	rm -rf "$out"
	return "$status"
}

# Each rule is left out of the code once, and other bugs are planted: somebody
# must notice.
stage_mutants() {
	go test -count=1 -timeout "$test_timeout" ./chaos -run EachPlantedBug -mutants -v
}

stage_tla() {
	go test -count=1 -timeout "$test_timeout" ./tla
}

chosen=("$@")
if [ $# = 0 ]; then
	chosen=("${stages[@]}")
fi
for stage in "${chosen[@]}"; do
	if [[ " ${stages[*]} " != *" $stage "* ]]; then
		echo "check: no stage is called $stage; there are: ${stages[*]}" >&2
		exit 2
	fi
done

summary=""
stage=
passed=
# finish says passed only where the last line was reached: a script that is
# killed comes here with the status of whatever it did last.
finish() {
	printf '\n%s' "$summary"
	if [ -n "$passed" ]; then
		printf 'check: passed in %d s\n' "$SECONDS"
	else
		printf 'check: FAILED in %s after %d s\n' "$stage" "$SECONDS"
	fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for stage in "${chosen[@]}"; do
	printf '\n== %s\n' "$stage"
	begun=$SECONDS
	"stage_$stage"
	took=$((SECONDS - begun))
	printf -- '-- %s: %d s\n' "$stage" "$took"
	summary+=$(printf '%-12s %5d s' "$stage" "$took")$'\n'
done
passed=yes
