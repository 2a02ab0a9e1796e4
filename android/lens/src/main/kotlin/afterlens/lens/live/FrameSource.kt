package afterlens.lens.live

import afterlens.core.Size

/**
 * What a camera delivers.
 *
 * @param size of its frames, in the sensor's orientation.
 * @param rotation degrees clockwise that bring them upright on the display, see `uprightRotation`.
 * @param mirrored whether the view is flipped left to right, as users expect of a front camera.
 */
data class FrameFormat(val size: Size, val rotation: Int, val mirrored: Boolean)

/** Why a camera gives no frames. */
enum class CameraProblem { NONE, TAKEN, FORBIDDEN, BROKEN }

/**
 * A camera, or whatever else writes frames into a Surface.
 *
 * What it tells its [Listener] may come on any thread, also after [close].
 */
interface FrameSource : AutoCloseable {
    /**
     * Has frames of [wanted] pixels, or of the next best size, written into [texture]; what was started before must have
     * ended when this returns. Called on the OpenGL thread, which can draw nothing meanwhile.
     */
    fun start(texture: FrameTexture, wanted: Size, listener: Listener)

    interface Listener {
        /** Before the first frame, and again when the display was turned. */
        fun started(format: FrameFormat)

        fun failed(problem: CameraProblem)
    }
}
