#!/bin/sh
# build.sh OUT ANDROID_ALL_JAR LIBRARY.so...: what a desktop JVM needs beside Android's own classes and libraries.
#   OUT/lib{c,m,dl,log,EGL,GLESv3}.so  the names that Android's x86_64 libraries ask for; load them first
#   OUT/libOpenCL.so                   this machine's OpenCL, whose CPU says that it is a GPU
#   OUT/libgl_natives.so               the native methods of android.opengl, over this machine's EGL and GLES
set -eu
out=$1 jar=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
cd "$out"
key=$({ cat "$here"/*; echo "$@" "$jar"; } | sha256sum)
if [ "$(cat built-from 2>/dev/null)" = "$key" ]; then exit 0; fi
rm -f built-from

# Everything that the libraries import from bionic and that bionic.c does not define goes straight to glibc.
sed -n 's/^ *\(EXPORT\|FORWARD_TO\)(\([a-zA-Z_0-9]*\).*/&/p' "$here/bionic.c" |
  grep -o '\(EXPORT\|FORWARD_TO\)([a-zA-Z_0-9]*' | sed 's/.*(//' | sort -u >own
for library in "$@"; do nm -D --undefined-only "$library"; done | sed -n 's/.* U \(.*\)@LIBC$/\1/p' | sort -u >imports
grep -vxFf own imports | sed 's/.*/FORWARD(&)/' >forward.inc
echo 'LIBC { global: *; };' >versions
gcc -O2 -w -fPIC -fno-builtin -shared -I. -o libc.so "$here/bionic.c" -Wl,-soname,libc.so \
  -Wl,--version-script=versions -Wl,-z,now -Wl,-z,defs -lm
for name in m dl; do
  echo "int shim_$name;" | gcc -fPIC -shared -xc - -o "lib$name.so" -Wl,-soname,"lib$name.so" -Wl,--version-script=versions
done
gcc -O2 -Wall -fPIC -shared -o liblog.so "$here/log.c" -Wl,-soname,liblog.so
for pair in EGL:EGL GLESv3:GLESv2; do
  name=${pair%:*}
  echo "int shim_$name;" | gcc -fPIC -shared -xc - -o "lib$name.so" -Wl,-soname,"lib$name.so" \
    -Wl,--no-as-needed "-l${pair#*:}"
done

# The GPU delegate looks for this name by itself.
gcc -O2 -Wall -fPIC -shared -o libOpenCL.so "$here/opencl.c" -Wl,-soname,libOpenCL.so -Wl,--no-as-needed -l:libOpenCL.so.1

java_home=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")
python3 "$here/gl_natives.py" "$jar" gl_natives.c
gcc -O1 -w -fPIC -shared -I"$here" -I"$java_home/include" -I"$java_home/include/linux" -o libgl_natives.so gl_natives.c \
  -lEGL -lGLESv2 -Wl,-z,defs
echo "$key" >built-from
