package afterlens.app

import afterlens.app.camera.nearest
import afterlens.core.Size
import org.junit.Assert.assertEquals
import org.junit.Test

class CamerasTest {
    @Test
    fun `the camera is asked for the size that comes nearest`() {
        val sizes = listOf(Size(4000, 3000), Size(1920, 1080), Size(1280, 720), Size(640, 480))
        assertEquals(Size(1280, 720), nearest(sizes, Size(1280, 720)))
        assertEquals(Size(1920, 1080), nearest(sizes - Size(1280, 720), Size(1280, 720)))
        assertEquals(Size(640, 480), nearest(sizes, Size(512, 512)))
    }
}
