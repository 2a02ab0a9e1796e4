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
    private val finished = mutableListOf<Double>()
    private val stages = mutableListOf<StageTimes>()

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
        val ready = Semaphore(0)
        LivePipeline(model, restorer, geometry, frame.target) { ready.release() }.use { live ->
            val begin = System.nanoTime()
            var offered = 0L
            while (since(begin) < seconds * 1000 || live.restored < 2) {
                val wait = offered * FRAME_MS - since(begin)
                val isResult = wait > 0 && ready.tryAcquire((wait * 1e6).toLong(), TimeUnit.NANOSECONDS)
                if (!isResult) {
                    live.offer(frame)
                    offered++
                }
                live.draw(size, divider = 0f, screen::bind)
                note(live, since(begin))
            }
            return Live.of(
                since(begin) / 1000, finished, live.dropped,
                stages.map { it.input }, stages.map { it.model }, stages.map { it.output },
            )
        }
    }

    private fun note(live: LivePipeline, now: Double) {
        if (live.restored == finished.size.toLong()) return
        finished += now
        stages += checkNotNull(live.stages)
    }

    private fun since(begin: Long) = (System.nanoTime() - begin) / 1e6

    companion object {
        /** Frames a second, as phones' cameras have them. */
        const val FRAME_RATE = 30
        private const val FRAME_MS = 1000.0 / FRAME_RATE
    }
}
