#!/bin/sh
# Starts the driver of Aeron. Without real-time priority, whatever the harness has: a thread that spins with it on the
# only processor of its process starves the compiler and the collector of the JVM. UsePerfData off: it leaves nothing in
# the directory of temporary files.
here=$(dirname "$(readlink -f "$0")")
exec chrt --other 0 java -XX:-UsePerfData -XX:+UseSerialGC -Xms128m -Xmx1g -XX:+AlwaysPreTouch \
  -XX:+UnlockDiagnosticVMOptions -XX:GuaranteedSafepointInterval=0 \
  --add-opens java.base/jdk.internal.misc=ALL-UNNAMED --add-opens java.base/sun.nio.ch=ALL-UNNAMED \
  -Dagrona.disable.bounds.checks=true -cp "$here/aeron-lib/*" Main "$@"
