/* What gl_natives.py's output is built on: handles, addresses, and the methods that do not mirror C. */
#define EGL_EGLEXT_PROTOTYPES
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES3/gl32.h>
/* the extensions need the above */
#include <GLES2/gl2ext.h>
#include <jni.h>
#include <string.h>

/* The C handle in an EGLContext, EGLDisplay and so on. */
static jlong handle(JNIEnv *e, jobject o) {
  if (!o) return 0;
  return (*e)->CallLongMethod(e, o, (*e)->GetMethodID(e, (*e)->GetObjectClass(e, o), "getNativeHandle", "()J"));
}
static jobject object(JNIEnv *e, const char *name, void *handle) {
  jclass c = (*e)->FindClass(e, name);
  return (*e)->NewObject(e, c, (*e)->GetMethodID(e, c, "<init>", "(J)V"), (jlong)handle);
}
/* Where a buffer's next element lies; an exception for one on the heap, as on Android. */
static void *address(JNIEnv *e, jobject buffer) {
  static const struct { const char *name; int size; } kinds[] = {
    {"java/nio/ByteBuffer", 1}, {"java/nio/ShortBuffer", 2}, {"java/nio/IntBuffer", 4}, {"java/nio/FloatBuffer", 4},
    {"java/nio/LongBuffer", 8},
  };
  if (!buffer) return 0;
  char *start = (*e)->GetDirectBufferAddress(e, buffer);
  if (!start) {
    (*e)->ThrowNew(e, (*e)->FindClass(e, "java/lang/IllegalArgumentException"), "Must use a native order direct Buffer");
    return 0;
  }
  jint at = (*e)->CallIntMethod(e, buffer, (*e)->GetMethodID(e, (*e)->FindClass(e, "java/nio/Buffer"), "position", "()I"));
  for (int i = 0; i < 5; i++) {
    if ((*e)->IsInstanceOf(e, buffer, (*e)->FindClass(e, kinds[i].name))) return start + (long)at * kinds[i].size;
  }
  return start;
}

#define METHOD(type, class, name) JNIEXPORT type JNICALL Java_android_opengl_##class##_##name
#define NO_INIT(class) METHOD(void, class, _1nativeClassInit)(JNIEnv *e, jclass k) {}
NO_INIT(EGL15) NO_INIT(EGLExt) NO_INIT(GLES20) NO_INIT(GLES30) NO_INIT(GLES31) NO_INIT(GLES32)
METHOD(void, EGL14, _1nativeClassInit)(JNIEnv *e, jclass k) {
  static const char *none[][2] = {
    {"EGL_NO_CONTEXT", "android/opengl/EGLContext"},
    {"EGL_NO_DISPLAY", "android/opengl/EGLDisplay"},
    {"EGL_NO_SURFACE", "android/opengl/EGLSurface"},
  };
  for (int i = 0; i < 3; i++) {
    char type[64] = "L";
    strcat(strcat(type, none[i][1]), ";");
    (*e)->SetStaticObjectField(e, k, (*e)->GetStaticFieldID(e, k, none[i][0], type), object(e, none[i][1], 0));
  }
}
/* Without a screen. */
METHOD(jobject, EGL14, eglGetDisplay__I)(JNIEnv *e, jclass k, jint id) {
  return object(e, "android/opengl/EGLDisplay", eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, 0, 0));
}
METHOD(jboolean, EGL14, eglChooseConfig)(JNIEnv *e, jclass k, jobject display, jintArray wanted, jint wanted_at,
                                         jobjectArray to, jint to_at, jint size, jintArray count, jint count_at) {
  EGLConfig found[64];
  jint *attributes = (*e)->GetIntArrayElements(e, wanted, 0), number = 0;
  jboolean ok = eglChooseConfig((void *)handle(e, display), attributes + wanted_at, to ? found : 0,
                                size < 64 ? size : 64, &number);
  (*e)->ReleaseIntArrayElements(e, wanted, attributes, JNI_ABORT);
  for (int i = 0; ok && to && i < number; i++) {
    (*e)->SetObjectArrayElement(e, to, to_at + i, object(e, "android/opengl/EGLConfig", found[i]));
  }
  (*e)->SetIntArrayRegion(e, count, count_at, 1, &number);
  return ok;
}
METHOD(void, GLES20, glShaderSource)(JNIEnv *e, jclass k, jint shader, jstring text) {
  const char *source = (*e)->GetStringUTFChars(e, text, 0);
  glShaderSource(shader, 1, &source, 0);
  (*e)->ReleaseStringUTFChars(e, text, source);
}
#define LOG(kind)                                                                              \
  METHOD(jstring, GLES20, glGet##kind##InfoLog)(JNIEnv *e, jclass k, jint id) {                \
    char text[8192] = "";                                                                      \
    glGet##kind##InfoLog(id, sizeof text, 0, text);                                            \
    return (*e)->NewStringUTF(e, text);                                                        \
  }
LOG(Shader) LOG(Program)
METHOD(jobject, GLES30, glMapBufferRange)(JNIEnv *e, jclass k, jint target, jint at, jint size, jint access) {
  void *found = glMapBufferRange(target, at, size, access);
  return found ? (*e)->NewDirectByteBuffer(e, found, size) : 0; /* big-endian until the caller sets the order, as there */
}

/* In the place of a window, which this machine has none of, a pbuffer: as large as the test says, or refused. */
static EGLint window[] = {EGL_WIDTH, 0, EGL_HEIGHT, 0, EGL_NONE};
JNIEXPORT void JNICALL Java_afterlens_lens_live_TestSurface_resize(JNIEnv *e, jclass k, jint width, jint height) {
  window[1] = width;
  window[3] = height;
}
METHOD(jobject, EGL14, _1eglCreateWindowSurface)(JNIEnv *e, jclass k, jobject display, jobject config, jobject surface,
                                                 jintArray attributes, jint at) {
  void *made = window[1] ? eglCreatePbufferSurface((void *)handle(e, display), (void *)handle(e, config), window) : 0;
  return object(e, "android/opengl/EGLSurface", made);
}

/* What a SurfaceTexture does on a phone: the bound external texture shows an EGL image. */
JNIEXPORT void JNICALL Java_afterlens_lens_gl_ExternalImage_bind(JNIEnv *e, jclass k, jlong image) {
  PFNGLEGLIMAGETARGETTEXTURE2DOESPROC target = (void *)eglGetProcAddress("glEGLImageTargetTexture2DOES");
  target(GL_TEXTURE_EXTERNAL_OES, (void *)image);
}
