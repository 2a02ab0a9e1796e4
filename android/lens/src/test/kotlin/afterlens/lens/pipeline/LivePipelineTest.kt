package afterlens.lens.pipeline

import afterlens.core.Artifact
import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.core.Picture
import afterlens.core.Size
import afterlens.lens.Native
import afterlens.lens.TestBundles
import afterlens.lens.floats
import afterlens.lens.gl.Canvas
import afterlens.lens.gl.EglCore
import afterlens.lens.gl.Frame
import afterlens.lens.gl.PixelReader
import afterlens.lens.gl.upload
import afterlens.lens.golden
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.TfliteRestorer
import afterlens.lens.worst
import android.opengl.GLES30
import java.nio.ByteBuffer
import java.util.concurrent.Semaphore
import java.util.concurrent.TimeUnit
import kotlin.math.abs
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

class LivePipelineTest {
    @Test
    fun `frames of a clip come out as Python's LiteRT restores them, and on the screen`() {
        val bundle = TestBundles.open("deblur")
        val artifact = bundle.floatArtifact()
        val expected = TestBundles.reference("deblur", artifact, "restored")
        EglCore().use {
            ModelThread().use { model ->
                val restorer = model.call { TfliteRestorer.onCpu(bundle, artifact, threads = 1) }
                val ready = Semaphore(0)
                LivePipeline(model, restorer, geometry(artifact), TEXTURE_2D) { ready.release() }.use { live ->
                    for (name in listOf("previous", "current")) {
                        live.offer(Frame.photo(upload(bundle.golden(artifact, "input", name))))
                        assertTrue(ready.tryAcquire(60, TimeUnit.SECONDS))
                        live.advance()
                    }
                    assertEquals(2L to 0L, live.restored to live.dropped)
                    assertTrue(worst(restorer.output("restored").floats(), expected) <= 1e-5f)
                    val screen = screenOf(live, Size(artifact.width, artifact.height))
                    val error = expected.indices.maxOf { abs(expected[it] * 255 - screen[it]) }
                    assertTrue(error <= 1f, "$error levels off on the screen")
                    assertTrue(live.stages!!.let { minOf(it.input, it.model, it.output) } > 0, "${live.stages}")
                }
                model.call { restorer.close() }
            }
        }
    }

    @Test
    fun `while the model runs, the newest frame waits and older ones are dropped`() {
        EglCore().use {
            ModelThread().use { model ->
                val (permits, ready) = Semaphore(0) to Semaphore(0)
                val slow = StandIn { permits.acquire() }
                LivePipeline(model, slow, geometry(slow.artifact), TEXTURE_2D) { ready.release() }.use { live ->
                    for (level in 1..5) live.offer(grey(level / 5f))
                    assertEquals(0L to 3L, live.restored to live.dropped)
                    for (results in 1L..2L) {
                        permits.release()
                        assertTrue(ready.tryAcquire(10, TimeUnit.SECONDS))
                        live.advance()
                        assertEquals(results, live.restored)
                    }
                    assertEquals(listOf(0.2f, 1f), slow.seen)
                    assertEquals(3L, live.dropped)
                }
            }
        }
    }

    @Test
    fun `a part of the change is added to the frame that it was made of, not to a newer one`() {
        EglCore().use {
            ModelThread().use { model ->
                val (permits, ready) = Semaphore(0) to Semaphore(0)
                val standIn = StandIn { permits.acquire() } // hands its input on: nothing changes
                LivePipeline(model, standIn, geometry(standIn.artifact), TEXTURE_2D) { ready.release() }.use { live ->
                    val view = Size(8, 8)
                    val camera = Camera()
                    screenOf(live, view, amount = 0.5f)
                    for (level in listOf(51f, 102f, 204f)) {
                        camera.show(level / 255)
                        live.offer(camera.frame)
                        camera.show(1f) // it goes on while the model runs
                        live.offer(camera.frame)
                        permits.release()
                        assertTrue(ready.tryAcquire(10, TimeUnit.SECONDS))
                        // The result of what was seen at first; the model has taken the newest one by now.
                        assertEquals(setOf(level), screenOf(live, view, amount = 0.5f).toSet())
                        assertEquals(setOf(255f), screenOf(live, view, amount = 0f).toSet())
                        assertEquals(setOf(level), screenOf(live, view, amount = 1f).toSet())
                        screenOf(live, view, amount = 0.5f)
                        permits.release()
                        assertTrue(ready.tryAcquire(10, TimeUnit.SECONDS))
                        live.advance()
                    }
                }
            }
        }
    }

    /** Its frames are all in one texture, as a SurfaceTexture's. */
    private class Camera {
        private val texture = upload(Picture(8, 8, FloatArray(8 * 8 * 3)))
        val frame = Frame.photo(texture)

        fun show(level: Float) {
            val rgba = ByteBuffer.allocateDirect(8 * 8 * 4)
            repeat(8 * 8 * 4) { rgba.put((level * 255 + 0.5f).toInt().toByte()) }
            GLES30.glBindTexture(GLES30.GL_TEXTURE_2D, texture)
            GLES30.glTexSubImage2D(
                GLES30.GL_TEXTURE_2D, 0, 0, 0, 8, 8, GLES30.GL_RGBA, GLES30.GL_UNSIGNED_BYTE, rgba.rewind(),
            )
        }
    }

    @Test
    fun `what the model throws reaches the next call, and frames after it are restored`() {
        EglCore().use {
            ModelThread().use { model ->
                val ready = Semaphore(0)
                var broken = true
                val standIn = StandIn { if (broken) throw Fault("the accelerator is gone") }
                LivePipeline(model, standIn, geometry(standIn.artifact), TEXTURE_2D) { ready.release() }.use { live ->
                    live.offer(grey(0f))
                    assertTrue(ready.tryAcquire(10, TimeUnit.SECONDS))
                    assertEquals("the accelerator is gone", assertThrows<Fault> { live.advance() }.message)
                    broken = false
                    live.offer(grey(1f))
                    assertTrue(ready.tryAcquire(10, TimeUnit.SECONDS))
                    live.advance()
                    assertEquals(1L, live.restored)
                }
            }
        }
    }

    private fun BundleCheck.floatArtifact(): Artifact = contract.artifacts.first { it.variant == "float32" }

    /** All of it restored, as RGB levels, row by row from the top. */
    private fun screenOf(live: LivePipeline, view: Size, amount: Float = 1f): FloatArray {
        val levels = FloatArray(view.width * view.height * 3)
        Canvas(view).use { canvas ->
            PixelReader(view).use { reader ->
                live.draw(view, divider = 0f, amount, canvas::bind)
                reader.request()
                val read = reader.read(5_000_000_000) { rgba ->
                    for (pixel in 0 until view.width * view.height) {
                        val (row, column) = view.height - 1 - pixel / view.width to pixel % view.width
                        for (channel in 0..2) {
                            levels[(row * view.width + column) * 3 + channel] = (rgba.get(pixel * 4 + channel).toInt() and 255).toFloat()
                        }
                    }
                }
                assertTrue(read)
            }
        }
        return levels
    }

    companion object {
        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
