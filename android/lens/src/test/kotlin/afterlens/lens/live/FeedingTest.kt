package afterlens.lens.live

import afterlens.core.Affine
import afterlens.core.CameraFrame
import afterlens.core.Size
import afterlens.lens.TestBundles
import afterlens.lens.gl.Frame
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class FeedingTest {
    private val artifact = TestBundles.open("udc").contract.artifacts.first()
    private val exact = CameraFrame.Exact(Size(1920, 1080))
    private val view = Size(400, 800)

    private fun format(width: Int, height: Int, rotation: Int = 90) = FrameFormat(Size(width, height), rotation, mirrored = false)

    @Test
    fun `converted bundles say which frames they want`() {
        assertEquals(CameraFrame.Exact(Size(1280, 720)), TestBundles.open("udc").contract.camera)
        assertEquals(CameraFrame.Scaled, TestBundles.open("reflection").contract.camera)
    }

    @Test
    fun `frames of the wanted size are fed unscaled and as the sensor delivers them`() {
        val feeding = Feeding(exact, artifact)
        assertEquals(Size(1920, 1080), feeding.wanted)
        assertEquals(Fit.AS_TRAINED, feeding.fit(format(1920, 1080)))
        assertEquals(Fit.SCALED, feeding.fit(format(1280, 720)))
        val frame = Frame.photo(1)
        val part = feeding.part(frame).textureFromSensor
        assertEquals(listOf(256f / 1920, 256f / 1080), listOf(part[0], part[5]))
        val fed = feeding.geometry(format(1920, 1080), view).sensorFromArtifact
        assertEquals(Affine.IDENTITY, fed)
    }

    @Test
    fun `a network that takes any frame gets it upright, and an older bundle says that it does not know`() {
        for ((camera, fit) in listOf(CameraFrame.Scaled to Fit.AS_TRAINED, CameraFrame.NotSaid to Fit.NOT_SAID)) {
            val feeding = Feeding(camera, artifact)
            assertEquals(fit, feeding.fit(format(640, 480)))
            val frame = Frame.photo(1)
            assertTrue(feeding.part(frame) === frame)
            // What is across in the upright picture is along the height of a frame that has to be turned by 90 degrees.
            val turned = feeding.geometry(format(640, 480), view).sensorFromArtifact
            assertTrue(turned.xx == 0.0 && turned.yy == 0.0 && turned.yx != 0.0, "$turned")
        }
    }
}
