package afterlens.lens.benchmark

import afterlens.core.Artifact
import afterlens.core.BenchmarkDocument
import afterlens.core.BenchmarkDocument.Minute
import afterlens.core.BenchmarkDocument.Timing
import afterlens.core.BenchmarkRun
import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.core.GoldenFile
import afterlens.core.PngDecoder
import afterlens.core.SelfTest
import afterlens.core.TensorSpec
import afterlens.core.decode
import afterlens.core.values
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.Processor
import afterlens.lens.runtime.Restorer
import afterlens.lens.runtime.TfliteRestorer
import afterlens.lens.runtime.artifactFor
import java.io.File
import java.nio.ByteBuffer
import java.time.Instant
import java.time.temporal.ChronoUnit
import kotlin.math.abs
import org.tensorflow.lite.TensorFlowLite

/**
 * Times one artifact on the phone it runs on, by the app's own parts: the golden input must come out right first, then
 * single runs, then the live path, then, if asked for, minutes without a rest.
 *
 *     val document = PhoneBenchmark(bundle, request, state, png).run { line -> show(line) }
 *
 * Call it on a thread of its own, and keep the screen on. Nothing falls back: a GPU that refuses is a [Fault].
 *
 * @param kernels as in `LiveLens`: what is timed is the app's own path.
 */
class PhoneBenchmark(
    private val bundle: BundleCheck,
    private val request: BenchmarkRequest,
    private val state: DeviceState,
    private val png: PngDecoder,
    private val kernels: File? = null,
    private val liveSeconds: Double = LIVE_SECONDS,
    private val nanoTime: () -> Long = System::nanoTime,
) {
    private val artifact: Artifact = chosen()
    private val inputs = artifact.inputs.associateWith { golden("input", it) ?: throw Fault("${artifact.file}: no golden input ${it.name}") }

    /** [progress] is told what begins, in a few words, never while something is timed. Throws a [Fault], one line. */
    fun run(progress: (String) -> Unit): BenchmarkDocument {
        val created = Instant.now().truncatedTo(ChronoUnit.SECONDS)
        val before = state.thermalState()
        val powerSource = state.powerSource()
        val result = ModelThread("benchmark").use { model ->
            progress("loading ${artifact.file}")
            val begin = nanoTime()
            val restorer = model.call(::open)
            val loaded = since(begin)
            try {
                measured(model, restorer, loaded, progress)
            } finally {
                model.call { restorer.close() }
            }
        }
        val after = state.thermalState()
        return BenchmarkDocument(
            created = "$created".replace("Z", "+00:00"),
            provenance = if (state.isEmulator) "measured-emulator" else "measured-device",
            device = state.device,
            conditions = BenchmarkDocument.Conditions(
                thermalState = if (before == null || after == null) null else listOf(before, after),
                lowPowerMode = state.isPowerSaving(),
                powerSource = powerSource,
            ),
            input = "the bundle's golden input (${inputs.values.joinToString { it.file }}); " +
                "live: it comes ${LiveRun.FRAME_RATE} times a second in the place of a camera",
            results = listOf(result),
        )
    }

    private fun measured(
        model: ModelThread,
        restorer: Restorer,
        loaded: Double,
        progress: (String) -> Unit,
    ): BenchmarkDocument.Result {
        progress("self-test")
        feed(restorer)
        val first = model.call { BenchmarkRun(warmup = 0, runs = 1, nanoTime).times { restorer.run() } }
        val (test, error) = selfTest(restorer)
        progress("${request.runs} runs after ${request.warmup} warm-ups")
        val times = first + model.call { BenchmarkRun(request.warmup, request.runs, nanoTime).times { restorer.run() } }
        val timing = Timing.of(times, warmup = request.warmup + first.size, loaded, peakBytes())
        progress("live for ${liveSeconds.toInt()} seconds")
        val live = live(model, restorer)
        feed(restorer) // the live path left other pictures there
        val sustained = if (request.minutes > 0) sustained(model, restorer, progress) else null
        return BenchmarkDocument.Result(
            id = "TFLite ${artifact.variant} ${request.size} ${request.processor}",
            runtime = BenchmarkDocument.Runtime(
                name = "tflite",
                version = TensorFlowLite.runtimeVersion(),
                threads = if (request.processor == Processor.CPU) request.threads else null,
                computeUnit = request.processor.name.lowercase(),
                delegate = restorer.accelerator.name,
            ),
            artifact = BenchmarkDocument.File(bundle.contract.task, artifact),
            timing = timing,
            maxError = error,
            selfTest = test?.let { BenchmarkDocument.Checked(it) },
            live = live,
            sustained = sustained,
        )
    }

    private fun chosen(): Artifact {
        val suits = bundle.contract.artifactFor(request.processor, request.size)
        val variant = request.variant ?: return suits
        return bundle.contract.artifacts.firstOrNull {
            it.format == "tflite" && it.variant == variant && it.width == suits.width && it.height == suits.height
        } ?: throw Fault("${bundle.contract.task}: no TFLite artifact $variant of ${request.size}")
    }

    private fun open(): Restorer = when (request.processor) {
        Processor.GPU -> TfliteRestorer.onGpu(bundle, artifact, kernels = kernels)
        Processor.CPU -> TfliteRestorer.onCpu(bundle, artifact, request.threads)
    }

    private fun feed(restorer: Restorer) {
        for ((spec, file) in inputs) restorer.input(spec.name).asFloatBuffer().put(file.values(bundle.read(file), png))
    }

    /** The output furthest from its golden one, and the largest error of the first. Throws a [Fault] below the floor. */
    private fun selfTest(restorer: Restorer): Pair<SelfTest?, Double?> {
        var worst: SelfTest? = null
        var error: Double? = null
        for (output in artifact.outputs) {
            val file = golden("output", output) ?: continue
            val golden = file.values(bundle.read(file), png)
            val got = restorer.output(output.name).floats()
            val test = SelfTest.of(artifact, output, got, golden) ?: continue
            if (!test.passed) throw Fault("${artifact.file} fails its self-test and is not timed: ${test.line}")
            if (worst == null || test.psnr < worst.psnr) worst = test
            if (output == artifact.outputs.first() && file.encoding == "float32") {
                error = got.indices.maxOf { abs(got[it] - golden[it]) } / (output.high - output.low)
            }
        }
        return worst to error
    }

    private fun live(model: ModelThread, restorer: Restorer): BenchmarkDocument.Live? {
        if (!artifact.isLive) return null
        val frame = inputs.getValue(artifact.inputs.first())
        return LiveRun(model, restorer, frame.decode(bundle.read(frame), png)).run(liveSeconds)
    }

    /** Run after run without a rest, in parts of a minute. */
    private fun sustained(model: ModelThread, restorer: Restorer, progress: (String) -> Unit): List<Minute> {
        val (at, times) = mutableListOf<Double>() to mutableListOf<Double>()
        val states = mutableListOf<Pair<String?, Int?>>()
        val run = BenchmarkRun(warmup = 0, runs = 1, nanoTime)
        val begin = nanoTime()
        for (minute in 1..request.minutes) {
            progress("sustained: minute $minute of ${request.minutes}")
            model.call {
                while (since(begin) < minute * MINUTE_MS) {
                    at += since(begin)
                    times += run.times { restorer.run() }
                }
            }
            states += state.thermalState() to state.batteryPercent()
        }
        return Minute.of(at, times, states)
    }

    private fun golden(role: String, spec: TensorSpec): GoldenFile? = bundle.contract.golden
        .filter { it.role == role && it.tensor == spec.name && it.shape == spec.shape.drop(1) }
        .maxByOrNull { it.encoding == "float32" }

    private fun ByteBuffer.floats(): FloatArray = FloatArray(remaining() / 4).also { asFloatBuffer().get(it) }

    private fun since(begin: Long) = (nanoTime() - begin) / 1e6

    companion object {
        /** Long enough for the frame rate of a slow artifact, too short to warm a phone. */
        const val LIVE_SECONDS = 10.0
        private const val MINUTE_MS = 60_000.0

        /** The most memory that this process ever held. */
        private fun peakBytes(): Long? = File("/proc/self/status").takeIf { it.canRead() }?.useLines { lines ->
            lines.firstOrNull { it.startsWith("VmHWM:") }?.filter(Char::isDigit)?.toLongOrNull()?.times(1024)
        }
    }
}
