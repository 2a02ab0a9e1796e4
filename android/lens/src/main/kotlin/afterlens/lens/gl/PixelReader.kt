package afterlens.lens.gl

import afterlens.core.Size
import android.opengl.GLES30
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Reads what was drawn without stopping the GPU: a ring of buffers that it fills while the CPU does other things. */
internal class PixelReader(size: Size, slots: Int = 2) : AutoCloseable {
    private val width = size.width
    private val height = size.height
    private val bytes = width * height * 4
    private val buffers = IntArray(slots)
    private val fences = LongArray(slots)
    private var requested = 0L
    private var read = 0L

    init {
        GLES30.glGenBuffers(slots, buffers, 0)
        for (buffer in buffers) {
            GLES30.glBindBuffer(GLES30.GL_PIXEL_PACK_BUFFER, buffer)
            GLES30.glBufferData(GLES30.GL_PIXEL_PACK_BUFFER, bytes, null, GLES30.GL_STREAM_READ)
        }
        GLES30.glBindBuffer(GLES30.GL_PIXEL_PACK_BUFFER, 0)
    }

    /** Whether another request fits before the oldest is read. */
    val hasRoom get() = requested - read < buffers.size

    /** Asks for the pixels of the bound framebuffer. */
    fun request() {
        check(hasRoom) { "all ${buffers.size} buffers are waiting to be read" }
        val slot = (requested++ % buffers.size).toInt()
        GLES30.glBindBuffer(GLES30.GL_PIXEL_PACK_BUFFER, buffers[slot])
        GLES30.glReadPixels(0, 0, width, height, GLES30.GL_RGBA, GLES30.GL_UNSIGNED_BYTE, 0)
        GLES30.glBindBuffer(GLES30.GL_PIXEL_PACK_BUFFER, 0)
        fences[slot] = GLES30.glFenceSync(GLES30.GL_SYNC_GPU_COMMANDS_COMPLETE, 0)
        GLES30.glFlush()
    }

    /** Hands the pixels of the oldest request to [use], RGBA; false where there are none within [waitNs]. */
    fun read(waitNs: Long, use: (ByteBuffer) -> Unit): Boolean {
        if (read == requested) return false
        val slot = (read % buffers.size).toInt()
        val state = GLES30.glClientWaitSync(fences[slot], GLES30.GL_SYNC_FLUSH_COMMANDS_BIT, waitNs)
        if (state == GLES30.GL_TIMEOUT_EXPIRED) return false
        check(state != GLES30.GL_WAIT_FAILED) { "glClientWaitSync failed" }
        GLES30.glDeleteSync(fences[slot])
        read++
        GLES30.glBindBuffer(GLES30.GL_PIXEL_PACK_BUFFER, buffers[slot])
        val mapped = GLES30.glMapBufferRange(GLES30.GL_PIXEL_PACK_BUFFER, 0, bytes, GLES30.GL_MAP_READ_BIT)
        try {
            use((mapped as ByteBuffer).order(ByteOrder.nativeOrder())) // Android hands it out as big-endian
        } finally {
            GLES30.glUnmapBuffer(GLES30.GL_PIXEL_PACK_BUFFER)
            GLES30.glBindBuffer(GLES30.GL_PIXEL_PACK_BUFFER, 0)
        }
        return true
    }

    override fun close() {
        while (read < requested) GLES30.glDeleteSync(fences[(read++ % buffers.size).toInt()])
        GLES30.glDeleteBuffers(buffers.size, buffers, 0)
    }
}
