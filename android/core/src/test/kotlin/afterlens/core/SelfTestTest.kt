package afterlens.core

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

class SelfTestTest {
    private val noPng = PngDecoder { throw AssertionError("no PNG here") }

    @Test
    fun `verdicts are those of the vectors`() {
        for (case in Vectors.json("golden.json").entries("self_tests")) {
            val (low, high) = case.doubles("range")
            val output = TensorSpec("restored", listOf(1), "NHWC", "float32", low, high, "sRGB", "")
            val test = SelfTest.of(output, picture(case.text("got"), 32, 24), picture(case.text("expected"), 32, 24), case.double("floor_db"))
            assertEquals(case.double("psnr_db"), test.psnr, 1e-5, "$case")
            assertEquals(case.flag("passed"), test.passed, "$case")
            assertEquals(case.text("line"), test.line)
        }
    }

    @Test
    fun `errors are taken as parts of the output's range`() {
        val levels = TensorSpec("levels", listOf(1), "image", "uint8", 0.0, 255.0, "sRGB", "")
        val (black, grey) = Picture(1, 1, FloatArray(3)) to Picture(1, 1, FloatArray(3) { 25.5f })
        assertEquals(20.0, SelfTest.of(levels, grey, black, 0.0).psnr, 1e-4)
    }

    @Test
    fun `an output of another size is a fault`() {
        val output = TensorSpec("restored", listOf(1), "NHWC", "float32", 0.0, 1.0, "sRGB", "")
        val fault = assertThrows<Fault> {
            SelfTest.of(output, Picture(2, 1, FloatArray(6)), Picture(1, 2, FloatArray(6)), 40.0)
        }
        assertEquals("restored: the output has 2x1, expected 1x2", fault.message)
    }

    @Test
    fun `a golden file of another size is a fault`() {
        val fault = assertThrows<Fault> { picture("expected.float32", 32, 25) }
        assertEquals("expected.float32: has 9216 bytes, expected 9600 for 32x25", fault.message)
        val png = GoldenFile("a.png", "input", "image", "png", listOf(2, 3, 3), "", 1)
        val wrong = assertThrows<Fault> { png.decode(ByteArray(0)) { Picture(2, 3, FloatArray(18)) } }
        assertEquals("a.png: has 2x3 pixels, model.json says 3x2", wrong.message)
    }

    private fun picture(name: String, width: Int, height: Int): Picture =
        GoldenFile(name, "output", "restored", "float32", listOf(height, width, 3), "", 1)
            .decode(File(Vectors.folder, "golden/$name").readBytes(), noPng)
}
