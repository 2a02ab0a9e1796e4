package afterlens.core

import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * Hands frames from a camera to one model thread, the newest only: while one is being worked on, one waits, and a newer
 * one takes its place. So the picture on the screen is never older than one run of the model.
 *
 * @param release gives back what a dropped frame holds; called outside the lock, on the thread that caused it.
 */
class LatestFrame<T : Any>(private val release: (T) -> Unit = {}) : AutoCloseable {
    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private var waiting: T? = null
    private var closed = false

    /** Frames that were replaced before anybody took them. */
    var dropped = 0L
        get() = lock.withLock { field }
        private set

    /** The camera has a frame. It is released at once where this is closed. */
    fun offer(frame: T) {
        val unwanted = lock.withLock {
            if (closed) return@withLock frame
            val replaced = waiting
            waiting = frame
            if (replaced != null) dropped++
            changed.signal()
            replaced
        }
        unwanted?.let(release)
    }

    /** The waiting frame, if there is one. */
    fun poll(): T? = lock.withLock { waiting.also { waiting = null } }

    /** Waits for a frame; null once this is closed. */
    fun take(): T? = lock.withLock {
        while (waiting == null && !closed) changed.await()
        waiting.also { waiting = null }
    }

    /** Wakes whoever waits, and releases the frame that waits. That one is not counted as dropped. */
    override fun close() {
        val left = lock.withLock {
            closed = true
            changed.signalAll()
            waiting.also { waiting = null }
        }
        left?.let(release)
    }
}
