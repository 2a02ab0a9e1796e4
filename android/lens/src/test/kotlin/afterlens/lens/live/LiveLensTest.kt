package afterlens.lens.live

import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.core.Size
import afterlens.lens.Native
import afterlens.lens.TestBundles
import afterlens.lens.golden
import afterlens.lens.runtime.Processor
import afterlens.lens.runtime.Restorer
import afterlens.lens.runtime.TfliteRestorer
import java.util.concurrent.CountDownLatch
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import kotlin.math.abs
import kotlin.math.round
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test

/** All of the live preview with real networks and a real renderer, but for the camera; the window is a pbuffer. */
class LiveLensTest {
    private val states = LinkedBlockingQueue<LiveState>()
    private val screens = LinkedBlockingQueue<FloatArray>()
    private val bundle = TestBundles.open("udc")
    private val artifact = bundle.contract.artifacts.first { it.variant == "float32" }
    private val size = Size(artifact.width, artifact.height)
    private val seen = bundle.golden(artifact, "input", "image")

    private fun lens(
        open: (BundleCheck, Size, Processor, Int) -> Restorer = { bundle, _, _, threads -> openFloats(bundle, threads) },
    ) =
        LiveLens(null, ::PlainTexture, { egl, surface, view -> ReadWindow(EglWindow(egl, surface, view), screens::add) }, open, states::add)

    /** The float32 file on the CPU, whose result is known. */
    private fun openFloats(bundle: BundleCheck, threads: Int): Restorer = TfliteRestorer.onCpu(bundle, artifact, threads)

    /** The first state of this kind, within a minute. */
    private inline fun <reified T : LiveState> await(): T {
        while (true) {
            val state = checkNotNull(states.poll(60, TimeUnit.SECONDS)) { "no ${T::class.simpleName}" }
            if (state is T) return state
        }
    }

    private fun awaitScreen(what: String, isThere: (FloatArray) -> Boolean) {
        while (true) if (isThere(checkNotNull(screens.poll(60, TimeUnit.SECONDS)) { what })) return
    }

    @AfterEach
    fun nothingIsLeft() {
        val left = Thread.getAllStackTraces().keys.filter { it.name == "model" || it.name == "OpenGL" }
        left.forEach { it.join(5_000) } // it has done its work, and is about to end
        assertEquals(emptyList<String>(), left.filter { it.isAlive }.map { it.name })
    }

    @Test
    fun `an under-display network gets the middle of the camera's frame, unscaled, and its result is shown`() {
        val expected = TestBundles.reference("udc", artifact, "restored")
        lens().use { lens ->
            val camera = TestCamera(framed(seen))
            lens.divider = 0f
            lens.show(TestSurface.of(size), size)
            lens.load(bundle, size, Processor.GPU, threads = 1)
            lens.start(camera)
            awaitScreen("the raw picture, and then the result") { screen ->
                camera.deliver()
                screen.indices.all { abs(screen[it] - expected[it] * 255) <= 1f }
            }
            lens.amount = 0.5f
            awaitScreen("half of the change") { screen ->
                camera.deliver()
                screen.indices.all { abs(screen[it] - (seen.values[it] + expected[it]) / 2 * 255) <= 1f }
            }
            lens.amount = 0f
            awaitScreen("the raw picture") { screen -> screen.indices.all { screen[it] == round(seen.values[it] * 255) } }
            val report = await<LiveState.Running>().report
            assertTrue(report.restored > 0 && report.fit == Fit.AS_TRAINED && report.stages!!.model > 0, "$report")
            assertEquals(Size(1280, 720), camera.wanted)
        }
    }

    @Test
    fun `the raw picture is there while the model is loaded, and stays where it cannot be`() {
        val mayFail = CountDownLatch(1)
        val slow = { _: BundleCheck, _: Size, _: Processor, _: Int ->
            mayFail.await()
            throw Fault("the file is damaged")
        }
        lens(slow).use { lens ->
            val camera = TestCamera(framed(seen))
            lens.divider = 0f
            lens.load(bundle, size, Processor.CPU)
            lens.show(TestSurface.of(size), size)
            lens.start(camera)
            assertEquals(size, await<LiveState.WarmingUp>().artifact.let { Size(it.width, it.height) })
            val raw = { screen: FloatArray -> screen.indices.all { abs(screen[it] - seen.values[it] * 255) <= 1f } }
            awaitScreen("the raw picture", raw)
            mayFail.countDown()
            assertEquals("the file is damaged", await<LiveState.Failed>().reason)
            screens.clear()
            camera.deliver()
            awaitScreen("the raw picture afterwards", raw)
        }
    }

    @Test
    fun `a camera that fails says why, and one that was replaced says nothing any more`() {
        lens().use { lens ->
            val (first, second) = TestCamera(framed(seen)) to TestCamera(framed(seen))
            lens.start(first)
            lens.start(second)
            second.started.await()
            first.listener.failed(CameraProblem.BROKEN)
            second.listener.failed(CameraProblem.TAKEN)
            assertEquals(CameraProblem.TAKEN, await<LiveState.NoCamera>().problem)
            assertTrue(first.isClosed)
        }
    }

    @Test
    fun `it can be closed at any moment, and nothing draws into a view after it was hidden`() {
        repeat(CYCLES) { cycle ->
            val lens = lens()
            val camera = TestCamera(framed(seen))
            lens.show(TestSurface.of(size), size)
            lens.load(bundle, size, Processor.CPU, threads = 1)
            lens.start(camera)
            if (cycle % 2 == 0) awaitScreen("a picture") { true }
            if (cycle % 3 == 0) lens.load(bundle, size, Processor.CPU, threads = 1)
            if (cycle % 4 == 0) {
                lens.hide()
                screens.clear()
                camera.deliver()
            }
            lens.close()
            if (cycle % 4 == 0) assertEquals(0, screens.size)
            screens.clear()
        }
    }

    companion object {
        const val CYCLES = 40

        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
