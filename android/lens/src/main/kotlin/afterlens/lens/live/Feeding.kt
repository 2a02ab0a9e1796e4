package afterlens.lens.live

import afterlens.core.Artifact
import afterlens.core.CameraFrame
import afterlens.core.FrameGeometry
import afterlens.core.Scale
import afterlens.core.Size
import afterlens.lens.gl.Frame

/**
 * How a camera's frames are brought to an artifact, by what its model.json says.
 *
 * What an under-display camera adds, ghosts and halos, is a fixed number of pixels of the frame that the network was
 * trained for: such a network gets the middle of that frame, unscaled, as the sensor delivers it. Other networks may get
 * the whole frame scaled; upright where the artifact is square, else in the sensor's orientation, of which it cuts off
 * least.
 */
class Feeding(private val camera: CameraFrame, artifact: Artifact) {
    private val exact = (camera as? CameraFrame.Exact)?.size
    private val size = Size(artifact.width, artifact.height)
    private val upright = exact == null && size.width == size.height

    /** Size of the frames to ask the camera for. */
    val wanted: Size = exact ?: if (USUAL.holds(size)) USUAL else size

    fun geometry(format: FrameFormat, view: Size): FrameGeometry {
        val seen = if (exact != null) size else format.size
        return FrameGeometry(
            seen, format.rotation, format.mirrored, size, upright, Scale.CROP, view, Scale.FIT,
        )
    }

    /** The part of a frame that the geometry is about. */
    fun part(frame: Frame): Frame {
        val whole = exact ?: return frame
        val (across, down) = size.width.toFloat() / whole.width to size.height.toFloat() / whole.height
        val most = maxOf(1f, across, down)
        return frame.middle(across / most, down / most)
    }

    /** Whether the artifact gets the camera's pixels as it should. */
    fun fit(format: FrameFormat): Fit = when {
        camera == CameraFrame.NotSaid -> Fit.NOT_SAID
        exact == null || format.size == exact && exact.holds(size) -> Fit.AS_TRAINED
        else -> Fit.SCALED
    }

    private companion object {
        /** Every phone's camera has it. */
        val USUAL = Size(1280, 720)

        fun Size.holds(other: Size) = other.width <= width && other.height <= height
    }
}
