package afterlens.core

/** How a picture is brought to another size, always in proportion and centred. */
enum class Scale {
    /** Fills the target; what stands out is cut off. */
    CROP,

    /** All of it inside the target. */
    FIT,
}

/** The rotation, clockwise, that brings a sensor's picture upright, from what Android says of camera and display. */
fun uprightRotation(sensorOrientation: Int, displayRotation: Int, front: Boolean): Int =
    Math.floorMod(sensorOrientation + if (front) displayRotation else -displayRotation, 360)

/**
 * Where a camera's pixels go: from the sensor into the artifact, and back onto the screen (docs/vectors.md).
 *
 * @param sensor size of the camera's frames.
 * @param rotation degrees clockwise that bring them upright.
 * @param mirrored whether the view is flipped left to right, as users expect of a front camera.
 * @param artifact size of the network's input.
 * @param upright whether the artifact sees the upright picture, or the sensor's own orientation.
 */
class FrameGeometry(
    val sensor: Size,
    rotation: Int,
    mirrored: Boolean,
    artifact: Size,
    upright: Boolean,
    artifactScale: Scale,
    view: Size,
    viewScale: Scale,
) {
    private val turnsAside = rotation % 180 != 0

    /** For each point of the artifact's input, the point of the sensor's frame that it is taken from. */
    val sensorFromArtifact: Affine

    /** For each point of the view, the point of the sensor's frame that is shown there. */
    val sensorFromView: Affine

    /** For each point of the view, the point of the artifact's output that is shown there. */
    val artifactFromView: Affine

    init {
        val uprightFrame = Area(sensor.width.toDouble(), sensor.height.toDouble()).turned(turnsAside)
        val seen = if (upright) uprightFrame else uprightFrame.turned(turnsAside)
        val unturned = Affine.unturned(rotation)
        sensorFromArtifact = (if (upright) unturned else Affine.IDENTITY) * placed(seen, artifact, artifactScale)

        // What both the artifact and the frame hold, upright.
        val factor = factor(seen, artifact, artifactScale)
        val shown = Area(
            minOf(seen.width, artifact.width / factor),
            minOf(seen.height, artifact.height / factor),
        ).turned(turnsAside && !upright)
        val inside = Affine.scaled(shown.width / uprightFrame.width, shown.height / uprightFrame.height)
        val mirror = Affine.scaled(if (mirrored) -1.0 else 1.0, 1.0)
        sensorFromView = unturned * inside * mirror * placed(shown, view, viewScale)
        artifactFromView = sensorFromArtifact.inverse() * sensorFromView
    }
}

/** In pixels that need not be whole. */
private data class Area(val width: Double, val height: Double) {
    fun turned(aside: Boolean) = if (aside) Area(height, width) else this
}

/** Pixels of [outer] for each pixel of [inner]. */
private fun factor(inner: Area, outer: Size, scale: Scale): Double {
    val (across, down) = outer.width / inner.width to outer.height / inner.height
    return if (scale == Scale.CROP) maxOf(across, down) else minOf(across, down)
}

/** From [outer] into [inner], which lies in its middle. */
private fun placed(inner: Area, outer: Size, scale: Scale): Affine {
    val factor = factor(inner, outer, scale)
    return Affine.scaled(outer.width / (factor * inner.width), outer.height / (factor * inner.height))
}
