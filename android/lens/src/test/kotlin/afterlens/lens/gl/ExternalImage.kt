package afterlens.lens.gl

import android.opengl.EGL14
import android.opengl.EGL15
import android.opengl.GLES11Ext
import android.opengl.GLES30

/** Makes an external texture of a plain one, as a SurfaceTexture makes it of a camera's buffer. */
internal object ExternalImage {
    private const val EGL_GL_TEXTURE_2D = 0x30B1

    @JvmStatic
    private external fun bind(image: Long)

    fun of(egl: EglCore, texture: Int): Int {
        val attributes = longArrayOf(EGL14.EGL_NONE.toLong())
        val image = EGL15.eglCreateImage(egl.display, egl.context, EGL_GL_TEXTURE_2D, texture.toLong(), attributes, 0)
        val external = IntArray(1)
        GLES30.glGenTextures(1, external, 0)
        GLES30.glBindTexture(GLES11Ext.GL_TEXTURE_EXTERNAL_OES, external[0])
        bind(image.nativeHandle)
        sampleLinearly(GLES11Ext.GL_TEXTURE_EXTERNAL_OES)
        check(GLES30.glGetError() == GLES30.GL_NO_ERROR)
        return external[0]
    }
}
