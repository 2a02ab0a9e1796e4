package afterlens.lens.runtime

import afterlens.core.Artifact
import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.core.FolderFiles
import afterlens.core.SelfTest
import afterlens.core.Size
import afterlens.core.TensorSpec
import afterlens.lens.Native
import afterlens.lens.TestBundles
import afterlens.lens.floats
import afterlens.lens.golden
import afterlens.lens.psnr
import afterlens.lens.runGolden
import afterlens.lens.worst
import java.io.File
import java.nio.file.Path
import kotlin.concurrent.thread
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

private const val FLOAT_ERROR = 1e-5f
private const val MIXED_PSNR = 40.0 // dB from Python's LiteRT; 45 between x86 and ARM

class TfliteRestorerTest {
    @ParameterizedTest
    @ValueSource(strings = ["udc", "reflection", "deblur"])
    fun `every artifact computes what Python's LiteRT does`(task: String) {
        val bundle = TestBundles.open(task)
        for (artifact in bundle.contract.artifacts.filter { it.format == "tflite" }) {
            TfliteRestorer.onCpu(bundle, artifact, threads = 1).use { restorer ->
                restorer.runGolden(bundle)
                for (output in artifact.outputs) {
                    val got = restorer.output(output.name).floats()
                    val expected = TestBundles.reference(task, artifact, output.name)
                    val (error, decibels) = worst(got, expected) to psnr(got, expected)
                    println("${artifact.file} ${output.name}: largest difference $error, $decibels dB")
                    if (artifact.variant in listOf("float32", "float16")) {
                        assertTrue(error <= FLOAT_ERROR, "${artifact.file} ${output.name}: $error from Python's LiteRT")
                    } else {
                        assertTrue(decibels >= MIXED_PSNR, "${artifact.file} ${output.name}: $decibels dB")
                    }
                    assertSelfTest(bundle, artifact, output, got)
                }
            }
        }
    }

    private fun assertSelfTest(bundle: BundleCheck, artifact: Artifact, output: TensorSpec, got: FloatArray) {
        val golden = bundle.golden(artifact, "output", output.name).values
        val test = SelfTest.of(artifact, output, got, golden)!!
        println(test.line)
        assertTrue(test.passed, test.line)
    }

    @Test
    fun `several threads change nothing`() {
        val bundle = TestBundles.open("udc")
        val artifact = bundle.contract.artifacts.first { it.variant == "float32" }
        val results = listOf(1, 2, 4).map { threads ->
            TfliteRestorer.onCpu(bundle, artifact, threads).use {
                assertEquals(if (threads == 1) "XNNPACK, 1 thread" else "XNNPACK, $threads threads", it.accelerator.name)
                it.runGolden(bundle)
                it.output(artifact.outputs.first().name).floats()
            }
        }
        for (result in results) assertTrue(worst(result, results.first()) <= FLOAT_ERROR)
    }

    @Test
    fun `only the thread that opened a restorer may run it`() {
        val bundle = TestBundles.open("udc")
        val artifact = bundle.contract.artifactFor(Processor.CPU, bundle.contract.sizes().first())
        ModelThread("the model's").use { model ->
            val restorer = model.call { TfliteRestorer.onCpu(bundle, artifact, threads = 1) }
            var error: Throwable? = null
            thread(name = "camera") { error = runCatching { restorer.run() }.exceptionOrNull() }.join()
            assertEquals("${artifact.file}: called on camera, belongs to the model's", error?.message)
            model.call { restorer.runGolden(bundle) }
            model.call { restorer.close() }
        }
    }

    @Test
    fun `faults cross the model thread as they are`() {
        ModelThread().use { model ->
            assertEquals("no model", assertThrows<Fault> { model.call { throw Fault("no model") } }.message)
            assertEquals(3, model.call { 3 })
        }
    }

    @Test
    fun `a file with other tensors than the contract says is refused`(@TempDir folder: Path) {
        TestBundles.open("udc")
        val copy = folder.toFile()
        File(System.getProperty("bundles"), "udc").copyRecursively(copy, overwrite = true)
        val contract = File(copy, "model.json")
        val text = contract.readText()
        contract.writeText(text.replace("\"name\": \"image\"", "\"name\": \"picture\""))
        val bundle = BundleCheck(FolderFiles(copy))
        val artifact = bundle.contract.artifacts.first { it.variant == "float32" }
        val fault = assertThrows<Fault> { TfliteRestorer.onCpu(bundle, artifact, threads = 1) }
        assertEquals("${artifact.file}: its inputs are [image], model.json says [picture]", fault.message)
        File(copy, artifact.file).appendBytes(byteArrayOf(0))
        val damaged = assertThrows<Fault> { TfliteRestorer.onCpu(bundle, artifact, threads = 1) }
        assertTrue("bytes, model.json says" in damaged.message!!, damaged.message)
    }

    @Test
    fun `the variant suits the processor, and a missing size is named`() {
        val contract = TestBundles.open("udc").contract
        assertEquals("mixed", contract.artifactFor(Processor.CPU, Size(256, 256)).variant)
        assertEquals("float16", contract.artifactFor(Processor.GPU, Size(256, 256)).variant)
        val fault = assertThrows<Fault> { contract.artifactFor(Processor.GPU, Size(1280, 720)) }
        assertEquals("udc: no TFLite artifact of 1280x720 for the GPU, there are 256x256", fault.message)
    }

    companion object {
        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
