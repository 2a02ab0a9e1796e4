package afterlens.lens.runtime

import afterlens.core.Size
import afterlens.lens.Native
import afterlens.lens.TestBundles
import afterlens.lens.floats
import afterlens.lens.runGolden
import afterlens.lens.worst
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.tensorflow.lite.gpu.GpuDelegateFactory.Options.GpuBackend

/** The Android GPU delegate on this machine's OpenGL: what phones without OpenCL have. */
class GpuTest {
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

    companion object {
        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
