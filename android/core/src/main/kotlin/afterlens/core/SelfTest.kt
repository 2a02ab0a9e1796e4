package afterlens.core

import java.util.Locale
import kotlin.math.log10

/**
 * Whether a runtime computes what PyTorch did, by PSNR and never by equality: the same file differs between processors
 * by up to 1e-6 in float, and by far more in integers.
 */
data class SelfTest(val output: String, val psnr: Double, val floor: Double, val finite: Boolean) {
    val passed get() = finite && psnr >= floor

    /** For people. */
    val line: String
        get() {
            val reason = if (finite) "" else ", and not every value is a finite number"
            return "%s: %.2f dB from the golden output, at least %.2f expected%s"
                .format(Locale.ROOT, output, psnr, floor, reason)
        }

    companion object {
        /**
         * Compare the values of an output with the golden ones. Null where model.json sets no floor for the artifact.
         * Throws a [Fault] where their numbers differ.
         */
        fun of(artifact: Artifact, output: TensorSpec, got: FloatArray, golden: FloatArray): SelfTest? =
            artifact.selfTestFloor?.let { of(output, got, golden, it) }

        /** The same with a [floor] in dB. */
        fun of(output: TensorSpec, got: FloatArray, golden: FloatArray, floor: Double): SelfTest {
            if (got.size != golden.size) {
                throw Fault("${output.name}: the output has ${got.size} values, expected ${golden.size}")
            }
            val range = output.high - output.low
            var square = 0.0
            var finite = true
            for (index in got.indices) {
                val value = got[index]
                finite = finite && value.isFinite()
                val error = if (value.isFinite()) (value.toDouble() - golden[index]) / range else 1.0
                square += error * error
            }
            return SelfTest(output.name, decibels(square / got.size), floor, finite)
        }

        private fun decibels(square: Double) = if (square == 0.0) MOST else minOf(MOST, -10 * log10(square))

        private const val MOST = 100.0
    }
}
