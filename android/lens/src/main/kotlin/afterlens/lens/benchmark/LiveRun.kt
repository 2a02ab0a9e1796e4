package afterlens.lens.benchmark

import afterlens.core.BenchmarkDocument.Live
import afterlens.core.FrameGeometry
import afterlens.core.Picture
import afterlens.core.Scale
import afterlens.core.Size
import afterlens.lens.gl.Canvas
import afterlens.lens.gl.EglCore
import afterlens.lens.gl.Frame
import afterlens.lens.gl.upload
import afterlens.lens.pipeline.LivePipeline
import afterlens.lens.pipeline.StageTimes
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.Restorer
import android.opengl.GLES30
import java.util.concurrent.Semaphore
import java.util.concurrent.TimeUnit

/** A picture in the place of a camera, [FRAME_RATE] times a second through [LivePipeline], drawn to memory. */
internal class LiveRun(private val model: ModelThread, private val restorer: Restorer, private val picture: Picture) {
    private val size = Size(restorer.artifact.width, restorer.artifact.height)
    private val ready = Semaphore(0)
    private var nextFrame = 0L
    private val drawn = mutableListOf<Double>()

    /** For so many [seconds], and until there are two results. Makes an OpenGL context of its own on this thread. */
    fun run(seconds: Double): Live = EglCore().use {
        val texture = upload(picture)
        try {
            Canvas(size).use { screen -> run(seconds, Frame.photo(texture), screen) }
        } finally {
            GLES30.glDeleteTextures(1, intArrayOf(texture), 0)
        }
    }

    private fun run(seconds: Double, frame: Frame, screen: Canvas): Live {
        val geometry = FrameGeometry(size, 0, mirrored = false, size, upright = true, Scale.CROP, size, Scale.FIT)
        LivePipeline(model, restorer, geometry, frame.target) { ready.release() }.use { live ->
            nextFrame = System.nanoTime()
            while (live.restored == 0L) step(live, frame, screen) // the first frame compiles shaders and touches memory
            val (begin, dropped) = System.nanoTime() to live.dropped
            fun now() = (System.nanoTime() - begin) / 1e6
            val finished = mutableListOf<Double>()
            drawn.clear()
            val stages = mutableListOf<StageTimes>()
            while (now() < seconds * 1000 || finished.size < 2) {
                val before = live.restored
                step(live, frame, screen)
                if (live.restored == before) continue
                finished += now()
                stages += checkNotNull(live.stages)
            }
            return Live.of(
                now() / 1000, finished, live.dropped - dropped,
                stages.map { it.input }, stages.map { it.model }, stages.map { it.output }, drawn,
            )
        }
    }

    /** Waits for a result or for the time of the next frame, and draws. */
    private fun step(live: LivePipeline, frame: Frame, screen: Canvas) {
        val wait = nextFrame - System.nanoTime()
        val isResult = wait > 0 && ready.tryAcquire(wait, TimeUnit.NANOSECONDS)
        if (!isResult) {
            live.offer(frame)
            // A camera does not make up for frames that nobody took.
            nextFrame = maxOf(nextFrame, System.nanoTime() - FRAME_NS) + FRAME_NS
        }
        live.advance()
        val begin = System.nanoTime()
        live.draw(size, divider = 0f, amount = 1f, screen::bind)
        GLES30.glFinish() // as a window's swap waits for the GPU
        drawn += (System.nanoTime() - begin) / 1e6
    }

    companion object {
        /** Frames a second, as phones' cameras have them. */
        const val FRAME_RATE = 30
        private const val FRAME_NS = 1_000_000_000L / FRAME_RATE
    }
}
