package afterlens.lens.gl

import afterlens.core.Size
import android.opengl.GLES30
import java.nio.ByteBuffer

/** An artifact's output on the GPU. Half floats: finer than a screen's 8 bits, and every GPU filters them. */
class ResultTexture(private val size: Size) : AutoCloseable {
    private val texture = IntArray(1)

    /** Whether anything was uploaded yet. */
    var isFilled = false
        private set

    init {
        GLES30.glGenTextures(1, texture, 0)
        GLES30.glBindTexture(GLES30.GL_TEXTURE_2D, texture[0])
        GLES30.glTexStorage2D(GLES30.GL_TEXTURE_2D, 1, GLES30.GL_RGB16F, size.width, size.height)
        sampleLinearly(GLES30.GL_TEXTURE_2D)
    }

    /** Takes float32 RGB, row by row from the top, straight from an output's memory. */
    fun upload(output: ByteBuffer) {
        require(output.remaining() == size.width * size.height * 12) {
            "got ${output.remaining()} bytes, expected ${size.width * size.height * 12} for $size"
        }
        GLES30.glBindTexture(GLES30.GL_TEXTURE_2D, texture[0])
        GLES30.glTexSubImage2D(
            GLES30.GL_TEXTURE_2D, 0, 0, 0, size.width, size.height, GLES30.GL_RGB, GLES30.GL_FLOAT, output,
        )
        isFilled = true
    }

    internal fun bind(unit: Int) {
        GLES30.glActiveTexture(GLES30.GL_TEXTURE0 + unit)
        GLES30.glBindTexture(GLES30.GL_TEXTURE_2D, texture[0])
    }

    override fun close() = GLES30.glDeleteTextures(1, texture, 0)
}

/** Bilinear, and no repetition, for the texture that is bound to [target]. */
internal fun sampleLinearly(target: Int) {
    for (filter in intArrayOf(GLES30.GL_TEXTURE_MIN_FILTER, GLES30.GL_TEXTURE_MAG_FILTER)) {
        GLES30.glTexParameteri(target, filter, GLES30.GL_LINEAR)
    }
    for (wrap in intArrayOf(GLES30.GL_TEXTURE_WRAP_S, GLES30.GL_TEXTURE_WRAP_T)) {
        GLES30.glTexParameteri(target, wrap, GLES30.GL_CLAMP_TO_EDGE)
    }
}
