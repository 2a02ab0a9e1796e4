package afterlens.core

import kotlin.math.floor

/** What is said of a series of times in ms. */
data class Summary(val p50: Double, val p90: Double, val p99: Double, val mean: Double, val least: Double) {
    companion object {
        /** Of the times after the first [warmup]. Throws a [Fault] where none is left. */
        fun of(times: List<Double>, warmup: Int = 0): Summary {
            val counted = times.drop(warmup)
            if (counted.isEmpty()) throw Fault("got ${times.size} times with $warmup of them warm-up, expected more")
            val ranked = counted.sorted()
            return Summary(
                ranked.percentile(50),
                ranked.percentile(90),
                ranked.percentile(99),
                counted.sum() / counted.size,
                ranked.first(),
            )
        }
    }
}

/** Frames a second between the first and the last of these moments in ms; 0 for fewer than two. */
fun frameRate(finished: List<Double>): Double =
    if (finished.size < 2) 0.0 else 1000 * (finished.size - 1) / (finished.last() - finished.first())

/** The median time of each minute since the start; null for a minute without a run. Moments and times in ms. */
fun minuteMedians(at: List<Double>, times: List<Double>): List<Double?> {
    val minutes = at.map { floor(it / 60_000).toInt() }.zip(times).groupBy({ it.first }, { it.second })
    return (0..(minutes.keys.maxOrNull() ?: -1)).map { minutes[it]?.sorted()?.percentile(50) }
}

/** Of sorted values: at rank percent / 100 * (n - 1), linear between two ranks. */
private fun List<Double>.percentile(percent: Int): Double {
    val rank = percent * (size - 1) / 100.0
    val below = floor(rank).toInt()
    val above = minOf(below + 1, lastIndex)
    return this[below] + (this[above] - this[below]) * (rank - below)
}
