package afterlens.core

import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout

@Timeout(60)
class LatestFrameTest {
    @Test
    fun `frames are processed and dropped as in the vectors`() {
        for (entry in Vectors.json("statistics.json").entries("live")) {
            val camera = entry.doubles("arrivals_ms")
            val durations = entry.doubles("durations_ms")
            val frames = LatestFrame<Int>()
            val processed = mutableListOf<Int>()
            val finished = mutableListOf<Double>()
            var freeAt = Double.NEGATIVE_INFINITY

            fun start(at: Double): Boolean {
                processed += frames.poll() ?: return false
                freeAt = at + durations[(processed.size - 1) % durations.size]
                finished += freeAt
                return true
            }
            camera.forEachIndexed { frame, at ->
                while (freeAt <= at && start(freeAt)) Unit
                frames.offer(frame)
                if (freeAt <= at) start(at)
            }
            start(freeAt)

            assertEquals(entry.list("processed").map { it.jsonPrimitive.int }, processed, "$entry")
            assertEquals(entry.int("dropped").toLong(), frames.dropped, "$entry")
            entry.doubles("finished_ms").forEachIndexed { run, at -> assertEquals(at, finished[run], 1e-6, "$entry") }
            assertEquals(entry.double("fps"), frameRate(finished), 1e-8, "$entry")
        }
    }

    @Test
    fun `every frame is taken or released exactly once between two threads`() {
        val count = 20_000
        val released = ConcurrentLinkedQueue<Int>()
        val frames = LatestFrame<Int>(released::add)
        val taken = mutableListOf<Int>()
        val model = thread { while (true) taken += frames.take() ?: break }
        repeat(count, frames::offer)
        while (frames.poll()?.let { taken += it } != null) Unit
        frames.close()
        model.join()
        frames.offer(count) // too late: handed back at once
        assertEquals((0..count).toList(), (taken + released).sorted())
        assertEquals(count - taken.size.toLong(), frames.dropped)
    }

    @Test
    fun `closing wakes whoever waits`() {
        val frames = LatestFrame<Int>()
        val woken = AtomicInteger()
        val waiting = List(3) { thread { if (frames.take() == null) woken.incrementAndGet() } }
        frames.close()
        waiting.forEach(Thread::join)
        assertEquals(3, woken.get())
    }

    @Test
    fun `a frame that waits when this is closed is released and not counted as dropped`() {
        val released = mutableListOf<String>()
        val frames = LatestFrame<String>(released::add)
        frames.offer("first")
        frames.close()
        assertEquals(listOf("first"), released)
        assertEquals(0, frames.dropped)
        assertNull(frames.poll())
        assertTrue(frames.take() == null)
    }
}
