package afterlens.core

/** Times a model as an app runs it: every run in order, the first ones uncounted but kept. */
class BenchmarkRun(
    private val warmup: Int,
    private val runs: Int,
    private val nanoTime: () -> Long = System::nanoTime,
) {
    init {
        if (warmup < 0 || runs < 1) throw Fault("got $warmup warm-ups and $runs runs, expected at least 0 and 1")
    }

    /** Times in ms of all runs, the warm-up included. [progress] is told how many are done, outside the timed part. */
    fun times(progress: (Int) -> Unit = {}, run: () -> Unit): List<Double> = List(warmup + runs) { index ->
        val start = nanoTime()
        run()
        ((nanoTime() - start) / 1e6).also { progress(index + 1) }
    }
}
