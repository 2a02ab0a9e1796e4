package afterlens.lens

import afterlens.core.Picture
import afterlens.core.PngDecoder
import java.io.ByteArrayInputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import javax.imageio.ImageIO
import kotlin.math.abs
import kotlin.math.log10

/** The desktop's decoder, in the place of Android's. */
internal val PNG = PngDecoder { bytes ->
    val image = ImageIO.read(ByteArrayInputStream(bytes))
    val values = FloatArray(image.width * image.height * 3) { index ->
        val (x, y) = index / 3 % image.width to index / 3 / image.width
        (image.getRGB(x, y) shr (16 - 8 * (index % 3)) and 255) / 255f
    }
    Picture(image.width, image.height, values)
}

internal fun floats(file: File): FloatArray {
    val bytes = file.readBytes()
    return FloatArray(bytes.size / 4).also {
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(it)
    }
}

internal fun ByteBuffer.floats(): FloatArray = FloatArray(remaining() / 4).also { asFloatBuffer().get(it) }

internal fun worst(got: FloatArray, expected: FloatArray): Float {
    require(got.size == expected.size) { "got ${got.size} values, expected ${expected.size}" }
    return got.indices.maxOf { index -> abs(got[index] - expected[index]).let { if (it.isNaN()) Float.MAX_VALUE else it } }
}

internal fun psnr(got: FloatArray, expected: FloatArray): Double {
    val square = got.indices.sumOf { (got[it] - expected[it]).toDouble().let { error -> error * error } } / got.size
    return if (square == 0.0) 100.0 else -10 * log10(square)
}
