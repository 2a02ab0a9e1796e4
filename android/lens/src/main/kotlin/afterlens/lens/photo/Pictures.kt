package afterlens.lens.photo

import afterlens.core.Picture
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** Turned by 90 degrees counterclockwise. */
internal fun Picture.turned(): Picture {
    val (across, down) = height to width
    val out = FloatArray(values.size)
    for (y in 0 until down) for (x in 0 until across) copyPixel(width - 1 - y, x, out, (y * across + x) * 3)
    return Picture(across, down, out)
}

/** Turned by 90 degrees clockwise. */
internal fun Picture.turnedBack(): Picture {
    val (across, down) = height to width
    val out = FloatArray(values.size)
    for (y in 0 until down) for (x in 0 until across) copyPixel(y, height - 1 - x, out, (y * across + x) * 3)
    return Picture(across, down, out)
}

/** In the middle of a larger picture, which is filled with its mirror image. */
internal fun Picture.padded(across: Int, down: Int): Picture {
    val (left, above) = (across - width) / 2 to (down - height) / 2
    val out = FloatArray(across * down * 3)
    for (y in 0 until down) for (x in 0 until across) {
        copyPixel(mirrored(x - left, width), mirrored(y - above, height), out, (y * across + x) * 3)
    }
    return Picture(across, down, out)
}

/** Mean over areas to shrink (no aliasing), linear to enlarge (no overshoot). */
internal fun Picture.resized(across: Int, down: Int): Picture {
    if (across == width && down == height) return this
    val shrinks = across.toLong() * down < width.toLong() * height
    return along(across, shrinks).turned().along(down, shrinks).turnedBack()
}

/** Scaled to [across] pixels in width only. */
private fun Picture.along(across: Int, shrinks: Boolean): Picture {
    val taps = if (shrinks) areas(width, across) else lines(width, across)
    val out = FloatArray(across * height * 3)
    for (y in 0 until height) for (x in 0 until across) {
        val tap = taps[x]
        for (channel in 0..2) {
            var sum = 0f
            for ((index, weight) in tap.weights.withIndex()) {
                sum += weight * values[(y * width + tap.first + index) * 3 + channel]
            }
            out[(y * across + x) * 3 + channel] = sum
        }
    }
    return Picture(across, height, out)
}

/** The pixels that one pixel of the result is a weighted sum of. */
private class Tap(val first: Int, val weights: FloatArray)

private fun areas(from: Int, to: Int): List<Tap> {
    val scale = from.toDouble() / to
    return List(to) { index ->
        val (start, end) = index * scale to (index + 1) * scale
        val (first, last) = floor(start + EDGE).toInt() to min(from - 1, floor(end - EDGE).toInt())
        val weights = FloatArray(last - first + 1) {
            val pixel = (first + it).toDouble()
            ((min(end, pixel + 1) - max(start, pixel)) / scale).toFloat()
        }
        Tap(first, weights)
    }
}

private fun lines(from: Int, to: Int): List<Tap> {
    val scale = from.toDouble() / to
    return List(to) { index ->
        val at = ((index + 0.5) * scale - 0.5).coerceIn(0.0, from - 1.0)
        val first = min(floor(at).toInt(), max(0, from - 2))
        val beyond = (at - first).toFloat()
        Tap(first, if (from == 1) floatArrayOf(1f) else floatArrayOf(1 - beyond, beyond))
    }
}

/** ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ... */
private fun mirrored(index: Int, size: Int): Int {
    val place = Math.floorMod(index, 2 * size)
    return if (place < size) place else 2 * size - 1 - place
}

private fun Picture.copyPixel(x: Int, y: Int, into: FloatArray, at: Int) {
    val from = (y * width + x) * 3
    values.copyInto(into, at, from, from + 3)
}

private const val EDGE = 1e-9
