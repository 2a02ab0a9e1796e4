package afterlens.lens.live

import afterlens.lens.gl.EglCore
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.RejectedExecutionException
import java.util.concurrent.TimeUnit

/** The one thread of an OpenGL context. */
internal class GlThread(private val failed: (Throwable) -> Unit) {
    private val executor = Executors.newSingleThreadExecutor { Thread(it, "OpenGL") }
    private val made = lazy { EglCore() }

    /** Only for that thread. */
    val egl by made

    /** Runs [work] there; nowhere once this is closed. What it throws goes to `failed`. */
    fun submit(work: () -> Unit): Future<*>? = try {
        executor.submit {
            try {
                made.value
                work()
            } catch (error: Throwable) { // else the executor would keep it to itself
                failed(error)
            }
        }
    } catch (_: RejectedExecutionException) {
        null
    }

    /** Runs [work] there with the context, and waits; once this is closed, waits for its end. */
    fun finish(work: () -> Unit) {
        val submitted = submit(work)
        if (submitted == null) await() else submitted.get()
    }

    /** Runs [last], and no more. */
    fun close(last: () -> Unit) {
        submit {
            try {
                last()
            } finally {
                if (made.isInitialized()) egl.close()
            }
        }
        executor.shutdown()
        await()
    }

    private fun await() {
        executor.awaitTermination(Long.MAX_VALUE, TimeUnit.NANOSECONDS)
    }
}
