package afterlens.lens.benchmark

import afterlens.core.BenchmarkDocument
import afterlens.core.Fault
import afterlens.core.Size
import afterlens.lens.Native
import afterlens.lens.PNG
import afterlens.lens.TestBundles
import afterlens.lens.runtime.Processor
import android.os.BatteryManager
import android.os.PowerManager
import java.io.File
import java.nio.file.Path
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource

/** The benchmark as a phone runs it, on this machine's JVM: that it works, not how fast. */
class PhoneBenchmarkTest {
    @ParameterizedTest
    @CsvSource("udc,mixed", "deblur,float32")
    fun `self-test, runs, the live path and every minute are in the document`(task: String, variant: String) {
        val request = REQUEST.copy(bundle = task, variant = variant)
        val told = mutableListOf<String>()
        val hurried = { System.nanoTime() * 600 } // a minute in a tenth of a second
        val document = PhoneBenchmark(TestBundles.open(task), request, State(), PNG, liveSeconds = 0.5, nanoTime = hurried).run { told += it }
        val result = document.results.single()
        assertEquals("TFLite $variant 256x256 CPU", result.id)
        assertEquals(listOf(3, 2, 3), listOf(result.timing.warmup, result.timing.runs, result.timing.samples.size + 1))
        assertTrue(result.timing.peakRssBytes!! > 1 shl 20)
        assertTrue(result.selfTest!!.let { it.psnr >= it.floor }, "${result.selfTest}")
        val live = result.live!!
        assertTrue(live.fps > 0 && live.seconds >= 0.5, "$live")
        assertTrue(live.stages.let { listOf(it.input, it.model, it.output, it.draw).minOf { one -> one.p50 } } > 0, "$live")
        assertEquals(listOf("light" to 79, "light" to 78), result.sustained!!.map { it.thermalState to it.batteryPercent })
        assertTrue(result.sustained!!.any { it.p50 != null }, "${result.sustained}")
        assertEquals(listOf("none", "light"), document.conditions.thermalState)
        assertEquals("measured-emulator", document.provenance)
        assertEquals("sustained: minute 2 of 2", told.last())
        File(System.getProperty("benchmarks")).apply { mkdirs() }.resolve("$task.json").writeText(document.json())
    }

    @Test
    fun `a picture that comes out wrong is not timed`(@TempDir folder: Path) {
        val root = withBundle(folder) { it.replace(Regex("\"self_test_floor_db\": [0-9.]+"), "\"self_test_floor_db\": 99.5") }
        val line = BenchmarkFolder(root, liveSeconds = 0.1).run(EXTRAS::get, State(), PNG) {}
        assertTrue(line!!.startsWith("udc_256x256_mixed.tflite fails its self-test and is not timed: "), line)
        assertEquals(line, File(root, "benchmarks/run.error.txt").readText())
        assertFalse(File(root, "benchmarks/run.json").exists())
    }

    @Test
    fun `the computer finds the document, and what is being done until then`(@TempDir folder: Path) {
        val root = withBundle(folder) { it }
        val seen = mutableListOf<String>()
        val line = BenchmarkFolder(root, liveSeconds = 0.1).run(EXTRAS::get, State(), PNG) { seen += it }
        assertNull(line)
        assertEquals(listOf("run.json", "run.progress.txt"), File(root, "benchmarks").list()!!.sorted())
        assertEquals(seen.last(), File(root, "benchmarks/run.progress.txt").readText())
        File(System.getProperty("benchmarks")).apply { mkdirs() }
            .resolve("folder.json").writeText(File(root, "benchmarks/run.json").readText())
    }

    @ParameterizedTest
    @CsvSource(
        delimiter = '|',
        value = [
            "bundle|none|model.json: is missing",
            "bundle|../other|bundle: got \"../other\", expected letters, digits, '-', '_' and '.'",
            "size|64x64|udc: no TFLite artifact of 64x64 for the CPU, there are 256x256",
            "size|256|size: got \"256\", expected WIDTHxHEIGHT",
            "variant|int4|udc: no TFLite artifact int4 of 256x256",
            "accelerator|npu|accelerator: got \"npu\", expected cpu or gpu",
            "runs|0|runs: got \"0\", expected a whole number from 1 to 100000",
            "threads||threads: got nothing, expected a whole number from 1 to 64",
        ],
    )
    fun `what cannot be run is one line for the computer`(key: String, value: String?, line: String, @TempDir folder: Path) {
        val root = withBundle(folder) { it }
        val got = BenchmarkFolder(root).run({ if (it == key) value else EXTRAS[it] }, State(), PNG) {}
        assertEquals(line, got)
        assertEquals(listOf("run.error.txt"), File(root, "benchmarks").list()!!.toList())
    }

    @Test
    fun `a document's name leads nowhere else`(@TempDir folder: Path) {
        val line = BenchmarkFolder(folder.toFile()).run({ if (it == "document") "../run" else EXTRAS[it] }, State(), PNG) {}
        assertTrue(line!!.startsWith("document: got \"../run\""), line)
        assertEquals(emptyList<String>(), folder.toFile().list()!!.toList())
    }

    @Test
    fun `a fault of the phone reaches the computer`(@TempDir folder: Path) {
        val broken = object : DeviceState by State() {
            override fun thermalState() = error("no such\nservice")
        }
        val line = BenchmarkFolder(withBundle(folder) { it }).run(EXTRAS::get, broken, PNG) {}
        assertEquals("java.lang.IllegalStateException: no such service", line)
    }

    @Test
    fun `a library that is missing and memory that is gone reach it, too`(@TempDir folder: Path) {
        val broken = object : DeviceState by State() {
            override fun thermalState() = throw OutOfMemoryError("4 GB")
        }
        val root = withBundle(folder) { it }
        assertEquals("java.lang.OutOfMemoryError: 4 GB", BenchmarkFolder(root).run(EXTRAS::get, broken, PNG) {})
        assertEquals("java.lang.OutOfMemoryError: 4 GB", File(root, "benchmarks/run.error.txt").readText())
    }

    /** In float16, as on phones. PoCL refuses that on some processors, and what was looked for is in the reason. */
    @Test
    fun `the GPU looks for the kernels that the live preview keeps, and a refusal reaches the computer`(@TempDir folder: Path) {
        val (root, kernels) = withBundle(folder) { it } to File(folder.toFile(), "kernels").apply { mkdirs() }
        val gpu = EXTRAS + mapOf("accelerator" to "gpu", "variant" to "float16")
        val line = BenchmarkFolder(root, kernels, liveSeconds = 0.1).run(gpu::get, State(), PNG) {}
        val artifact = TestBundles.open("udc").contract.artifacts.first { it.variant == "float16" }
        if (line == null) {
            assertTrue(kernels.list()!!.any { artifact.sha256 in it }, "nothing was kept for the next time")
        } else {
            assertTrue(line.startsWith("${artifact.file}: TFLite refuses it on the GPU"), line)
            assertTrue("$kernels/${artifact.sha256}" in line, line)
            assertEquals(line, File(root, "benchmarks/run.error.txt").readText())
        }
    }

    @Test
    fun `Android's numbers have names`() {
        assertEquals("severe", thermalName(PowerManager.THERMAL_STATUS_SEVERE))
        assertEquals("status 9", thermalName(9))
        assertEquals(listOf("battery", "usb", null), listOf(0, BatteryManager.BATTERY_PLUGGED_USB, 64).map(::powerName))
    }

    @Test
    fun `a request needs all of it`() {
        assertEquals(REQUEST.copy(variant = null, runs = 2, warmup = 0, minutes = 0, document = "run"), BenchmarkRequest.of(EXTRAS::get))
        assertThrows<Fault> { BenchmarkRequest.of { null } }
    }

    private fun withBundle(folder: Path, change: (String) -> String): File {
        TestBundles.open("udc") // skips where there is none
        val copy = File(folder.toFile(), "bundles/udc")
        File(System.getProperty("bundles"), "udc").copyRecursively(copy)
        File(copy, "model.json").apply { writeText(change(readText())) }
        return folder.toFile()
    }

    /** A phone that warms up, and that loses a percent whenever it is asked. Named so that nobody takes it for one. */
    private class State : DeviceState {
        private var asked = 0
        private var percent = 80

        override val device = BenchmarkDocument.Device("a JVM in a test, no phone", "none", null, null, 1, null)
        override val isEmulator = true
        override fun thermalState() = if (asked++ == 0) "none" else "light"
        override fun batteryPercent() = --percent
        override fun powerSource() = "usb"
        override fun isPowerSaving() = false
    }

    companion object {
        private val REQUEST = BenchmarkRequest(
            "udc", "document", Size(256, 256), variant = "mixed", Processor.CPU, threads = 1, warmup = 2, runs = 2, minutes = 2,
        )
        private val EXTRAS = mapOf(
            "bundle" to "udc", "document" to "run", "size" to "256x256", "accelerator" to "cpu", "threads" to "1",
            "warmup" to "0", "runs" to "2", "minutes" to "0",
        )

        @JvmStatic
        @BeforeAll
        fun load() = Native.load()
    }
}
