package afterlens.lens.gl

import android.opengl.EGL14
import android.opengl.EGLConfig
import android.opengl.EGLContext
import android.opengl.EGLDisplay
import android.opengl.EGLExt
import android.opengl.EGLSurface

/** An OpenGL ES 3 context, current on the thread that made it until [close]. */
class EglCore : AutoCloseable {
    val display: EGLDisplay = EGL14.eglGetDisplay(EGL14.EGL_DEFAULT_DISPLAY)
    val context: EGLContext
    private val config: EGLConfig
    private val offscreen: EGLSurface

    init {
        val version = IntArray(2)
        check(EGL14.eglInitialize(display, version, 0, version, 1)) { failure("eglInitialize") }
        // A machine without a screen has none for windows.
        val found = choose(EGL14.EGL_PBUFFER_BIT or EGL14.EGL_WINDOW_BIT) ?: choose(EGL14.EGL_PBUFFER_BIT)
        config = checkNotNull(found) { "this device has no OpenGL ES 3 with 8-bit colours" }
        context = EGL14.eglCreateContext(display, config, EGL14.EGL_NO_CONTEXT, CONTEXT, 0)
        check(context != EGL14.EGL_NO_CONTEXT) { failure("eglCreateContext") }
        offscreen = EGL14.eglCreatePbufferSurface(display, config, ONE_PIXEL, 0)
        makeCurrent(offscreen)
    }

    /** A window to draw to: a Surface, SurfaceHolder or SurfaceTexture. */
    fun window(target: Any): EGLSurface =
        EGL14.eglCreateWindowSurface(display, config, target, intArrayOf(EGL14.EGL_NONE), 0)
            .also { check(it != EGL14.EGL_NO_SURFACE) { failure("eglCreateWindowSurface") } }

    /** What is drawn from now on goes to [surface], or nowhere but to framebuffers. */
    fun makeCurrent(surface: EGLSurface = offscreen) {
        check(EGL14.eglMakeCurrent(display, surface, surface, context)) { failure("eglMakeCurrent") }
    }

    /** Shows what was drawn; false where the window is gone. */
    fun swap(surface: EGLSurface): Boolean = EGL14.eglSwapBuffers(display, surface)

    fun release(surface: EGLSurface) {
        makeCurrent()
        EGL14.eglDestroySurface(display, surface)
    }

    override fun close() {
        EGL14.eglMakeCurrent(display, EGL14.EGL_NO_SURFACE, EGL14.EGL_NO_SURFACE, EGL14.EGL_NO_CONTEXT)
        EGL14.eglDestroySurface(display, offscreen)
        EGL14.eglDestroyContext(display, context)
        EGL14.eglReleaseThread()
        // No eglTerminate: the display is the process's, and other contexts may be on it.
    }

    private fun choose(surfaces: Int): EGLConfig? {
        val configs = arrayOfNulls<EGLConfig>(1)
        val count = IntArray(1)
        val wanted = intArrayOf(EGL14.EGL_SURFACE_TYPE, surfaces) + CONFIG
        check(EGL14.eglChooseConfig(display, wanted, 0, configs, 0, 1, count, 0)) { failure("eglChooseConfig") }
        return configs[0]
    }

    private fun failure(call: String) = "$call failed with 0x${EGL14.eglGetError().toString(16)}"

    private companion object {
        val CONFIG = intArrayOf(
            EGL14.EGL_RENDERABLE_TYPE, EGLExt.EGL_OPENGL_ES3_BIT_KHR,
            EGL14.EGL_RED_SIZE, 8, EGL14.EGL_GREEN_SIZE, 8, EGL14.EGL_BLUE_SIZE, 8, EGL14.EGL_ALPHA_SIZE, 8,
            EGL14.EGL_NONE,
        )
        val CONTEXT = intArrayOf(EGL14.EGL_CONTEXT_CLIENT_VERSION, 3, EGL14.EGL_NONE)
        val ONE_PIXEL = intArrayOf(EGL14.EGL_WIDTH, 1, EGL14.EGL_HEIGHT, 1, EGL14.EGL_NONE)
    }
}
