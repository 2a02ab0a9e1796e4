package afterlens.lens.gl

import afterlens.core.Picture
import android.opengl.GLES30
import java.nio.ByteBuffer

/** A plain texture of a picture of 8-bit levels, its top row first. */
internal fun upload(picture: Picture): Int {
    val memory = ByteBuffer.allocateDirect(picture.width * picture.height * 4)
    for (pixel in 0 until picture.width * picture.height) {
        for (channel in 0..2) memory.put((picture.values[pixel * 3 + channel] * 255 + 0.5f).toInt().toByte())
        memory.put(-1)
    }
    memory.rewind()
    val texture = IntArray(1)
    GLES30.glGenTextures(1, texture, 0)
    GLES30.glBindTexture(GLES30.GL_TEXTURE_2D, texture[0])
    GLES30.glTexStorage2D(GLES30.GL_TEXTURE_2D, 1, GLES30.GL_RGBA8, picture.width, picture.height)
    GLES30.glTexSubImage2D(
        GLES30.GL_TEXTURE_2D, 0, 0, 0, picture.width, picture.height, GLES30.GL_RGBA, GLES30.GL_UNSIGNED_BYTE, memory,
    )
    sampleLinearly(GLES30.GL_TEXTURE_2D)
    return texture[0]
}
