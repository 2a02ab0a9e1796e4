package afterlens.app

import android.graphics.Bitmap

/** As much of the change from this photo to [restored] as [percent] says: this one at 0, [restored] at 100. */
fun Bitmap.blended(restored: Bitmap, percent: Int): Bitmap {
    val result = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
    val (raw, row) = IntArray(width) to IntArray(width) // row by row: phones have little memory
    for (y in 0 until height) {
        getPixels(raw, 0, width, 0, y, width, 1)
        restored.getPixels(row, 0, width, 0, y, width, 1)
        for (x in 0 until width) row[x] = blended(raw[x], row[x], percent)
        result.setPixels(row, 0, width, 0, y, width, 1)
    }
    return result
}

private fun blended(raw: Int, restored: Int, percent: Int): Int = (16 downTo 0 step 8).fold(255) { pixel, shift ->
    val (from, to) = (raw shr shift and 255) to (restored shr shift and 255)
    pixel shl 8 or (from * 100 + percent * (to - from) + 50) / 100
}
