package afterlens.app

import afterlens.app.camera.nearest
import afterlens.app.ui.LiveActivity
import afterlens.app.ui.PhotoActivity
import afterlens.app.ui.PhotoJob
import afterlens.app.ui.words
import afterlens.core.Size
import afterlens.lens.live.CameraProblem
import afterlens.lens.live.LiveReport
import afterlens.lens.live.LiveState
import afterlens.lens.pipeline.StageTimes
import afterlens.lens.runtime.Accelerator
import afterlens.lens.runtime.Processor
import android.graphics.Bitmap
import android.graphics.Color
import android.hardware.camera2.CameraCharacteristics
import android.widget.TextView
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

/** Pictures of the screens, to be looked at, and what must be on them. The camera's own picture is not on them. */
@RunWith(RobolectricTestRunner::class)
@Config(qualifiers = "w411dp-h731dp-xhdpi")
class ScreenshotTest {
    private val artifact = Device.contract().artifacts.first { it.format == "tflite" }
    private val live = Robolectric.buildActivity(LiveActivity::class.java)

    private fun status() = live.get().requireViewById<TextView>(R.id.status).text.toString()

    private fun running(accelerator: Accelerator, asTrained: Boolean = true) =
        LiveState.Running(artifact, accelerator, LiveReport(StageTimes(4.0, 20.5, 1.5), 2.0, 24.5, 3, 100, asTrained))

    private fun start() {
        Device.allowCamera()
        Device.addCamera("0", CameraCharacteristics.LENS_FACING_BACK)
        Device.addCamera("1", CameraCharacteristics.LENS_FACING_FRONT)
        live.setup()
        Device.finishThreads()
    }

    @Test
    fun `it shows what runs on what, and how fast`() = live.use {
        start()
        live.get().show(LiveState.WarmingUp(artifact))
        assertEquals("Warming up 4x2 …", status())
        live.get().show(running(Accelerator(Processor.GPU, "GPU, float16")))
        assertEquals(
            "4x2 float16 on GPU, float16\n24.5 fps, 3 frames dropped\nread 4.0 ms, run 20.5 ms, upload 1.5 ms, draw 2.0 ms",
            status(),
        )
        val screen = Device.screenshot(live.get(), "live")
        assertEquals("the divider", Color.WHITE, screen.getPixel(screen.width / 2, screen.height / 3))
    }

    @Test
    @Config(qualifiers = "+de")
    fun `it says why the GPU refused, and where the frames are not as the network was trained`() = live.use {
        start()
        val reason = "udc: Convolution does not support more than 1 group"
        live.get().show(running(Accelerator(Processor.CPU, "XNNPACK, 4 threads", reason), asTrained = false))
        assertTrue(status(), status().contains("Die GPU lehnt ab: $reason"))
        assertTrue(status(), status().contains("nicht die Bildgröße"))
        Device.screenshot(live.get(), "live_de")
        live.get().show(LiveState.Failed("no memory"))
        assertEquals("Das Netz hat angehalten. no memory", status())
    }

    @Test
    fun `each trouble with the camera has words of its own`() = live.use {
        start()
        val found = CameraProblem.entries.map { problem ->
            live.get().show(LiveState.NoCamera(problem))
            live.get().requireViewById<TextView>(R.id.message_text).text.toString()
        }
        assertEquals(CameraProblem.entries.map { live.get().getString(it.words()) }, found)
        assertEquals(found.size, found.toSet().size)
        live.get().show(LiveState.NoCamera(CameraProblem.TAKEN))
        Device.screenshot(live.get(), "camera_taken")
        Unit
    }

    @Test
    fun `a photo before and after`() {
        Robolectric.buildActivity(PhotoActivity::class.java).use { photo ->
            photo.setup()
            val before = Device.photo()
            val after = Bitmap.createBitmap(before).copy(Bitmap.Config.ARGB_8888, true).apply { eraseColor(Color.GREEN) }
            photo.get().show(PhotoJob.Outcome(before, after, "photo, 0.5 s"))
            val screen = Device.screenshot(photo.get(), "photo")
            assertEquals(Color.GREEN, screen.getPixel(screen.width * 3 / 4, screen.height / 2))
        }
    }

    @Test
    fun `the camera is asked for the size that comes nearest`() {
        val sizes = listOf(Size(4000, 3000), Size(1920, 1080), Size(1280, 720), Size(640, 480))
        assertEquals(Size(1280, 720), nearest(sizes, Size(1280, 720)))
        assertEquals(Size(1920, 1080), nearest(sizes - Size(1280, 720), Size(1280, 720)))
        assertEquals(Size(640, 480), nearest(sizes, Size(512, 512)))
    }
}
