#!/usr/bin/env bash
# Checks everything: ci/check.sh            runs all stages,
#                    ci/check.sh vet laws   only these,
#                    ci/check.sh quick      what is worth two minutes before each commit.
#
# Stages run one after the other, because the tests with real processes want
# the machine to themselves; the model checker alone runs beside them. A stage that cannot run is a failure: what was not
# checked does not pass. What a machine cannot have at all (an emulator of another
# machine, a data base of vulnerabilities) is told at the end, as NOT RUN. On a bare
# Debian machine, as root, missing tools are installed; anywhere else they are named.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export LC_ALL=C
export CI=true # to some tests: fail where you would skip
# The binaries built here carry no version, and asking git for one fails in a
# checkout that belongs to another user.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"
# A process with the race detector waits for a second before it exits, for what others may
# still report. The tests start thousands of them.
export GORACE="atexit_sleep_ms=10${GORACE:+ $GORACE}"

stages=(tools modules format vet systems arm64 staticcheck gosec vulnerabilities laws guide guard test race integrations fuzz demo chaos mutants tla)

# What runs only if it is asked for: emulated takes four to five minutes, with which the
# whole would take more than forty, and not every survivor of mutation is judged yet.
more=(quick emulated mutation)

# Analysers run at a version and not as tools of go.mod, where they would enter
# the module graph of everybody who imports ipc.
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
gosec=github.com/securego/gosec/v2/cmd/gosec@v2.30.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

# A hung test says so, with its goroutines. That takes long, because a machine may
# be busy: every wait in a test has a watchdog of its own, and this is only for
# what the watchdogs do not see.
test_timeout=3h

# not_run says what was not looked at, and why; the last line repeats it.
not_run_at_all=()
not_run() {
	not_run_at_all+=("$*")
	printf '\n!! NOT RUN: %s\n\n' "$*" >&2
}

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

stage_quick() {
	stage_format
	stage_vet
	go test -short -count=1 ./ci ./ipc ./model
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

# It wants a newer Go than the module does.
stage_staticcheck() {
	GOTOOLCHAIN=auto go run "$staticcheck" ./...
}

# Each finding is corrected, or answered in ci/gosec.json with its reason.
stage_gosec() {
	GOTOOLCHAIN=auto go run "$gosec" -quiet -fmt=text -color=false -conf ci/gosec.json ./...
}

# The data base that govulncheck asks is a web service, which not every machine can
# reach. The reports that it is made from are a Go module, so it is made here. What
# it says of the standard library is about the Go that runs here, and is told;
# users build with theirs. What it says of a module that go.mod names is a failure.
stage_vulnerabilities() {
	local work reports out status=0
	work=$(mktemp -d)
	out=$work/out
	if ! reports=$(cd "$work" && go mod download -json golang.org/x/vulndb@latest); then
		rm -rf "$work"
		not_run "govulncheck: the module golang.org/x/vulndb cannot be had"
		return
	fi
	local version directory
	version=$(sed -n 's/^\t"Version": "\(.*\)",$/\1/p' <<<"$reports")
	directory=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$reports")
	if ! GOTOOLCHAIN=auto go run "golang.org/x/vulndb/cmd/indexdb@$version" -vulns "$directory/data/osv" -out "$work/db"; then
		rm -rf "$work"
		not_run "govulncheck: no data base could be made of golang.org/x/vulndb@$version"
		return
	fi
	echo "golang.org/x/vulndb@$version: $(find "$work/db/ID" -name '*.json' | wc -l) reports"
	GOTOOLCHAIN=auto go run "$govulncheck" -db "file://$work/db" ./... >"$out" 2>&1 || status=$?
	if grep -q '^Your code is affected by ' "$out" && ! grep -q '^  Module: ' "$out" && grep -q '^  Standard library' "$out"; then
		echo "only the standard library of $(go env GOVERSION) is concerned; a newer Go has it corrected:"
		grep -A1 '^Vulnerability ' "$out"
		status=0
	elif [ "$status" != 0 ] || ! grep -q 'No vulnerabilities found' "$out"; then
		cat "$out" >&2
		status=1
	fi
	rm -rf "$work"
	return "$status"
}

stage_laws() {
	go test -short -count=1 -timeout "$test_timeout" ./ci
	# After a change of the code a planted bug may have lost its place.
	go test -count=1 -timeout "$test_timeout" ./chaos ./ipc/worker ./ipc/conn -run EachPlantedBugHasItsPlace -mutants
}

# What a stranger does: a fresh module follows the guide, or imports one package.
stage_guide() {
	go test -count=1 -timeout "$test_timeout" ./ci -run 'TheGuide|WhoImports'
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

# chaos, model and measure run their short forms: what they judge is the same, only slower.
stage_race() {
	local list
	list=$(packages | grep -Ev '/(chaos|model|internal/measure)$')
	# shellcheck disable=SC2086 # one word a package
	CGO_ENABLED=1 go test -race -count=1 -p 1 -timeout "$test_timeout" $list
	CGO_ENABLED=1 go test -race -short -count=1 -p 1 -timeout "$test_timeout" ./chaos ./model ./internal/measure
}

# Each other module is built without the workspace: its users build it so. And the
# workspace must not change what the main module is built with.
stage_integrations() {
	local module apart together
	while read -r module; do
		module=$(dirname "$module")
		echo "$module"
		(
			cd "$module"
			export GOWORK=off
			go mod tidy -diff
			go vet ./...
			GOOS=linux GOARCH=arm64 go build ./...
			GOOS=linux GOARCH=arm64 go vet ./...
			GOOS=darwin GOARCH=arm64 go build ./... # it says errors.ErrUnsupported there
			go test -count=1 -p 1 -timeout "$test_timeout" ./...
			CGO_ENABLED=1 go test -race -count=1 -p 1 -timeout "$test_timeout" ./...
		)
	done < <(find bench integrations -name go.mod | sort)
	local built='{{with .Module}}{{.Path}} {{.Version}}{{end}}'
	apart=$(GOWORK=off go list -deps -test -f "$built" ./... | sort -u)
	together=$(go list -deps -test -f "$built" ./... | sort -u)
	if apart=$(comm -23 <(echo "$apart") <(echo "$together")) && [ -n "$apart" ]; then
		printf 'with go.work the main module is built with other versions than of:\n%s\n' "$apart" >&2
		return 1
	fi
}

# Each fuzz target of each package goes on from its corpus for a few seconds, one after
# the other. A failing input is written beside the corpus, and shown.
stage_fuzz() {
	local directory target out count=0
	while IFS=: read -r directory target; do
		echo "$directory: $target"
		if ! out=$(cd "$directory" && go test . -run '^$' -fuzz "^$target\$" -fuzztime 5s -fuzzminimizetime 100x </dev/null); then
			echo "$out"
			return 1
		fi
		tail -n 3 <<<"$out"
		count=$((count + 1))
	done < <(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*:func |:|' | sort)
	if [ "$count" = 0 ]; then
		echo "there is no fuzz target, so nothing was fuzzed" >&2
		return 1
	fi
	echo "$count fuzz targets"
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

# Is ipc as fast as in the parent commit, or in commit BASE? A machine that is too busy
# to tell fails nothing.
stage_guard() {
	local verdict status=0
	verdict=$(go run ./ci/guard -benchstat "$benchstat" ${BASE:+-base "$BASE"}) || status=$?
	case $verdict in
	Void:* | 'NOT RUN:'*) not_run "guard: ${verdict#NOT RUN: }" ;;
	*) echo "$verdict" ;;
	esac
	return "$status"
}

# All layers for a reader, saved, and judged once more from what was saved.
stage_chaos() {
	local out status=0
	out=$(mktemp -d)
	{ go run ./cmd/tandem chaos -time 1m -out "$out" && go run ./cmd/tandem chaos judge "$out"; } || status=$?
	rm -rf "$out"
	return "$status"
}

# emulate sees to it that a program for arm64 runs here.
emulated_by=
emulate() {
	local program=$1 misc=/proc/sys/fs/binfmt_misc interpreter
	if "$program" -test.list '^$' >/dev/null 2>&1; then
		return
	fi
	need qemu-aarch64-static qemu-user-static || return 1
	interpreter=$(command -v qemu-aarch64-static)
	[ -e "$misc/register" ] || mount -t binfmt_misc binfmt_misc "$misc" || return 1
	# F opens the emulator now, so that child processes find it wherever they are.
	if printf '%s' ':tandem-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$interpreter:F" >"$misc/register"; then
		emulated_by=$misc/tandem-aarch64
	fi
	"$program" -test.list '^$' >/dev/null
}

stage_arm64() {
	GOOS=linux GOARCH=arm64 go build ./...
	GOOS=linux GOARCH=arm64 go vet ./...
}

# On another machine the tests for arm64 run under qemu-user. It shows whether the
# code, its system calls and its page size are right there, and not the order of
# memory: see docs/TESTING.md.
stage_emulated() {
	if [ "$(go env GOHOSTARCH)" = arm64 ]; then
		echo "this is arm64: the other stages have run on it"
		return
	fi
	local work status=0
	work=$(mktemp -d)
	GOOS=linux GOARCH=arm64 go test -c -o "$work/" ./ipc ./model ./chaos
	if ! emulate "$work/ipc.test"; then
		rm -rf "$work"
		not_run "arm64: built, but no emulator can be had (qemu-user-static, and binfmt_misc as root)"
		return
	fi
	export TANDEM_TEST_WATCHDOG=10m # an emulator is slow
	under_emulation "$work" ipc '.' &&
		under_emulation "$work" model '.' &&
		under_emulation "$work" chaos '^(TestForked|TestCampaign|TestTraces)$' &&
		QEMU_PAGESIZE=16384 under_emulation "$work" ipc "$of_pages" &&
		QEMU_PAGESIZE=65536 under_emulation "$work" ipc "$of_pages" || status=$?
	unset TANDEM_TEST_WATCHDOG
	[ -z "$emulated_by" ] || echo -1 >"$emulated_by"
	emulated_by=
	rm -rf "$work"
	return "$status"
}

# of_pages are tests for which it matters how large a page is.
of_pages='Page|Layout|Protocol|Ring|Wrap|Options|L7|M8|W1'

# not_emulated are tests that start 200 processes, which an emulator takes minutes
# for, and the fuzz targets' seeds: they send descriptors and count them, and
# qemu-user leaks what it cuts off.
not_emulated='^TestL8NoLeakIn200|^Fuzz'

# under_emulation runs tests of a package, and tells how many ran, and why others
# did not.
under_emulation() {
	local work=$1 package=$2 pattern=$3 log=$1/log status=0
	echo "$package, pages of ${QEMU_PAGESIZE:-4096} bytes"
	(cd "$package" && "$work/$package.test" -test.short -test.v -test.timeout "$test_timeout" -test.run "$pattern" -test.skip "$not_emulated") >"$log" 2>&1 || status=$?
	if [ "$status" != 0 ]; then
		cat "$log" >&2
		return "$status"
	fi
	printf '%5d tests passed\n' "$(grep -c '^--- PASS' "$log")"
	grep -o 'emulated: .*' "$log" | sort | uniq -c || true
	grep -q '^--- PASS' "$log"
}

# Each rule is left out of the code once, and other bugs are planted: somebody
# must notice. Most hunts wait, so two packages hunt at once. Each hunt has a watchdog,
# which stretches on a busy machine; all together have none.
stage_mutants() {
	go test -count=1 -timeout 0 -p 2 -parallel 4 ./chaos ./ipc/worker -run EachPlantedBug -mutants -v
}

# The model checker wants a processor and nothing else, while tests with real processes
# mostly wait: in a check of everything it runs beside them, at the lowest priority, and
# stage tla waits for it. It stays in this session, where priorities count.
checker=
checker_log=
begin_checker() {
	checker_log=$(mktemp)
	set -m # a process group of its own, to be ended as a whole
	nice -n 19 "$BASH" ci/check.sh tla >"$checker_log" 2>&1 &
	checker=$!
	set +m
}

end_checker() {
	[ -z "$checker" ] || kill -- "-$checker" 2>/dev/null || true
	[ -z "$checker_log" ] || rm -f "$checker_log"
}

# Small faults that nobody chose are drawn. One that no test finds fails the stage, unless
# internal/mutate/equivalents.txt says why nothing can find it.
stage_mutation() {
	local state status=0
	state=$(mktemp -d)
	go run ./internal/mutate -sample 100 -time 2m -state "$state" || status=$?
	rm -rf "$state"
	return "$status"
}

stage_tla() {
	local status=0
	if [ -z "$checker" ]; then
		go test -count=1 -timeout "$test_timeout" ./tla
		return
	fi
	wait "$checker" || status=$?
	checker=
	cat "$checker_log"
	return "$status"
}

chosen=("$@")
if [ $# = 0 ]; then
	chosen=("${stages[@]}")
fi
for stage in "${chosen[@]}"; do
	if [[ " ${stages[*]} ${more[*]} " != *" $stage "* ]]; then
		echo "check: no stage is called $stage; there are: ${stages[*]} ${more[*]}" >&2
		exit 2
	fi
done

summary=""
stage=
passed=
# finish says passed only where the last line was reached: a script that is
# killed comes here with the status of whatever it did last.
finish() {
	end_checker
	printf '\n%s' "$summary"
	local what
	for what in "${not_run_at_all[@]}"; do
		printf '!! NOT RUN: %s\n' "$what"
	done
	if [ -n "$passed" ]; then
		printf 'check: passed in %d s%s\n' "$SECONDS" "${not_run_at_all:+, but not all was run}"
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
	if [ "$stage" = test ] && [[ " ${chosen[*]} " == *" tla "* ]]; then
		begin_checker
	fi
	"stage_$stage"
	took=$((SECONDS - begun))
	printf -- '-- %s: %d s\n' "$stage" "$took"
	summary+=$(printf '%-12s %5d s' "$stage" "$took")$'\n'
done
passed=yes
