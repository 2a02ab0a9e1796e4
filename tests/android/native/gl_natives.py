"""Writes the native methods of Android's own android.opengl classes, over this machine's EGL and GLES.

    python gl_natives.py android-all.jar gl_natives.c

The methods mirror C: an array and an index are a pointer, a Buffer is its address, an EGL object its handle.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

CLASSES = ("EGL14", "EGL15", "EGLExt", "GLES20", "GLES30", "GLES31", "GLES32")
# In gl_natives.h, or of no use without a window; they take or give strings, arrays of objects or mapped memory.
LEFT_OUT = frozenset(
    """eglGetDisplay eglGetPlatformDisplay eglChooseConfig eglGetConfigs glShaderSource glGetShaderInfoLog
    glGetProgramInfoLog glMapBufferRange glGetShaderSource glGetActiveAttrib glGetActiveUniform glGetBufferPointerv
    glGetTransformFeedbackVarying glGetActiveUniformBlockName glGetProgramResourceName glCreateShaderProgramv
    glGetProgramPipelineInfoLog glGetDebugMessageLog glGetObjectLabel glGetObjectPtrLabel glDebugMessageCallback
    glDebugMessageInsert glPushDebugGroup glObjectLabel glObjectPtrLabel glGetPointerv eglPresentationTimeANDROID
    eglCreatePlatformWindowSurface eglCreatePlatformPixmapSurface eglCreatePbufferFromClientBuffer""".split()
)
C_TYPES = {"I": "jint", "J": "jlong", "F": "jfloat", "Z": "jboolean", "B": "jbyte", "V": "void"}


def main(jar: str, out: str) -> None:
    """Write the C file."""
    methods = []
    for name in CLASSES:
        found = natives(jar, name)
        overloads = Counter(method for method, _ in found)
        for method, descriptor in found:
            if method in LEFT_OUT or re.search(r"^_|Bounds|Impl", method) or "[Ljava" in descriptor:
                continue
            methods.append(function(name, method, descriptor, overloads[method] > 1))
    Path(out).write_text('#include "gl_natives.h"\n' + "\n".join(methods) + "\n", encoding="utf-8")


def natives(jar: str, name: str) -> list[tuple[str, str]]:
    """The native methods of a class and their descriptors."""
    command = ["javap", "-p", "-s", "-cp", jar, f"android.opengl.{name}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.findall(r"native .*?(\w+)\(.*\n\s+descriptor: (\S+)", text)


def function(owner: str, method: str, descriptor: str, overloaded: bool) -> str:
    """One method in C."""
    types, result = re.fullmatch(r"\((.*)\)(.*)", descriptor).groups()  # type: ignore[union-attr]
    arguments = re.findall(r"\[*(?:L[^;]*;|[A-Z])", types)
    parameters = ["JNIEnv *e", "jclass k"]
    before: list[str] = []
    pinned: list[str] = []
    call: list[str] = []
    after: list[str] = []
    index = 0
    while index < len(arguments):
        kind, value, pointer = arguments[index], f"a{index}", f"p{index}"
        if kind[0] == "[":  # and the index into it, the next argument
            parameters += [f"jobject {value}", f"jint o{index}"]
            pinned.append(f"char *{pointer} = {value} ? (*e)->GetPrimitiveArrayCritical(e, {value}, 0) : 0;")
            after.insert(0, f"if ({value}) (*e)->ReleasePrimitiveArrayCritical(e, {value}, {pointer}, 0);")
            call.append(f"(void *)({pointer} ? {pointer} + o{index} * sizeof({C_TYPES[kind[1]]}) : 0)")
            index += 1
        elif kind == "Ljava/lang/String;":
            parameters.append(f"jstring {value}")
            before.append(f"const char *{pointer} = (*e)->GetStringUTFChars(e, {value}, 0);")
            after.insert(0, f"(*e)->ReleaseStringUTFChars(e, {value}, {pointer});")
            call.append(pointer)
        elif kind.startswith("Ljava/nio/"):
            parameters.append(f"jobject {value}")
            nothing = "" if result == "V" else " 0"
            before.append(
                f"void *{pointer} = address(e, {value}); if ((*e)->ExceptionCheck(e)) return{nothing};"
            )
            call.append(pointer)
        elif kind[0] == "L":
            parameters.append(f"jobject {value}")
            before.append(f"void *{pointer} = (void *)handle(e, {value});")
            call.append(pointer)
        else:
            parameters.append(f"{C_TYPES[kind]} {value}")
            is_sync = kind == "J" and "Sync" in method and owner != "EGL15" and index == 0
            call.append(f"(void *){value}" if is_sync else value)
        index += 1
    name = f"Java_android_opengl_{owner}_{escaped(method)}" + (f"__{escaped(types)}" if overloaded else "")
    returned, body = result_of(f"{method}({', '.join(call)})", result, " ".join(after))
    steps = " ".join([*before, *pinned, body])
    return f"JNIEXPORT {returned} JNICALL {name}({', '.join(parameters)}) {{ {steps} }}"


def result_of(call: str, result: str, after: str) -> tuple[str, str]:
    """The C type that a method returns, and its last statements."""
    if result == "V":
        return "void", f"{call}; {after}"
    if result == "Ljava/lang/String;":
        text = "return r ? (*e)->NewStringUTF(e, r) : 0;"
        return "jstring", f"const char *r = (const char *){call}; {after} {text}"
    if result[0] == "L":
        return "jobject", f'void *r = (void *){call}; {after} return object(e, "{result[1:-1]}", r);'
    kind = C_TYPES[result]
    return kind, f"{kind} r = ({kind}){call}; {after} return r;"


def escaped(name: str) -> str:
    """As JNI writes names."""
    for plain, code in (("_", "_1"), (";", "_2"), ("[", "_3"), ("/", "_")):
        name = name.replace(plain, code)
    return name


if __name__ == "__main__":
    main(*sys.argv[1:])
