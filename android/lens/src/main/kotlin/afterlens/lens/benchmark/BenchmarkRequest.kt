package afterlens.lens.benchmark

import afterlens.core.Fault
import afterlens.core.Size
import afterlens.lens.runtime.Processor

/**
 * What is to be timed, and under which name the document is written.
 *
 * @param bundle name of a folder of the app's `bundles`.
 * @param document name of the document, without its ending.
 * @param size of the artifact.
 * @param variant null for the one that suits the processor best.
 * @param minutes of the sustained run; 0 for none.
 */
data class BenchmarkRequest(
    val bundle: String,
    val document: String,
    val size: Size,
    val variant: String?,
    val processor: Processor,
    val threads: Int,
    val warmup: Int,
    val runs: Int,
    val minutes: Int,
) {
    companion object {
        /** From the text extras of an intent. Throws a [Fault] for what is missing or cannot be meant. */
        fun of(extra: (String) -> String?): BenchmarkRequest = BenchmarkRequest(
            bundle = name("bundle", extra),
            document = name("document", extra),
            size = size(extra("size")),
            variant = extra("variant"),
            processor = processor(extra("accelerator")),
            threads = whole("threads", extra, 1..64),
            warmup = whole("warmup", extra, 0..MOST_RUNS),
            runs = whole("runs", extra, 1..MOST_RUNS),
            minutes = whole("minutes", extra, 0..24 * 60),
        )

        /** A file's name: it leads nowhere else, and is not hidden. */
        internal fun name(key: String, extra: (String) -> String?): String {
            val text = extra(key)
            return text?.takeIf(NAME::matches) ?: throw Fault("$key: got ${shown(text)}, expected letters, digits, '-', '_' and '.'")
        }

        private fun size(text: String?): Size {
            val sides = text?.let(SIZE::matchEntire)?.groupValues ?: throw Fault("size: got ${shown(text)}, expected WIDTHxHEIGHT")
            return Size(sides[1].toInt(), sides[2].toInt())
        }

        private fun processor(text: String?): Processor = when (text) {
            "cpu" -> Processor.CPU
            "gpu" -> Processor.GPU
            else -> throw Fault("accelerator: got ${shown(text)}, expected cpu or gpu")
        }

        private fun whole(key: String, extra: (String) -> String?, range: IntRange): Int {
            val text = extra(key)
            return text?.toIntOrNull()?.takeIf { it in range }
                ?: throw Fault("$key: got ${shown(text)}, expected a whole number from ${range.first} to ${range.last}")
        }

        private fun shown(text: String?) = if (text == null) "nothing" else "\"${text.take(100)}\""

        private const val MOST_RUNS = 100_000
        private val NAME = Regex("[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
        private val SIZE = Regex("([0-9]{1,5})x([0-9]{1,5})")
    }
}
