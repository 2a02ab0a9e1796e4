package afterlens.lens.live

import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.core.Size
import afterlens.lens.gl.EglCore
import afterlens.lens.runtime.ModelThread
import afterlens.lens.runtime.Processor
import afterlens.lens.runtime.Restorer
import afterlens.lens.runtime.artifactOf
import afterlens.lens.runtime.openRestorer
import java.io.File
import java.util.concurrent.atomic.AtomicInteger

/**
 * A live preview through a model: the raw picture left of the divider, the restored one right of it.
 *
 *     val lens = LiveLens { state -> runOnUiThread { label.text = "$state" } }
 *     lens.load(bundle, Size(256, 256), Processor.GPU)
 *     lens.show(holder.surface, Size(width, height))      // surfaceChanged
 *     lens.start(camera)                                  // a FrameSource
 *     lens.divider = 0.5f                                 // at 1 all is raw
 *     lens.amount = 1f                                    // at 0 all is raw, too
 *     lens.hide()                                         // surfaceDestroyed
 *     lens.close()
 *
 * Every call may come on any thread and in any order; only [hide] and [close] wait, at most for one run of the model.
 *
 * @param kernels a folder that keeps what was compiled for the GPU: an app's codeCacheDir.
 * @param onState told on other threads what a user should know.
 */
class LiveLens(
    private val kernels: File? = null,
    private val textureOf: (onFrame: () -> Unit) -> FrameTexture = ::CameraTexture,
    private val windowOf: (EglCore, Any, Size) -> Window = ::EglWindow,
    private val open: (BundleCheck, Size, Processor, Int) -> Restorer = { bundle, size, processor, threads ->
        openRestorer(bundle, size, processor, threads, kernels)
    },
    private val onState: (LiveState) -> Unit,
) : AutoCloseable {
    private val model = ModelThread()
    private val gl = GlThread(::failed)
    private val scene = LiveScene(model, ::redraw, onState)
    private var source: FrameSource? = null
    private var wanted = Size(1280, 720)

    private val loads = AtomicInteger() // only the newest one counts

    /** In parts of the view's width. */
    @Volatile
    var divider = 0.5f
        set(value) {
            field = value
            redraw()
        }

    /** How much of the network's change is shown: 0 is the camera's picture, 1 the network's. */
    @Volatile
    var amount = 1f
        set(value) {
            field = value
            redraw()
        }

    /** Draws into a view's Surface from now on. */
    fun show(surface: Any, size: Size) {
        gl.submit {
            scene.show(null)
            scene.show(windowOf(gl.egl, surface, size))
            scene.draw(divider, amount)
        }
    }

    /** The view's Surface is about to go: nothing draws into it after this returns. */
    fun hide() = gl.finish { scene.show(null) }

    /** Loads the best artifact of this size; the raw preview goes on meanwhile. */
    fun load(bundle: BundleCheck, size: Size, processor: Processor, threads: Int = 4) {
        val load = loads.incrementAndGet()
        gl.submit {
            if (load != loads.get()) return@submit
            try {
                val artifact = bundle.contract.artifactOf(size)
                val feeding = Feeding(bundle.contract.camera, artifact)
                scene.expect(feeding)
                wantFrames(feeding.wanted)
                onState(LiveState.WarmingUp(artifact))
                model.submit { openOnModelThread(load, feeding, bundle, size, processor, threads) }
            } catch (fault: Fault) {
                onState(LiveState.Failed(line(fault)))
            }
        }
    }

    /** No model from now on, only the raw preview. */
    fun unload() {
        loads.incrementAndGet()
        gl.submit(scene::unload)
    }

    /** Shows this camera, and closes the one before. */
    fun start(camera: FrameSource) {
        gl.submit {
            closeSource()
            source = camera
            begin(camera)
        }
    }

    /** Closes the camera. */
    fun stop() {
        gl.submit(::closeSource)
    }

    override fun close() {
        loads.incrementAndGet()
        gl.close {
            closeSource()
            scene.close()
        }
        model.close()
    }

    private fun begin(camera: FrameSource) {
        val texture = textureOf { frameArrived(camera) }
        camera.start(texture, wanted, listener(camera))
        scene.from(texture)
    }

    private fun wantFrames(size: Size) {
        if (size == wanted) return
        wanted = size
        source?.let(::begin)
    }

    private fun closeSource() {
        source?.close()
        source = null
        scene.from(null)
    }

    private fun frameArrived(camera: FrameSource) {
        gl.submit {
            if (camera !== source) return@submit
            scene.takeFrame()
            scene.draw(divider, amount)
        }
    }

    private fun redraw() {
        gl.submit { scene.draw(divider, amount) }
    }

    private fun listener(camera: FrameSource) = object : FrameSource.Listener {
        override fun started(format: FrameFormat) {
            gl.submit { if (camera === source) scene.started(format) }
        }

        override fun failed(problem: CameraProblem) {
            gl.submit { if (camera === source) onState(LiveState.NoCamera(problem)) }
        }
    }

    private fun openOnModelThread(
        load: Int, feeding: Feeding, bundle: BundleCheck, size: Size, processor: Processor, threads: Int,
    ) {
        if (load != loads.get()) return
        val restorer = try {
            // The first run is the slowest: here it delays nobody.
            open(bundle, size, processor, threads).also(Restorer::run)
        } catch (error: Throwable) { // else the thread would keep it to itself
            return onState(LiveState.Failed(line(error)))
        }
        val taken = gl.submit {
            if (load == loads.get()) scene.load(Loaded(feeding, restorer)) else model.submit(restorer::close)
        }
        if (taken == null) restorer.close()
    }

    /** On the OpenGL thread: a model or a driver that gave up. The raw preview goes on without it. */
    private fun failed(error: Throwable) {
        scene.unload()
        onState(LiveState.Failed(line(error)))
    }

    private fun line(error: Throwable) = (error.message ?: error.toString()).lineSequence().first()
}
