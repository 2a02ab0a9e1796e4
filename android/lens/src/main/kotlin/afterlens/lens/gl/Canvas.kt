package afterlens.lens.gl

import afterlens.core.Size
import android.opengl.GLES30

/** A texture of 8-bit RGBA to draw to instead of a window; its first row is the bottom of what is drawn. */
internal class Canvas(val size: Size) : AutoCloseable {
    private val textures = IntArray(1)
    private val framebuffer = IntArray(1)

    val texture get() = textures[0]

    init {
        GLES30.glGenTextures(1, textures, 0)
        GLES30.glBindTexture(GLES30.GL_TEXTURE_2D, texture)
        GLES30.glTexStorage2D(GLES30.GL_TEXTURE_2D, 1, GLES30.GL_RGBA8, size.width, size.height)
        sampleLinearly(GLES30.GL_TEXTURE_2D)
        GLES30.glGenFramebuffers(1, framebuffer, 0)
        bind()
        GLES30.glFramebufferTexture2D(
            GLES30.GL_FRAMEBUFFER, GLES30.GL_COLOR_ATTACHMENT0, GLES30.GL_TEXTURE_2D, texture, 0,
        )
        val status = GLES30.glCheckFramebufferStatus(GLES30.GL_FRAMEBUFFER)
        check(status == GLES30.GL_FRAMEBUFFER_COMPLETE) { "cannot draw to a texture of $size: 0x${status.toString(16)}" }
    }

    fun bind() {
        GLES30.glBindFramebuffer(GLES30.GL_FRAMEBUFFER, framebuffer[0])
        GLES30.glViewport(0, 0, size.width, size.height)
    }

    override fun close() {
        GLES30.glDeleteFramebuffers(1, framebuffer, 0)
        GLES30.glDeleteTextures(1, textures, 0)
    }
}
