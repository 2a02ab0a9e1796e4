package afterlens.lens.photo

import afterlens.core.Picture
import afterlens.lens.Native
import afterlens.lens.PNG
import afterlens.lens.TestBundles
import afterlens.lens.floats
import afterlens.lens.worst
import java.io.File
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

class PhotoRestorerTest {
    @TestFactory
    fun `as Python's restore does`(): List<DynamicTest> = listOf("udc", "reflection", "deblur").map { task ->
        dynamicTest(task) {
            val folder = File(System.getProperty("bundles"), "reference/$task")
            val photo = PNG.decode(File(folder, "photo.png").readBytes())
            val restored = PhotoRestorer(TestBundles.open(task)).restore(photo)
            val error = worst(restored.values, floats(File(folder, "photo.float32")))
            println("$task: a photo of ${photo.width}x${photo.height} differs from Python's by $error")
            assertTrue(error <= 1e-5f, "$error")
        }
    }

    @Test
    fun `a photo turns as numpy's rot90 turns it, and back`() {
        val photo = Picture(3, 2, FloatArray(18) { (it / 3).toFloat() }) // 0 1 2 / 3 4 5
        val turned = photo.turned()
        assertEquals(2 to 3, turned.width to turned.height)
        assertEquals(listOf(2f, 5f, 1f, 4f, 0f, 3f), turned.values.filterIndexed { index, _ -> index % 3 == 0 })
        assertArrayEquals(photo.values, turned.turnedBack().values)
    }

    @Test
    fun `a tall photo is turned for a wide artifact, and the smallest that holds it is taken`() {
        val one = TestBundles.open("udc").contract.artifacts.first()
        val artifacts = listOf(256 to 256, 1280 to 720).map { (width, height) -> one.copy(width = width, height = height) }
        fun chosen(width: Int, height: Int) = PhotoFit.choose(artifacts, width, height).let { it.artifact.width to it.turned }
        assertEquals(256 to false, chosen(200, 100))
        assertEquals(1280 to true, chosen(600, 1000))
        assertEquals(1280 to false, chosen(4000, 3000))
    }

    companion object {
        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
