package afterlens.lens.pipeline

import afterlens.core.Affine
import afterlens.core.FrameGeometry
import afterlens.core.LatestFrame
import afterlens.core.Size
import afterlens.core.TensorSpec
import afterlens.lens.gl.ArtifactInput
import afterlens.lens.gl.Frame
import afterlens.lens.gl.FrameCanvas
import afterlens.lens.gl.ResultTexture
import afterlens.lens.gl.Screen
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.Restorer
import android.opengl.GLES30
import java.util.concurrent.ExecutionException
import java.util.concurrent.Future

/** How long one frame took, in ms: drawn and read into the model's input; in the model; its output uploaded. */
data class StageTimes(val input: Double, val model: Double, val output: Double)

/**
 * Camera frames through a model while the raw preview goes on: one frame is in the model, the newest one waits.
 *
 *     val live = LivePipeline(model, restorer, geometry, frame.target) { handler.post(::redraw) }
 *     live.offer(frame)            // whenever the camera has one
 *     live.draw(view, divider, 1f) // the newest raw frame and, right of the divider, the newest result
 *
 * All of it is called on the thread of the OpenGL context. That thread owns the restorer's memory while the model rests.
 * The first input is the frame to be restored; the second, where there is one, the frame that was restored before.
 *
 * @param onResult called on the model's thread when a result is ready: have [draw] called soon.
 */
class LivePipeline(
    private val model: ModelThread,
    private val restorer: Restorer,
    private val geometry: FrameGeometry,
    private val target: Int,
    private val onResult: () -> Unit = {},
) : AutoCloseable {
    private val inputs = restorer.artifact.inputs
    private val output = restorer.artifact.outputs.first()
    private val size = Size(restorer.artifact.width, restorer.artifact.height)
    private val input: ArtifactInput
    private val result: ResultTexture
    private val screen: Screen
    private val copies = ArrayList<FrameCanvas>(2) // of the frame in the model, and of the one of the result
    private var copied: FrameCanvas? = null // of the frame in the model
    private var source: FrameCanvas? = null // of the result
    private var isPartial = false
    private val frames = LatestFrame<Frame>()
    private var newest: Frame? = null
    private var running: Future<Double>? = null
    private var inputTime = 0.0
    private var started = 0L

    @Volatile
    private var finished = false

    /** Of the newest result. */
    var stages: StageTimes? = null
        private set

    /** Results so far. */
    var restored = 0L
        private set

    /** Frames that a newer one replaced before the model was free. */
    val dropped get() = frames.dropped

    init {
        require(restorer.artifact.isLive) {
            "${restorer.artifact.file}: expected an image and perhaps the previous one in, and an image out"
        }
        input = ArtifactInput(size, target)
        result = ResultTexture(size)
        screen = Screen(target)
    }

    /** The camera has a frame. */
    fun offer(frame: Frame) {
        newest = frame
        frames.offer(frame)
        advance()
    }

    /** Takes a result that is ready, and gives the waiting frame to the model. Throws what the model threw. */
    fun advance() {
        if (finished) finish()
        if (running == null) frames.poll()?.let(::start)
    }

    /**
     * Draws to the surface that is current, or to the framebuffer that [bind] binds; nothing before the first frame.
     *
     * @param amount how much of the result's change is shown: 0 is the raw frame, 1 the result. In between, the change is
     * added to the frame that the result was made of: to a newer one, what moves would be seen twice.
     */
    fun draw(
        view: Size,
        divider: Float,
        amount: Float,
        bind: () -> Unit = { GLES30.glBindFramebuffer(GLES30.GL_FRAMEBUFFER, 0) },
    ) {
        isPartial = amount > 0f && amount < 1f
        advance()
        bind()
        val raw = newest ?: return
        val (low, high) = output.low.toFloat() to output.high.toFloat()
        screen.draw(raw, result, low, high, geometry, view, divider, amount, source?.drawn?.takeIf { isPartial })
    }

    /** Waits for the model. The restorer and its thread stay open. */
    override fun close() {
        try {
            running?.get()
        } catch (_: ExecutionException) {
            // Nobody waits for this frame any more.
        }
        frames.close()
        copies.forEach(FrameCanvas::close)
        screen.close()
        result.close()
        input.close()
    }

    private fun start(frame: Frame) {
        val begin = System.nanoTime()
        if (started > 0) keepPrevious()
        copied = if (isPartial) copyOf(frame) else null
        input.draw(frame, geometry.sensorFromArtifact)
        check(input.read(inputs[0], restorer.input(inputs[0].name), WAIT_NS)) { "the GPU is stuck" }
        if (started == 0L) keepPrevious() // the first frame has none before it
        started++
        inputTime = since(begin)
        running = model.submit {
            try {
                val runBegin = System.nanoTime()
                restorer.run()
                since(runBegin)
            } finally {
                finished = true
                onResult()
            }
        }
    }

    private fun copyOf(frame: Frame): FrameCanvas {
        val free = copies.find { it !== source } ?: FrameCanvas(geometry.sensor, target).also(copies::add)
        free.draw(frame, Affine.IDENTITY)
        return free
    }

    private fun keepPrevious() {
        val previous: TensorSpec = inputs.getOrNull(1) ?: return
        restorer.input(previous.name).put(restorer.input(inputs[0].name))
    }

    private fun finish() {
        val done = running ?: return
        running = null
        finished = false
        val modelTime = try {
            done.get()
        } catch (error: ExecutionException) {
            throw error.cause ?: error
        }
        val begin = System.nanoTime()
        result.upload(restorer.output(output.name))
        source = copied
        stages = StageTimes(inputTime, modelTime, since(begin))
        restored++
    }

    private fun since(begin: Long) = (System.nanoTime() - begin) / 1e6

    private companion object {
        const val WAIT_NS = 5_000_000_000
    }
}
