package afterlens.lens.live

import afterlens.core.Size
import afterlens.lens.Native
import afterlens.lens.gl.Canvas
import afterlens.lens.gl.EglCore
import android.opengl.GLES30
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** Drawing to windows on Mesa, which has pbuffers in their place. */
class EglWindowTest {
    @Test
    fun `each window keeps its own picture, and framebuffers stay usable when the last one has gone`() {
        EglCore().use { egl ->
            val sizes = listOf(Size(6, 4), Size(3, 5))
            val windows = sizes.map { EglWindow(egl, TestSurface.of(it), it) }
            windows.zip(COLORS).forEach { (window, color) ->
                window.bind()
                clear(color)
                assertTrue(window.show())
            }
            for ((window, color) in windows.zip(COLORS)) {
                window.bind()
                assertEquals(setOf(color), colors(window.size))
            }
            windows.forEach(Window::close)
            Canvas(Size(2, 2)).use { canvas ->
                canvas.bind()
                clear(COLORS[0])
                assertEquals(setOf(COLORS[0]), colors(Size(2, 2)))
            }
            assertEquals(GLES30.GL_NO_ERROR, GLES30.glGetError())
        }
    }

    @Test
    fun `a Surface that is gone is one line`() {
        EglCore().use { egl ->
            val error = assertThrows<IllegalStateException> { EglWindow(egl, TestSurface.of(Size(0, 0)), Size(1, 1)) }
            assertTrue(error.message!!.startsWith("eglCreateWindowSurface failed with 0x"), error.message)
        }
    }

    private fun clear(color: List<Float>) {
        GLES30.glClearColor(color[0] / 255, color[1] / 255, color[2] / 255, 1f)
        GLES30.glClear(GLES30.GL_COLOR_BUFFER_BIT)
    }

    private fun colors(size: Size) = levels(size).toList().chunked(3).toSet()

    companion object {
        val COLORS = listOf(listOf(255f, 0f, 51f), listOf(0f, 255f, 102f))

        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
