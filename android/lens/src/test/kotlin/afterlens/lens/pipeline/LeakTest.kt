package afterlens.lens.pipeline

import afterlens.core.Artifact
import afterlens.core.BundleCheck
import afterlens.core.Size
import afterlens.lens.Native
import afterlens.lens.TestBundles
import afterlens.lens.gl.Canvas
import afterlens.lens.gl.EglCore
import afterlens.lens.gl.Frame
import afterlens.lens.gl.upload
import afterlens.lens.golden
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.Restorer
import afterlens.lens.runtime.TfliteRestorer
import java.io.File
import java.util.concurrent.Semaphore
import java.util.concurrent.TimeUnit
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test

/**
 * What the process holds in memory must stay. The pom gives it a heap of one size, a compiler that needs little, and a
 * malloc that returns what is freed: without these, the same code without a leak grew by 36 to 129 MB.
 */
class LeakTest {
    private val bundle: BundleCheck = TestBundles.open("udc")
    private val mixed: Artifact = bundle.contract.artifacts.first { it.variant == "mixed" }

    @Test
    fun `200 starts and stops while the model runs leave nothing behind`() {
        val picture = bundle.golden(mixed, "input", "image")
        assertFlat("starts and stops", rounds = 4, times = 50) {
            EglCore().use {
                val frame = Frame.photo(upload(picture))
                ModelThread().use { model ->
                    val restorer = model.call { TfliteRestorer.onCpu(bundle, mixed, threads = 1) }
                    LivePipeline(model, restorer, geometry(mixed), TEXTURE_2D).use { live ->
                        live.draw(Size(mixed.width, mixed.height), divider = 0.5f, amount = 0.5f)
                        repeat(2) { live.offer(frame) }
                    }
                    model.call { restorer.close() }
                }
            }
        }
        assertEquals(emptyList<String>(), Thread.getAllStackTraces().keys.map { it.name }.filter { it == "model" })
    }

    @Test
    fun `10,000 frames leave nothing behind, most through a stand-in of the model`() {
        EglCore().use {
            ModelThread().use { model ->
                val standIn = StandIn {}
                assertFlat("frames through a stand-in", model, standIn, grey(0.5f), times = 2450)
                model.call { TfliteRestorer.onCpu(bundle, mixed, threads = 1) }.let { restorer ->
                    val frame = Frame.photo(upload(bundle.golden(mixed, "input", "image")))
                    assertFlat("frames through ${mixed.file}", model, restorer, frame, times = 50)
                    model.call { restorer.close() }
                }
            }
        }
    }

    /** Each frame is restored and drawn. */
    private fun assertFlat(what: String, model: ModelThread, restorer: Restorer, frame: Frame, times: Int) {
        val ready = Semaphore(0)
        val view = Size(restorer.artifact.width, restorer.artifact.height)
        Canvas(view).use { canvas ->
            LivePipeline(model, restorer, geometry(restorer.artifact), TEXTURE_2D) { ready.release() }.use { live ->
                assertFlat(what, rounds = 4, times) {
                    live.offer(frame)
                    assertTrue(ready.tryAcquire(60, TimeUnit.SECONDS))
                    live.draw(view, divider = 0.5f, amount = 0.5f, canvas::bind) // at half, frames are copied, too
                }
                assertEquals(4L * times to 0L, live.restored to live.dropped)
            }
        }
    }

    /** Does [work] often. The first round warms up; the others may not add more than [MOST_GROWTH]. */
    private fun assertFlat(what: String, rounds: Int, times: Int, work: () -> Unit) {
        val held = List(rounds) {
            repeat(times) { work() }
            residentMegabytes()
        }
        val line = "after each $times $what: ${held.joinToString()} MB"
        println(line)
        assertTrue(held.last() - held.first() <= MOST_GROWTH, line)
    }

    /** After what can be freed was freed. */
    private fun residentMegabytes(): Long {
        repeat(3) {
            System.gc()
            Thread.sleep(100)
        }
        return File("/proc/self/statm").readText().split(" ")[1].toLong() * 4096 shr 20
    }

    companion object {
        const val MOST_GROWTH = 8L // MB; interpreters left open add 67, a texture left behind with each frame 23

        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
