package afterlens.core

import java.io.File
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

class SelfTestTest {
    private val noPng = PngDecoder { throw AssertionError("no PNG here") }

    @Test
    fun `verdicts are those of the vectors`() {
        for (case in Vectors.json("golden.json").entries("self_tests")) {
            val (low, high) = case.doubles("range")
            val output = TensorSpec("restored", listOf(1), "NHWC", "float32", low, high, "sRGB", "")
            val test = SelfTest.of(output, golden(case.text("got"), 24, 32, 3), golden(case.text("expected"), 24, 32, 3), case.double("floor_db"))
            assertEquals(case.double("psnr_db"), test.psnr, 1e-5, "$case")
            assertEquals(case.flag("passed"), test.passed, "$case")
            assertEquals(case.text("line"), test.line)
        }
    }

    @Test
    fun `errors are taken as parts of the output's range`() {
        val levels = TensorSpec("levels", listOf(1), "image", "uint8", 0.0, 255.0, "sRGB", "")
        val (black, grey) = FloatArray(3) to FloatArray(3) { 25.5f }
        assertEquals(20.0, SelfTest.of(levels, grey, black, 0.0).psnr, 1e-4)
    }

    @Test
    fun `an output of another size is a fault`() {
        val output = TensorSpec("restored", listOf(1), "NHWC", "float32", 0.0, 1.0, "sRGB", "")
        val fault = assertThrows<Fault> { SelfTest.of(output, FloatArray(6), FloatArray(3), 40.0) }
        assertEquals("restored: the output has 6 values, expected 3", fault.message)
    }

    @Test
    fun `a golden file of another size is a fault`() {
        val fault = assertThrows<Fault> { golden("expected.float32", 25, 32, 3) }
        assertEquals("expected.float32: has 9216 bytes, expected 9600 for [25, 32, 3]", fault.message)
        val png = GoldenFile("a.png", "input", "image", "png", listOf(2, 3, 3), "", 1)
        val wrong = assertThrows<Fault> { png.decode(ByteArray(0)) { Picture(2, 3, FloatArray(18)) } }
        assertEquals("a.png: has the shape [3, 2, 3], model.json says [2, 3, 3]", wrong.message)
    }

    @Test
    fun `scores of classes are compared with the floor of their artifact`() {
        val bundle = BundleCheck(FolderFiles(File(Vectors.folder, "contracts/valid/tagged")))
        val artifact = bundle.contract.artifacts.single()
        val label = artifact.outputs.single()
        val file = bundle.contract.golden.single { it.tensor == "label" }
        val golden = file.values(bundle.read(file), noPng)
        assertArrayEquals(FloatArray(3), golden)
        assertThrows<Fault> { file.decode(bundle.read(file), noPng) }
        val got = floatArrayOf(0f, 0f, 0.1f)
        assertEquals(null, SelfTest.of(artifact, label, got, golden))
        val test = SelfTest.of(artifact.copy(selfTestFloor = 24.0), label, got, golden)!!
        assertEquals(24.77, test.psnr, 0.01)
        assertTrue(test.passed)
    }

    private fun golden(name: String, vararg shape: Int): FloatArray =
        GoldenFile(name, "output", "restored", "float32", shape.toList(), "", 1)
            .values(File(Vectors.folder, "golden/$name").readBytes(), noPng)
}
