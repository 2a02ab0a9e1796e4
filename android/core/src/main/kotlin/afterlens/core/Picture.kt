package afterlens.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** RGB, row by row from the top, three values a pixel. */
class Picture(val width: Int, val height: Int, val values: FloatArray) {
    init {
        require(values.size == width * height * 3) { "got ${values.size} values, expected ${width}x$height x 3" }
    }
}

/** Decodes a PNG of 8-bit RGB to values from 0 to 1. Android and the desktop have decoders of their own. */
fun interface PngDecoder {
    fun decode(bytes: ByteArray): Picture
}

/** A golden file as a picture. Throws a [Fault] where it is none, or has another size than model.json says. */
fun GoldenFile.decode(bytes: ByteArray, png: PngDecoder): Picture {
    if (shape.size != 3 || shape[2] != 3) throw Fault("$file: has the shape $shape, expected a picture's")
    val (height, width) = shape
    if (encoding == "float32") return floats(bytes, width, height)
    val picture = png.decode(bytes)
    if (picture.width != width || picture.height != height) {
        throw Fault("$file: has ${picture.width}x${picture.height} pixels, $CONTRACT_FILE says ${width}x$height")
    }
    return picture
}

private fun GoldenFile.floats(bytes: ByteArray, width: Int, height: Int): Picture {
    if (bytes.size.toLong() != width * height * 12L) {
        throw Fault("$file: has ${bytes.size} bytes, expected ${width * height * 12L} for ${width}x$height")
    }
    val values = FloatArray(width * height * 3)
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values)
    return Picture(width, height, values)
}
