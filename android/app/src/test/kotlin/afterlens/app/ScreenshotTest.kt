package afterlens.app

import afterlens.app.ui.CompareView
import afterlens.app.ui.LiveActivity
import afterlens.app.ui.PhotoActivity
import afterlens.app.ui.PhotoJob
import afterlens.app.ui.words
import afterlens.lens.live.CameraProblem
import afterlens.lens.live.Fit
import afterlens.lens.live.LiveReport
import afterlens.lens.live.LiveState
import afterlens.lens.pipeline.StageTimes
import afterlens.lens.runtime.Accelerator
import afterlens.lens.runtime.Processor
import android.app.Activity
import android.graphics.Color
import android.graphics.Rect
import android.hardware.camera2.CameraCharacteristics
import android.view.View
import android.widget.Button
import android.widget.TextView
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
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
    private val artifact = Device.contract().artifacts.first { it.format == "tflite" }.copy(width = 256, height = 256)
    private val live = Robolectric.buildActivity(LiveActivity::class.java)

    private fun status() = live.get().requireViewById<TextView>(R.id.status).text.toString()

    private fun running(accelerator: Accelerator, fit: Fit = Fit.AS_TRAINED) =
        LiveState.Running(artifact, accelerator, LiveReport(StageTimes(1.0, 2.0, 3.0), 4.0, 10.0, 5, 100, fit))

    private fun start() {
        Device.allowCamera()
        Device.addCamera("0", CameraCharacteristics.LENS_FACING_BACK)
        Device.addCamera("1", CameraCharacteristics.LENS_FACING_FRONT)
        live.setup()
        Device.finishThreads()
    }

    /** In the place of what LiveLens draws. */
    private fun camera(): View {
        live.get().window.setBackgroundDrawable(null)
        val (raw, restored) = Device.restoredPhoto()
        return CompareView(live.get(), null).apply {
            setBackgroundColor(Color.BLACK)
            before = raw
            after = restored
        }
    }

    /** The screen has other pixels than the photo. */
    private fun assertSimilar(expected: Int, got: Int) {
        val difference = listOf(0, 8, 16).maxOf { abs((expected shr it and 255) - (got shr it and 255)) }
        assertTrue("$difference levels", difference <= 24)
    }

    @Test
    fun `it shows what runs on what, and how fast`() = live.use {
        start()
        live.get().show(LiveState.WarmingUp(artifact))
        assertEquals("Warming up 256x256 …", status())
        live.get().show(running(Accelerator(Processor.GPU, "GPU, float16")))
        assertEquals(
            "256x256 float16 on GPU, float16\n10.0 fps, 5 frames dropped\nread 1.0 ms, run 2.0 ms, upload 3.0 ms, draw 4.0 ms",
            status(),
        )
        val screen = Device.screenshot(live.get(), "live", camera())
        assertEquals("the divider", Color.WHITE, screen.getPixel(screen.width / 2, screen.height / 3))
    }

    @Test
    @Config(qualifiers = "+de")
    fun `it says why the GPU refused, and where the frames are not as the network was trained`() = live.use {
        start()
        val reason = "udc: Convolution does not support more than 1 group"
        live.get().show(running(Accelerator(Processor.CPU, "XNNPACK, 4 threads", reason), fit = Fit.SCALED))
        assertTrue(status(), status().contains("Die GPU lehnt ab: $reason"))
        assertTrue(status(), status().contains("nicht die Bildgröße"))
        Device.screenshot(live.get(), "live_de", camera())
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
        live.get().show(LiveState.WarmingUp(artifact))
        live.get().show(LiveState.NoCamera(CameraProblem.TAKEN))
        Device.screenshot(live.get(), "camera_taken")
        live.get().requireViewById<View>(R.id.message).let { assertTrue("${it.height}", it.height > 0) }
    }

    @Test
    @Config(qualifiers = "w390dp-h731dp")
    fun `nothing lies over anything else on a narrow screen`() = live.use {
        start()
        live.get().show(running(Accelerator(Processor.GPU, "GPU, float16")))
        Device.screenshot(live.get(), "live_narrow", camera())
        assertApart(live.get(), R.id.status, R.id.amount_text, R.id.amount, R.id.bundles, R.id.lens, R.id.photo)
        Robolectric.buildActivity(PhotoActivity::class.java).use { photo ->
            photo.setup()
            Device.screenshot(photo.get(), "photo_narrow")
            val row = intArrayOf(R.id.open, R.id.save, R.id.share)
            assertApart(photo.get(), R.id.status, R.id.pictures, R.id.amount_text, R.id.amount, R.id.bundles, *row)
        }
    }

    @Test
    @Config(qualifiers = "de-w390dp-h731dp")
    fun `nor in German`() = `nothing lies over anything else on a narrow screen`()

    private fun assertApart(activity: Activity, vararg ids: Int) {
        val screen = activity.window.decorView.run { Rect(0, 0, width, height) }
        val places = ids.map { id ->
            val view = activity.requireViewById<View>(id)
            val (left, top) = IntArray(2).also(view::getLocationInWindow)
            Rect(left, top, left + view.width, top + view.height)
        }
        for ((at, place) in places.withIndex()) {
            assertTrue("$place on $screen", !place.isEmpty && screen.contains(place))
            for (other in places.drop(at + 1)) assertFalse("$place over $other", Rect.intersects(place, other))
        }
    }

    @Test
    fun `a photo before and after`() {
        Robolectric.buildActivity(PhotoActivity::class.java).use { photo ->
            photo.setup()
            val (before, after) = Device.restoredPhoto()
            photo.get().show(PhotoJob.Outcome(before, after, "udc, 0.5 s"))
            val screen = Device.screenshot(photo.get(), "photo")
            val pictures = photo.get().requireViewById<CompareView>(R.id.pictures)
            val middle = pictures.top + pictures.height / 2
            val expected = after.getPixel(after.width * 3 / 4, after.height / 2)
            assertSimilar(expected, screen.getPixel(screen.width * 3 / 4, middle))
            assertTrue(photo.get().requireViewById<Button>(R.id.save).isEnabled)
        }
    }
}
