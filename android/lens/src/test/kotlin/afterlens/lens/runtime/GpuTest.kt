package afterlens.lens.runtime

import afterlens.core.Size
import afterlens.lens.Native
import afterlens.lens.TestBundles
import afterlens.lens.floats
import afterlens.lens.runGolden
import afterlens.lens.worst
import java.io.File
import java.nio.file.Path
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import org.tensorflow.lite.gpu.GpuDelegateFactory.Options.GpuBackend

/** Android's GPU delegate: on this machine's OpenCL (PoCL), and on its OpenGL, what phones without OpenCL have. */
class GpuTest {
    @ParameterizedTest
    @ValueSource(strings = ["udc", "reflection", "deblur"])
    fun `OpenCL takes every float artifact whole, and computes what Python's LiteRT does`(task: String, @TempDir kernels: Path) {
        val bundle = TestBundles.open(task)
        for (artifact in bundle.contract.artifacts.filter { it.variant in listOf("float32", "float16") }) {
            val before = log.length()
            val opened = try {
                TfliteRestorer.onGpu(bundle, artifact, halfFloats = false, GpuBackend.OPENCL, kernels.toFile())
            } catch (refusal: GpuRefused) {
                // On some processors (AMD's without AVX-512) PoCL makes no image of a buffer, whatever is in it.
                if ("clCreateImage" !in refusal.message!!) throw refusal
                println("${artifact.file}: not proved here, ${refusal.message}")
                continue
            }
            opened.use { restorer ->
                val (taken, all) = delegated(before)
                assertEquals(all, taken, "${artifact.file}: the GPU took only a part")
                restorer.runGolden(bundle)
                for (output in artifact.outputs) {
                    val error = worst(restorer.output(output.name).floats(), TestBundles.reference(task, artifact, output.name))
                    println("${artifact.file} ${output.name}: $taken of $all operators on OpenCL, largest difference $error")
                    assertTrue(error <= FLOAT_ERROR, "${artifact.file} ${output.name}: $error from Python's LiteRT")
                    assertTrue(error > 0, "equal to the last bit: was this the CPU?")
                }
            }
            assertTrue(kernels.toFile().list()!!.any { artifact.sha256 in it }, "nothing was kept for the next time")
        }
    }

    @Test
    fun `OpenGL refuses grouped convolutions, and the CPU takes over with the reason`() {
        val bundle = TestBundles.open("udc")
        ModelThread().use { model ->
            val restorer = model.call {
                openRestorer(bundle, Size(256, 256), Processor.GPU, threads = 1) { checked, artifact ->
                    TfliteRestorer.onGpu(checked, artifact, halfFloats = false, GpuBackend.OPENGL)
                }
            }
            println(restorer.accelerator)
            model.call {
                restorer.runGolden(bundle)
                restorer.close()
            }
            assertEquals(Processor.CPU, restorer.accelerator.processor)
            assertEquals("mixed", restorer.artifact.variant)
            assertTrue("group" in restorer.accelerator.insteadOf!!, restorer.accelerator.insteadOf)
        }
    }

    /** How many operators the newest delegate took, and of how many, by what TFLite logged after [start]. */
    private fun delegated(start: Long): Pair<Int, Int> {
        val text = log.readText().drop(start.toInt())
        val found = Regex("""Replacing (\d+) out of (\d+) node\(s\) with delegate \(TfLiteGpuDelegate""").findAll(text).lastOrNull()
        checkNotNull(found) { "nothing about the GPU delegate in: $text" }
        return found.groupValues[1].toInt() to found.groupValues[2].toInt()
    }

    companion object {
        private const val FLOAT_ERROR = 1e-5f
        private val log = File(System.getProperty("log"))

        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
