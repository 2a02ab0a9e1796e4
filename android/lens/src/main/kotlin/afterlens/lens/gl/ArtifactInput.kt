package afterlens.lens.gl

import afterlens.core.Affine
import afterlens.core.Size
import afterlens.core.TensorSpec
import java.nio.ByteBuffer

/** Brings frames to an artifact's size and orientation, and into the memory of its input. */
class ArtifactInput(size: Size, target: Int) : AutoCloseable {
    private val canvas = FrameCanvas(size, target)
    private val reader = PixelReader(size)

    /** Whether [draw] may be called before [read]. */
    val hasRoom get() = reader.hasRoom

    /** Starts to draw a frame; [read] gets the pixels. */
    fun draw(frame: Frame, sensorFromArtifact: Affine) {
        canvas.draw(frame, sensorFromArtifact)
        reader.request()
    }

    /** Writes the oldest frame that was drawn into an input's memory; false where it is not ready within [waitNs]. */
    fun read(input: TensorSpec, into: ByteBuffer, waitNs: Long): Boolean =
        reader.read(waitNs) { rgba -> unpack(rgba, into, input.low.toFloat(), input.high.toFloat()) }

    override fun close() {
        reader.close()
        canvas.close()
    }
}

/** 8-bit RGBA to float32 RGB, 0 to [low] and 255 to [high]. */
internal fun unpack(rgba: ByteBuffer, into: ByteBuffer, low: Float, high: Float) {
    // As Python divides: value / 255, rounded once; then the range.
    val levels = FloatArray(256) { low + it / 255f * (high - low) }
    val floats = into.asFloatBuffer()
    val row = ByteArray(4096)
    while (rgba.hasRemaining()) {
        val count = minOf(row.size, rgba.remaining())
        rgba.get(row, 0, count)
        for (at in 0 until count step 4) {
            floats.put(levels[row[at].toInt() and 255])
            floats.put(levels[row[at + 1].toInt() and 255])
            floats.put(levels[row[at + 2].toInt() and 255])
        }
    }
}
