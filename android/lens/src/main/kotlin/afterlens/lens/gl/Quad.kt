package afterlens.lens.gl

import android.opengl.GLES30
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Two triangles over the whole target, with corners from (0, 0) to (1, 1) at location 0. */
internal class Quad : AutoCloseable {
    private val array = IntArray(1)
    private val buffer = IntArray(1)

    init {
        GLES30.glGenVertexArrays(1, array, 0)
        GLES30.glGenBuffers(1, buffer, 0)
        GLES30.glBindVertexArray(array[0])
        GLES30.glBindBuffer(GLES30.GL_ARRAY_BUFFER, buffer[0])
        val corners = ByteBuffer.allocateDirect(32).order(ByteOrder.nativeOrder())
        floatArrayOf(0f, 0f, 1f, 0f, 0f, 1f, 1f, 1f).forEach(corners::putFloat)
        corners.rewind()
        GLES30.glBufferData(GLES30.GL_ARRAY_BUFFER, 32, corners, GLES30.GL_STATIC_DRAW)
        GLES30.glEnableVertexAttribArray(0)
        GLES30.glVertexAttribPointer(0, 2, GLES30.GL_FLOAT, false, 8, 0)
        GLES30.glBindVertexArray(0)
    }

    fun draw() {
        GLES30.glBindVertexArray(array[0])
        GLES30.glDrawArrays(GLES30.GL_TRIANGLE_STRIP, 0, 4)
        GLES30.glBindVertexArray(0)
    }

    override fun close() {
        GLES30.glDeleteVertexArrays(1, array, 0)
        GLES30.glDeleteBuffers(1, buffer, 0)
    }
}
