package afterlens.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Locale

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
    return Picture(shape[1], shape[0], values(bytes, png))
}

/** The values of a golden file, picture or not. Throws a [Fault] where it has another size than model.json says. */
fun GoldenFile.values(bytes: ByteArray, png: PngDecoder): FloatArray {
    if (encoding == "float32") return floats(bytes)
    val picture = png.decode(bytes)
    if (listOf(picture.height, picture.width, 3) != shape) {
        throw Fault("$file: has the shape [${picture.height}, ${picture.width}, 3], $CONTRACT_FILE says $shape")
    }
    return picture.values
}

private fun GoldenFile.floats(bytes: ByteArray): FloatArray {
    val expected = shape.fold(4.0) { product, side -> product * side } // up to 16384 to the power of 8
    if (bytes.size.toDouble() != expected) {
        throw Fault("$file: has ${bytes.size} bytes, expected ${"%.0f".format(Locale.ROOT, expected)} for $shape")
    }
    return FloatArray(bytes.size / 4).also { ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(it) }
}
