package afterlens.lens.live

import afterlens.core.Artifact
import afterlens.core.FrameGeometry
import afterlens.core.Scale
import afterlens.core.Size
import afterlens.lens.gl.Frame

/**
 * How a camera's frames are brought to an artifact. A model.json does not say it yet, so it hangs on the task here.
 *
 * What an under-display camera adds, ghosts and halos, is a fixed number of pixels of the frame that the network was
 * trained for: such a network gets the middle of that frame, unscaled, as the sensor delivers it. Other networks may get
 * the whole frame scaled; upright where the artifact is square, else in the sensor's orientation, of which it cuts off
 * least.
 */
class Feeding(task: String, artifact: Artifact) {
    private val exact = task == "udc"
    private val size = Size(artifact.width, artifact.height)
    private val upright = !exact && size.width == size.height

    /** Size of the frames to ask the camera for. */
    val wanted: Size = if (exact || CAMERA.holds(size)) CAMERA else size

    fun geometry(format: FrameFormat, view: Size): FrameGeometry {
        val seen = if (exact) size else format.size
        return FrameGeometry(
            seen, format.rotation, format.mirrored, size, upright, Scale.CROP, view, Scale.FIT,
        )
    }

    /** The part of a frame that the geometry is about. */
    fun part(frame: Frame): Frame {
        if (!exact) return frame
        val (across, down) = size.width.toFloat() / CAMERA.width to size.height.toFloat() / CAMERA.height
        val most = maxOf(1f, across, down)
        return frame.middle(across / most, down / most)
    }

    /** Whether the artifact gets the camera's pixels as it should. */
    fun isAsTrained(format: FrameFormat) = !exact || (format.size == CAMERA && CAMERA.holds(size))

    private companion object {
        val CAMERA = Size(1280, 720)

        fun Size.holds(other: Size) = other.width <= width && other.height <= height
    }
}
