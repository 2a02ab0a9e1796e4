package afterlens.app

import afterlens.app.camera.Camera2Source
import afterlens.app.camera.lenses
import afterlens.core.Size
import afterlens.lens.live.CameraProblem
import afterlens.lens.live.CameraTexture
import afterlens.lens.live.FrameFormat
import afterlens.lens.live.FrameSource
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraCharacteristics
import java.lang.ref.WeakReference
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.util.ReflectionHelpers
import org.robolectric.util.ReflectionHelpers.ClassParameter

/** Camera2's and SurfaceTexture's own classes; there is no camera behind them. */
@RunWith(RobolectricTestRunner::class)
@Config(qualifiers = "w411dp-h731dp-xhdpi")
class Camera2SourceTest {
    private class Formats : ArrayList<FrameFormat>(), FrameSource.Listener {
        override fun started(format: FrameFormat) {
            add(format)
        }

        override fun failed(problem: CameraProblem) = error("$problem")
    }

    @Test
    fun `when the display turns, the frames' rotation follows, against it in front`() {
        Device.allowCamera()
        Device.addCamera("0", CameraCharacteristics.LENS_FACING_BACK)
        Device.addCamera("1", CameraCharacteristics.LENS_FACING_FRONT)
        val found = Device.cameras.lenses().map { lens ->
            val (formats, texture) = Formats() to CameraTexture {}
            val source = Camera2Source(Device.app, lens)
            source.start(texture, WANTED, formats)
            for (display in listOf("+land", "+port")) turn(display)
            source.close()
            turn("+land")
            turn("+port")
            texture.close()
            assertEquals(setOf(WANTED to lens.front), formats.map { it.size to it.mirrored }.toSet())
            formats.map { it.rotation }.zipWithNext().filter { (one, next) -> one != next }.map { it.second }
                .let { listOf(formats.first().rotation) + it }
        }
        assertEquals("back, and front: upright, on its side, upright again", listOf(listOf(90, 0, 90), listOf(90, 180, 90)), found)
    }

    @Test
    fun `a frame of the camera is announced until its texture is closed`() {
        var announced = 0
        val texture = CameraTexture { announced++ }
        val inside = ReflectionHelpers.getField<SurfaceTexture>(texture, "surfaceTexture")
        fun frame() {
            val weak = ClassParameter.from(WeakReference::class.java, WeakReference(inside))
            ReflectionHelpers.callStaticMethod<Unit>(SurfaceTexture::class.java, "postEventFromNative", weak)
            Device.idle()
        }
        repeat(2) { frame() }
        assertEquals(2, announced)
        texture.close()
        frame()
        assertEquals(2, announced)
    }

    private fun turn(qualifiers: String) {
        RuntimeEnvironment.setQualifiers(qualifiers)
        Device.idle()
    }

    private companion object {
        val WANTED = Size(1280, 720)
    }
}
