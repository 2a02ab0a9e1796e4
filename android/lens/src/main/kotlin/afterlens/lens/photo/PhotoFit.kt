package afterlens.lens.photo

import afterlens.core.Artifact
import kotlin.math.min

/**
 * How a photo is fitted into an artifact: turned by 90 degrees or not, then scaled, then padded.
 *
 * @param scale artifact pixels for each pixel of the photo.
 */
internal class PhotoFit(val artifact: Artifact, val turned: Boolean, val scale: Double) {
    companion object {
        /** The smallest artifact that holds the photo without shrinking it, else the one that shrinks it least. */
        fun choose(artifacts: List<Artifact>, width: Int, height: Int): PhotoFit {
            val fits = artifacts.flatMap { artifact ->
                listOf(false to (width to height), true to (height to width)).map { (turned, size) ->
                    val (across, down) = size.first.toDouble() to size.second.toDouble()
                    PhotoFit(artifact, turned, min(artifact.height / down, artifact.width / across))
                }
            }
            return fits.maxWith(
                compareBy<PhotoFit> { min(1.0, it.scale) }
                    .thenByDescending { it.artifact.width * it.artifact.height }
                    .thenBy { it.scale }
                    .thenByDescending { it.turned },
            )
        }
    }
}
