#!/usr/bin/env bash
# Builds the drivers of the foreign contenders into bin/, and says at the end what was built and what not, and why.
# What cannot be built is skipped: the exit status is 0 all the same, and not 0 only when a build fails that had all it
# needs. INSTALL=1, as root, installs the Debian packages that are missing.
#
#   spsc, unix   g++ zlib1g-dev
#   boost        the same, and libboost1.81-dev
#   iceoryx2     cargo 1.89 or newer (Debian 12 has an older one: take it from rustup)
#   aeron        openjdk-17-jdk-headless maven
#
# JOBS=n limits cargo, and names of drivers as arguments build only those.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

boost_package=libboost1.81-dev
boost_version=1_81
cargo_minor=89

declare -A said
failed=0
mkdir -p bin

wanted() { # wanted NAME ARGUMENTS...
  local name=$1 argument
  shift
  [ $# -eq 0 ] && return 0
  for argument in "$@"; do [ "$argument" = "$name" ] && return 0; done
  return 1
}

# installed PACKAGE... installs what is missing, if it may.
installed() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  [ "${INSTALL:-0}" = 1 ] && [ "$(id -u)" = 0 ] || return 0
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
}

skip() { said[$1]="not built: $2"; echo "SKIPPED $1: $2" >&2; }

# built NAME COMMAND... runs the build; what it says goes to bin/NAME.log.
built() {
  local name=$1
  shift
  if "$@" >"bin/$name.log" 2>&1; then
    said[$name]=built
  else
    said[$name]="FAILED, see bin/$name.log"
    failed=1
    tail -n 20 "bin/$name.log" >&2
  fi
}

has_header() { echo "#include <$1>" | g++ -std=c++20 -E -x c++ - >/dev/null 2>&1; }

cpp() { # cpp NAME
  g++ -std=c++20 -O3 -march=native -Wall -Wextra -Werror -o "bin/$1" "cpp/$1.cpp" -lz -pthread -lrt
}

build_cpp() {
  local name=$1
  installed g++ zlib1g-dev
  command -v g++ >/dev/null || { skip "$name" "no g++"; return; }
  has_header zlib.h || { skip "$name" "no zlib.h (zlib1g-dev)"; return; }
  built "$name" cpp "$name"
}

build_boost() {
  installed "$boost_package"
  local version
  version=$(echo '#include <boost/version.hpp>
    BOOST_LIB_VERSION' | g++ -E -x c++ - 2>/dev/null | tail -n 1 | tr -d '" ')
  if [ "$version" != "$boost_version" ]; then
    skip boost "Boost is ${version:-missing}, not $boost_version ($boost_package)"
    return
  fi
  build_cpp boost
}

iceoryx2() {
  (cd iceoryx2 && cargo build --release ${JOBS:+-j "$JOBS"}) && cp iceoryx2/target/release/iceoryx2 bin/iceoryx2
}

build_iceoryx2() {
  local minor
  minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
  if [ -z "$minor" ] || [ "$minor" -lt "$cargo_minor" ]; then
    skip iceoryx2 "cargo is ${minor:+1.}${minor:-missing}, not 1.$cargo_minor or newer"
    return
  fi
  (cd iceoryx2 && cargo fetch >/dev/null 2>&1) || { skip iceoryx2 "cargo cannot fetch the crates"; return; }
  built iceoryx2 iceoryx2
}

aeron() {
  rm -rf aeron/build && mkdir -p aeron/build &&
    javac --release 17 -Xlint:all -Werror -cp 'bin/aeron-lib/*' -d aeron/build aeron/src/*.java &&
    jar cf bin/aeron-lib/driver.jar -C aeron/build . &&
    cp aeron/aeron.sh bin/aeron
}

build_aeron() {
  installed openjdk-17-jdk-headless maven
  command -v javac >/dev/null || { skip aeron "no javac (openjdk-17-jdk-headless)"; return; }
  command -v mvn >/dev/null || { skip aeron "no mvn (maven)"; return; }
  rm -rf bin/aeron-lib
  if ! mvn -q -B -f aeron/pom.xml org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$PWD/bin/aeron-lib" >bin/aeron.log 2>&1; then
    skip aeron "mvn cannot fetch the jars, see bin/aeron.log"
    return
  fi
  built aeron aeron
}

for name in spsc unix boost iceoryx2 aeron; do
  wanted "$name" "$@" || continue
  rm -f "bin/$name"
  case $name in
    spsc | unix) build_cpp "$name" ;;
    *) "build_$name" ;;
  esac
done

echo
for name in spsc unix boost iceoryx2 aeron; do
  [ -n "${said[$name]:-}" ] && printf '%-10s %s\n' "$name" "${said[$name]}"
done
exit $failed
