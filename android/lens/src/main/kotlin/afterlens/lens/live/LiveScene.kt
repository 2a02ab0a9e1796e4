package afterlens.lens.live

import afterlens.core.FrameGeometry
import afterlens.core.Scale
import afterlens.core.Size
import afterlens.lens.gl.Frame
import afterlens.lens.gl.Screen
import afterlens.lens.pipeline.LivePipeline
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.Restorer

/** A model on its way into the picture. */
internal class Loaded(val feeding: Feeding, val restorer: Restorer)

/**
 * What [LiveLens] draws: the raw preview at once, the result as soon as there is a model. All of it belongs to the OpenGL
 * thread.
 */
internal class LiveScene(
    private val model: ModelThread,
    private val onResult: () -> Unit,
    private val onState: (LiveState) -> Unit,
) {
    private var texture: FrameTexture? = null
    private var raw: Screen? = null
    private var format: FrameFormat? = null
    private var feeding: Feeding? = null
    private var geometry: FrameGeometry? = null
    private var window: Window? = null
    private var frame: Frame? = null
    private var loaded: Loaded? = null
    private var pipeline: LivePipeline? = null
    private var results = RecentResults()
    private var restored = 0L
    private var reported = 0L

    fun show(new: Window?) {
        window?.close()
        window = new
        arrange()
    }

    /** The next frames come from here; null where none come any more. */
    fun from(new: FrameTexture?) {
        closePipeline()
        frame = null
        format = null
        raw?.close()
        texture?.close()
        texture = new
        raw = new?.let { Screen(it.target) }
        arrange()
    }

    fun started(new: FrameFormat) {
        if (new == format) return
        format = new
        arrange()
    }

    /** What is about to be loaded: from now on the raw preview shows what that will see. */
    fun expect(new: Feeding) {
        unload()
        feeding = new
        arrange()
    }

    fun load(new: Loaded) {
        unload()
        loaded = new
        feeding = new.feeding
        arrange()
    }

    fun unload() {
        closePipeline()
        val old = loaded ?: return
        loaded = null
        model.submit { old.restorer.close() }
    }

    fun takeFrame() {
        val newest = (texture ?: return).latest()
        val part = feeding?.part(newest) ?: newest
        frame = part
        pipeline?.offer(part)
    }

    fun draw(divider: Float, amount: Float) {
        val to = window ?: return
        val shown = geometry ?: return
        val newest = frame ?: return
        pipeline?.advance()
        val begin = System.nanoTime()
        val live = pipeline
        if (live != null) {
            live.draw(to.size, divider, amount, to::bind)
        } else {
            to.bind()
            raw?.draw(newest, null, 0f, 1f, shown, to.size, divider = 1f, amount = 1f)
        }
        val time = (System.nanoTime() - begin) / 1e6
        to.show()
        report(time)
    }

    fun close() {
        from(null)
        unload()
        window?.close()
        window = null
    }

    private fun arrange() {
        closePipeline()
        geometry = null
        val camera = format ?: return
        val view = window?.size ?: return
        val found = feeding?.geometry(camera, view) ?: wholeFrame(camera, view)
        geometry = found
        val ready = loaded ?: return
        val from = texture ?: return
        pipeline = LivePipeline(model, ready.restorer, found, from.target, onResult)
        results = RecentResults()
        restored = 0
    }

    private fun wholeFrame(camera: FrameFormat, view: Size) = FrameGeometry(
        camera.size, camera.rotation, camera.mirrored, camera.size, upright = false, Scale.CROP, view, Scale.FIT,
    )

    private fun closePipeline() {
        pipeline?.close()
        pipeline = null
    }

    private fun report(draw: Double) {
        val live = pipeline ?: return
        val ready = loaded ?: return
        val now = System.nanoTime()
        if (live.restored > restored) results.add(now / 1e6)
        restored = live.restored
        if (restored == 0L || now - reported < BETWEEN_REPORTS_NS) return
        reported = now
        val fit = format?.let(ready.feeding::fit) ?: Fit.AS_TRAINED
        val found = LiveReport(live.stages, draw, results.fps, live.dropped, restored, fit)
        onState(LiveState.Running(ready.restorer.artifact, ready.restorer.accelerator, found))
    }

    private companion object {
        const val BETWEEN_REPORTS_NS = 250_000_000L
    }
}
