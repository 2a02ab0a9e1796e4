package afterlens.lens.runtime

import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.TimeUnit

/** The one thread that opens, runs and closes restorers: a GPU delegate runs on no other than the one that made it. */
class ModelThread(name: String = "model") : AutoCloseable {
    private val executor = Executors.newSingleThreadExecutor { Thread(it, name) }

    /** Runs [work] there after what was submitted before. */
    fun <T> submit(work: () -> T): Future<T> = executor.submit(Callable(work))

    /** Runs [work] there, waits, and returns or throws what it does. */
    fun <T> call(work: () -> T): T = try {
        submit(work).get()
    } catch (error: ExecutionException) {
        throw error.cause ?: error
    }

    /** Waits for what was submitted, so that nothing is closed under a running model. */
    override fun close() {
        executor.shutdown()
        executor.awaitTermination(Long.MAX_VALUE, TimeUnit.NANOSECONDS)
    }
}
