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
        /** Compare an output with the golden one; [floor] in dB comes from model.json. */
        fun of(output: TensorSpec, got: Picture, golden: Picture, floor: Double): SelfTest {
            if (got.width != golden.width || got.height != golden.height) {
                val sizes = "${got.width}x${got.height}, expected ${golden.width}x${golden.height}"
                throw Fault("${output.name}: the output has $sizes")
            }
            val range = output.high - output.low
            var square = 0.0
            var finite = true
            for (index in got.values.indices) {
                val value = got.values[index]
                finite = finite && value.isFinite()
                val error = if (value.isFinite()) (value.toDouble() - golden.values[index]) / range else 1.0
                square += error * error
            }
            return SelfTest(output.name, decibels(square / got.values.size), floor, finite)
        }

        private fun decibels(square: Double) = if (square == 0.0) MOST else minOf(MOST, -10 * log10(square))

        private const val MOST = 100.0
    }
}
