package afterlens.core

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json

/** What an app measured, as benchmarks/schema.json has it, so that `afterlens compare` and `report` read it. */
@Serializable
data class BenchmarkDocument(
    val created: String, // start of the run, ISO 8601, UTC
    val device: Device,
    val conditions: Conditions,
    val input: String,
    val results: List<Result>,
    @SerialName("schema_version") val schemaVersion: Int = 2,
    val provenance: String = "measured-device",
    val machine: Nothing? = null, // the host's yardstick
    val ratios: List<Nothing> = emptyList(),
) {
    @Serializable
    data class Device(
        val name: String,
        val os: String, // "Android 16 (API 36)"
        val soc: String?, // manufacturer and model; null where the phone does not say
        val cpu: String?,
        val cores: Int,
        @SerialName("memory_bytes") val memoryBytes: Long?,
    )

    @Serializable
    data class Conditions(
        @SerialName("thermal_state") val thermalState: List<String>?, // before and after; null where it is not told
        @SerialName("low_power_mode") val lowPowerMode: Boolean,
        @SerialName("power_source") val powerSource: String?, // "battery", "usb" and so on
        val interleaved: Boolean = false,
    )

    @Serializable
    data class Runtime(
        val name: String,
        val version: String,
        val threads: Int?,
        @SerialName("compute_unit") val computeUnit: String, // what was asked for
        val delegate: String?, // what ran
    )

    @Serializable
    data class File(
        val task: String,
        val variant: String,
        val width: Int,
        val height: Int,
        val file: String,
        val sha256: String,
        val bytes: Long,
        val parameters: Long,
        val macs: Long,
    ) {
        constructor(task: String, artifact: Artifact) : this(
            task, artifact.variant, artifact.width, artifact.height, artifact.file, artifact.sha256, artifact.bytes,
            artifact.parameters, artifact.macs,
        )
    }

    @Serializable
    data class Timing(
        val warmup: Int,
        val runs: Int,
        @SerialName("p50_ms") val p50: Double,
        @SerialName("p90_ms") val p90: Double,
        @SerialName("p99_ms") val p99: Double,
        @SerialName("mean_ms") val mean: Double,
        @SerialName("min_ms") val least: Double,
        @SerialName("init_ms") val init: Double?,
        @SerialName("first_ms") val first: Double?,
        @SerialName("peak_rss_bytes") val peakRssBytes: Long?,
        @SerialName("samples_ms") val samples: List<Double>,
    ) {
        companion object {
            /** Of [times] in ms, the first [warmup] of them uncounted. */
            fun of(times: List<Double>, warmup: Int, init: Double?, peakRssBytes: Long?): Timing {
                val found = Summary.of(times, warmup)
                return Timing(
                    warmup, times.size - warmup, found.p50, found.p90, found.p99, found.mean, found.least, init,
                    times.first(), peakRssBytes, times.drop(warmup),
                )
            }
        }
    }

    @Serializable
    data class Result(
        val id: String,
        val runtime: Runtime,
        val artifact: File,
        val timing: Timing,
        @SerialName("achieved_gflops") val achievedGflops: Double = 2 * artifact.macs / timing.p50 / 1e6,
        @SerialName("share_of_matmul") val shareOfMatmul: Nothing? = null,
        @SerialName("max_error") val maxError: Double? = null,
        @SerialName("self_test") val selfTest: Checked? = null,
        val live: Live? = null,
        val sustained: List<Minute>? = null,
    )

    /** How close the output of a golden input came to the golden output, and how close it had to come, in dB. */
    @Serializable
    data class Checked(val psnr: Double, val floor: Double) {
        constructor(test: SelfTest) : this(test.psnr, test.floor)
    }

    /** Two percentiles of times in ms. */
    @Serializable
    data class Stage(@SerialName("p50_ms") val p50: Double, @SerialName("p90_ms") val p90: Double) {
        companion object {
            fun of(times: List<Double>): Stage = Summary.of(times).let { Stage(it.p50, it.p90) }
        }
    }

    /** Each part of the time of a frame. */
    @Serializable
    data class Stages(val input: Stage, val model: Stage, val output: Stage, val draw: Stage)

    /** The whole live path. */
    @Serializable
    data class Live(val seconds: Double, val fps: Double, val dropped: Long, val stages: Stages) {
        companion object {
            /** Of the moments at which results were [finished], in ms, and the times of each stage. */
            fun of(
                seconds: Double,
                finished: List<Double>,
                dropped: Long,
                input: List<Double>,
                model: List<Double>,
                output: List<Double>,
                draw: List<Double>,
            ) = Live(
                seconds, frameRate(finished), dropped,
                Stages(Stage.of(input), Stage.of(model), Stage.of(output), Stage.of(draw)),
            )
        }
    }

    /** One minute of a long run; the state is that of its end. */
    @Serializable
    data class Minute(
        @SerialName("p50_ms") val p50: Double?, // null where no run ended in it
        @SerialName("thermal_state") val thermalState: String?,
        @SerialName("battery_percent") val batteryPercent: Int?,
    ) {
        companion object {
            /** Of runs that began [at] so many ms and took [times], with the thermal state and battery of each minute. */
            fun of(at: List<Double>, times: List<Double>, states: List<Pair<String?, Int?>>): List<Minute> {
                val medians = minuteMedians(at, times)
                return states.mapIndexed { index, (thermal, battery) -> Minute(medians.getOrNull(index), thermal, battery) }
            }
        }
    }

    /** As it is written to a file. */
    fun json(): String = JSON.encodeToString(this) + "\n"

    companion object {
        private val JSON = Json {
            encodeDefaults = true
            prettyPrint = true
        }
    }
}
